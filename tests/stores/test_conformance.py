"""What every kind of store promises (sessiond.stores.interface), run on each of them."""

import asyncio
import itertools
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.errors import DamagedRecord, NewerRecord, StoreUnavailable, StoreUnusable
from sessiond.stores.interface import latest
from tests.stores.places import (
    cut_short,
    empty,
    flip_last_bit,
    key,
    of_a_newer_format,
    opened,
    record,
)

MIB = 2**20

LOW_AND_HIGH = [
    ({"epoch": 1, "owner": "node9", "incarnation": 9, "version": 9}, {"epoch": 2}),
    ({"owner": "node1", "incarnation": 9, "version": 9}, {"owner": "node2"}),
    ({"owner": "node", "incarnation": 9, "version": 9}, {"owner": "node1"}),
    ({"owner": "Node1", "incarnation": 9}, {"owner": "node1"}),
    ({"owner": "node-1", "incarnation": 9}, {"owner": "node1"}),
    ({"incarnation": 1, "version": 9}, {"incarnation": 2}),
    ({"version": 255}, {"version": 256}),
    ({"incarnation": 2**53}, {"incarnation": 2**53 + 1}),
    ({"version": 2**63 - 2}, {"version": 2**63 - 1}),
]
"""Stamps, by what decides between them: epoch, owner (as bytes, not as a language sorts), incarnation, version."""


async def everything(store):
    return {found.key: found async for found in store.scan()}


async def test_what_was_written_is_read(place):
    written = [
        record(1),
        record(2, data=b""),
        record(3, data=None),
        record(4, data=bytes(range(256))),
        record(5, epoch=2**63 - 1, owner="n" * 63, incarnation=2**63 - 1, version=0),
        record(6, expires_at=time.time() + 1e9 + 1 / 3),
    ]
    async with opened(place.store()) as store:
        assert await store.write(written) == set()
        assert [await store.read(each.key) for each in written] == written
        assert await store.read(key(99)) is None


async def test_a_record_of_a_mebibyte_is_kept(place):
    big = record(data=random.Random(1).randbytes(MIB))
    async with opened(place.store()) as store:
        await store.write([big, record(2)])
        assert await store.read(big.key) == big
        await store.write([record(version=2)])
        assert await store.read(big.key) == await store.read(key(1)) != big


@pytest.mark.parametrize(("low", "high"), LOW_AND_HIGH)
async def test_a_record_gives_way_to_a_higher_stamp_only(place, low, high):
    low, high = record(data=b"low", **low), record(data=b"high", **high)
    async with opened(place.store()) as store:
        assert await store.write([low]) == set()
        assert await store.write([high]) == set()
        assert await store.read(key(1)) == high
        assert await store.write([low]) == {key(1)}
        assert await store.read(key(1)) == high


async def test_a_record_gives_way_to_an_equal_stamp(place):
    later = record(data=b"touched", expires_at=time.time() + 7200)
    async with opened(place.store()) as store:
        await store.write([record()])
        assert await store.write([later]) == set()
        assert await store.read(key(1)) == later


async def test_a_tombstone_fences_and_is_fenced_like_any_record(place):
    async with opened(place.store()) as store:
        await store.write([record(version=2, data=None)])
        assert await store.write([record(version=1)]) == {key(1)}
        assert (await store.read(key(1))).data is None
        assert await store.write([record(version=3)]) == set()
        assert await store.write([record(version=2, data=None)]) == {key(1)}
        assert (await store.read(key(1))).data == b"cart"


async def test_in_a_batch_each_record_is_decided_by_itself(place):
    async with opened(place.store()) as store:
        await store.write([record(number, version=5) for number in range(0, 700, 2)])
        batch = [record(number, version=4, data=b"new") for number in range(700)]
        assert await store.write(batch) == {key(number) for number in range(0, 700, 2)}
        found = await everything(store)
    assert [found[key(number)].data for number in range(700)] == [b"cart", b"new"] * 350


async def test_of_several_records_of_one_key_the_highest_counts(place):
    batch = [record(version=2), record(version=3, data=b"x"), record(version=3, data=b"y"), record(version=1)]
    async with opened(place.store()) as store:
        assert await store.write(batch) == set()
        assert (await store.read(key(1))).data == b"y"
        assert await store.write([]) == set()


STAMPS = st.fixed_dictionaries(
    {
        "epoch": st.integers(0, 2),
        "owner": st.sampled_from(["a", "ab", "b", "B"]),
        "incarnation": st.integers(0, 1),
        "version": st.sampled_from([0, 1, 256]),
    }
)
BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 2), STAMPS), max_size=4), max_size=5)
numbers = itertools.count(1000, 10)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=BATCHES)
async def test_any_row_of_batches_leaves_the_highest_stamps(place, batches):
    first = next(numbers)
    model = {}
    async with opened(place.store()) as store:
        for turn, batch in enumerate(batches):
            records = [record(first + offset, data=b"%d" % turn, **stamp) for offset, stamp in batch]
            expected = set()
            for each in latest(records):
                if each.key in model and model[each.key].stamp > each.stamp:
                    expected.add(each.key)
                else:
                    model[each.key] = each
            assert await store.write(records) == expected
        for offset in range(3):
            assert await store.read(key(first + offset)) == model.get(key(first + offset))


async def test_writers_at_the_same_time_leave_the_highest_stamp(place):
    """Two stores, batches that overlap in different orders: nobody waits in a circle, and no older write wins."""
    chance = random.Random(7)
    async with opened(place.store()) as one, opened(place.store()) as other:

        async def write(store, version):
            batch = [record(number, version=version, data=b"%d" % version) for number in range(20)]
            chance.shuffle(batch)
            await store.write(batch)

        versions = list(range(1, 41))
        chance.shuffle(versions)
        await asyncio.gather(*(write(chance.choice([one, other]), version) for version in versions))
        found = await everything(one)
    assert [found[key(number)].data for number in range(20)] == [b"40"] * 20


async def test_two_stores_on_one_place_see_each_others_records(place):
    async with opened(place.store()) as one, opened(place.store()) as other:
        await one.write([record(1), record(2)])
        await other.write([record(3)])
        await other.delete([key(1)])
        assert await one.read(key(1)) is None
        assert set(await everything(one)) == set(await everything(other)) == {key(2), key(3)}
        await one.close()
        assert await other.read(key(2)) is not None


async def test_a_store_that_is_opened_again_has_everything(place):
    written = [record(number, data=None if number % 3 else b"x" * number) for number in range(150)]
    store = place.store()
    async with opened(store):
        await store.write(written)
    async with opened(place.store()) as again:
        assert await everything(again) == {each.key: each for each in written}
        assert await again.write([record(5, epoch=0)]) == {key(5)}


async def test_a_deleted_record_is_gone_and_fences_nothing(place):
    async with opened(place.store()) as store:
        await store.write([record(number, version=9) for number in range(4)])
        await store.delete([key(0), key(1), key(99)])
        await store.delete([])
        assert set(await everything(store)) == {key(2), key(3)}
        assert await store.write([record(0, version=1)]) == set()


# --- expiry -------------------------------------------------------------------------------------------------


async def test_an_expired_record_is_neither_read_nor_scanned_and_fences_nothing(place):
    async with opened(place.store()) as store:
        await store.write([record(1, version=9, expires_at=time.time() - 1), record(2)])
        assert await store.read(key(1)) is None
        assert set(await everything(store)) == {key(2)}
        assert await store.write([record(1, version=1)]) == set()
        assert (await store.read(key(1))).version == 1


async def test_expired_records_are_removed_in_batches(place):
    now = time.time()
    async with opened(place.store()) as store:
        await store.write([record(number, expires_at=now + 100 + number) for number in range(25)])
        await store.write([record(3, version=2, expires_at=now + 5000)])
        counts = [await store.remove_expired(now + 119.5, 8) for _ in range(4)]
        if place.removes_expired_itself:
            assert counts == [0, 0, 0, 0]
            return
        assert counts == [8, 8, 3, 0]
        assert set(await everything(store)) == {key(3), *(key(number) for number in range(20, 25))}


async def test_a_place_can_be_emptied_by_removing_what_has_expired(place):
    async with opened(place.store()) as store:
        await store.write([record(number, expires_at=time.time() - 1) for number in range(7)])
        assert await store.remove_expired(time.time(), 100) == (0 if place.removes_expired_itself else 7)
        assert await store.remove_expired(time.time(), 100) == 0
        assert await everything(store) == {}


async def test_stores_that_remove_expired_records_at_the_same_time_remove_each_once(place):
    now = time.time()
    async with opened(place.store()) as one, opened(place.store()) as other:
        await one.write([record(number, expires_at=now + 100) for number in range(200)])
        await one.write([record(999, expires_at=now + 5000)])
        counts = await asyncio.gather(*(store.remove_expired(now + 200, 60) for store in [one, other] * 4))
        assert sum(counts) == (0 if place.removes_expired_itself else 200)
        assert (await one.read(key(999))) is not None


# --- scan ---------------------------------------------------------------------------------------------------


async def test_a_scan_under_writes_brings_all_that_was_there_throughout(place):
    async with opened(place.store()) as store:
        await store.write([record(number * 1000) for number in range(300)])
        seen = set()
        async for found in store.scan():
            if len(seen) % 50 == 0:
                turn = len(seen) // 50
                await store.write([record(turn * 1000 + 500 + more) for more in range(20)])
                await store.write([record(turn * 1000, version=2 + turn)])
                await store.delete([key(turn * 1000 + 500)])
            seen.add(found.key)
    assert seen >= {key(number * 1000) for number in range(300)}


async def test_a_scan_may_be_given_up(place):
    async with opened(place.store()) as store:
        await store.write([record(number) for number in range(300)])
        scan = store.scan()
        await anext(scan)
        await scan.aclose()
        assert await store.write([record(1, version=2)]) == set()


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [flip_last_bit, cut_short, empty, of_a_newer_format])
async def test_a_record_that_cannot_be_read_is_named_counted_and_may_be_replaced(place, how):
    async with opened(place.store()) as store:
        await store.write([record(1, version=5), record(2), record(3)])
    place.spoil(key(1), how)
    async with opened(place.store()) as store:
        with pytest.raises(DamagedRecord, match=key(1).hex()) as caught:
            await store.read(key(1))
        assert caught.value.key == key(1)
        assert isinstance(caught.value, NewerRecord) == (how is of_a_newer_format)
        assert store.damaged == 1
        assert set(await everything(store)) == {key(2), key(3)}
        assert store.damaged == 2
        assert await store.write([record(1, version=4)]) == {key(1)}, "its stamp can be read still"
        assert await store.write([record(1, version=6)]) == set()
        assert (await store.read(key(1))).version == 6


async def test_damaged_records_expire_and_can_be_deleted(place):
    now = time.time()
    async with opened(place.store()) as store:
        await store.write([record(1, expires_at=now + 100), record(2)])
    for number in (1, 2):
        place.spoil(key(number), flip_last_bit)
    async with opened(place.store()) as store:
        assert await store.remove_expired(now + 200, 10) == (0 if place.removes_expired_itself else 1)
        await store.delete([key(2)])
        assert await store.read(key(2)) is None


# --- opening and closing ------------------------------------------------------------------------------------


async def test_a_store_that_is_not_open_says_so(place):
    store = place.store()
    await store.close()
    for _ in range(2):
        calls = [
            store.write([record()]),
            store.read(key(1)),
            store.delete([key(1)]),
            store.remove_expired(0, 1),
            anext(store.scan()),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match="not open"):
                await call
        async with opened(store):
            await store.open()
            await store.write([record()])
        await store.close()


async def test_what_was_acknowledged_before_a_busy_store_was_closed_is_there(place):
    store = place.store()
    await store.open()
    writes = [asyncio.create_task(store.write([record(number, data=b"x" * 5000)])) for number in range(100)]
    await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
    await store.close()
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert all(answer == set() or isinstance(answer, StoreUnavailable) for answer in answers)
    written = {key(number) for number, answer in enumerate(answers) if answer == set()}
    async with opened(place.store()) as again:
        assert written
        assert set(await everything(again)) >= written


async def test_a_store_works_on_after_calls_were_cancelled(place):
    chance = random.Random(3)
    async with opened(place.store()) as store:
        for turn in range(15):
            task = asyncio.create_task(store.write([record(number, version=turn) for number in range(50)]))
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert await store.write([record(number, version=100) for number in range(50)]) == set()
        assert {found.version for found in (await everything(store)).values()} == {100}


async def test_clusters_do_not_see_each_others_records(place):
    async with opened(place.store()) as store:
        await store.write([record()])
    other = place.store(cluster_name="other")
    if place.keeps_clusters_apart:
        async with opened(other):
            assert await other.read(key(1)) is None
            assert await everything(other) == {}
    else:
        with pytest.raises(StoreUnusable, match="belongs to the cluster 'default', not to 'other'"):
            await other.open()
        await other.close()
