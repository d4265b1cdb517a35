"""What an application sees of its sessions, on a node in memory."""

import asyncio
import gc
from contextlib import suppress
from enum import StrEnum

import pytest
from structlog.testing import capture_logs

from sessiond.backend import WHOLE
from sessiond.errors import (
    ChangesUndone,
    Conflict,
    SessionGone,
    SessionTooLarge,
    Unavailable,
    ValueNotReadable,
    ValueNotStorable,
)
from sessiond.live import DETACHED_KEPT_MAX, Live
from sessiond.session import TOUCHED_ABSENT_MAX, Session, Sessions
from sessiond.settings import Settings
from sessiond.values import decode, encode
from sessiond.whole import unpack
from tests.support.fake_backend import FakeNode

by_attribute = pytest.mark.parametrize("node", ["attribute"], indirect=True)
"""Of tests that are about what a commit carries, or that are true of this granularity only."""

not_always = pytest.mark.parametrize("node", ["attribute", "dirty"], indirect=True)
"""Of tests in which a request that only reads writes nothing."""


@pytest.fixture(params=["attribute", "dirty", "session"])
def node(request) -> FakeNode:
    return FakeNode(Settings(attribute_bytes_max=1000, granularity=request.param))


@pytest.fixture
def sessions(node) -> Sessions:
    return Sessions(node, node.keyring, node.settings.granularity, node.settings.attribute_bytes_max)


@pytest.fixture
def visitor(node, sessions):
    """Opens one stored session, once a call: `visitor()` is a request of it."""
    token, key = node.new_session(visits=encode("visits", 1), cart=encode("cart", ["mug"]))

    def request() -> Session:
        checkout = node.try_open(key)
        assert checkout is not None
        return sessions.attach(key, token, node.name, checkout)

    request.key = key
    return request


def stored(node: FakeNode, key: bytes) -> dict[str, object]:
    attributes = dict(node.stored[key].attributes)
    whole = unpack(attributes.pop(WHOLE)) if WHOLE in attributes else {}
    return whole | {name: decode(data) for name, data in attributes.items()}


# --- a mapping --------------------------------------------------------------------------------------------


def test_a_session_is_a_mapping(visitor):
    session = visitor()
    assert dict(session) == {"visits": 1, "cart": ["mug"]}
    assert (len(session), "cart" in session, "none" in session, 5 in session) == (2, True, False, False)
    del session["visits"]
    session["name"] = "Ada"
    assert sorted(session) == ["cart", "name"]
    assert session.get("visits", 0) == 0
    assert session.pop("name") == "Ada"
    assert session.setdefault("list", []) is session["list"]
    for operation in (session.__getitem__, session.__delitem__, session.pop):
        with pytest.raises(KeyError):
            operation("visits")
    session.clear()
    assert len(session) == 0


def test_what_is_read_or_changed_during_an_iteration_does_not_change_what_it_names(node, sessions):
    token, key = node.new_session(**{name: encode(name, 1) for name in "abc"})
    session = sessions.attach(key, token, "node1", node.try_open(key))
    assert session["a"] == 1
    assert sorted(name for name in session if session["b"]) == ["a", "b", "c"]
    for name in session:
        del session[name]
        session[f"new {name}"] = 1
    assert sorted(session) == ["new a", "new b", "new c"]


@by_attribute
def test_an_attribute_is_decoded_only_when_it_is_read(node, sessions):
    token, key = node.new_session(good=encode("good", 1), bad=b"\xc1")
    session = sessions.attach(key, token, "node1", node.try_open(key))
    assert session["good"] == 1
    assert set(session) == {"good", "bad"}
    assert "bad" in session
    with pytest.raises(ValueNotReadable, match="session attribute 'bad'"):
        session["bad"]


class Attribute(StrEnum):
    CART = "cart"


async def test_names_are_texts_of_limited_length(node, visitor):
    session = visitor()
    session[Attribute.CART] = 1
    assert all(type(name) is str for name in session)
    session["ü" * 127] = 2
    for bad, error in (("", ValueError), ("ü" * 128, ValueError), ("\ud800", ValueError), (7, TypeError)):
        with pytest.raises(error):
            session[bad] = 1
    await session.settle()
    assert stored(node, visitor.key)["ü" * 127] == 2


def test_two_sessions_are_never_equal_and_can_be_members_of_a_set(sessions):
    first, second = sessions.new(), sessions.new()
    assert first != second
    assert len({first, second, first}) == 2


# --- creation -----------------------------------------------------------------------------------------------


async def test_a_visitor_who_stores_nothing_costs_nothing(node, sessions):
    session = sessions.new()
    assert session.get("cart") is None
    session["tmp"] = 1
    del session["tmp"]
    await session.settle()
    assert (session.new, session.key, session.version, session.token) == (True, None, 0, None)
    assert node.stored == {}
    session.close()
    assert len(sessions) == 0


async def test_the_first_commit_creates_the_session(node, sessions):
    session = sessions.new()
    session["cart"] = ["mug"]
    await session.settle()
    assert session.new
    assert session.version == 1
    key = node.keyring.key_of(session.token)
    assert session.key == key.hex()
    assert stored(node, key) == {"cart": ["mug"]}
    session["cart"].append("lamp")
    await session.settle()
    assert stored(node, key) == {"cart": ["mug", "lamp"]}
    assert session.version == 2


async def test_a_request_that_comes_while_the_session_is_new_shares_its_state(node, sessions):
    first = sessions.new()
    first["n"] = 1
    await first.save()
    key = bytes.fromhex(first.key)
    second = sessions.attach(key, first.token, "node1", node.try_open(key))
    second["n"] += 1
    assert first["n"] == 2
    first.close()
    await second.settle()
    assert stored(node, key) == {"n": 2}
    second.close()
    assert (len(sessions), node.holds) == (0, 0)


async def test_every_new_session_has_a_token_of_its_own(sessions):
    tokens = set()
    for _ in range(20):
        session = sessions.new()
        session["n"] = 1
        await session.save()
        tokens.add(session.token)
    assert len(tokens) == 20


# --- what a commit carries ----------------------------------------------------------------------------------


@by_attribute
async def test_a_commit_carries_only_what_changed(node, visitor):
    session = visitor()
    assert session["visits"] == 1
    session["visits"] = 2
    session["visits"] = 1
    session["name"] = "Ada"
    del session["cart"]
    await session.settle()
    assert node.committed == [{"name": encode("", "Ada"), "cart": None}]
    assert session.version == 2


@by_attribute
async def test_a_change_inside_a_value_is_noticed(node, visitor):
    session = visitor()
    session["cart"].append({"tags": {1}})
    await session.save()
    session["cart"][1]["tags"].add(2)
    await session.settle()
    assert stored(node, visitor.key)["cart"] == ["mug", {"tags": {1, 2}}]
    assert [set(changes) for changes in node.committed] == [{"cart"}, {"cart"}]


@not_always
async def test_a_request_that_only_reads_waits_for_what_it_read(node, visitor):
    session = visitor()
    assert session["visits"] == 1
    with node.held():
        settling = asyncio.create_task(session.settle())
        await node.until_waiting()
        assert not settling.done()
    await settling
    assert node.committed == [{}]
    assert session.version == 1


async def test_a_value_that_cannot_be_stored_stops_the_whole_commit(node, visitor):
    session = visitor()
    session["visits"] = 2
    session["bad"] = [object()]
    with pytest.raises(ValueNotStorable, match=r"bad\[0\]"):
        await session.settle()
    assert node.committed == []
    session["bad"] = "good"
    await session.settle()
    assert stored(node, visitor.key) == {"visits": 2, "cart": ["mug"], "bad": "good"}


async def test_an_attribute_over_the_limit_is_refused_by_name(node, visitor):
    session = visitor()
    session["huge"] = "x" * 1001
    with pytest.raises(
        SessionTooLarge, match=r"'huge' encodes to 1004 bytes, more than attribute_bytes_max \(1000\)"
    ):
        await session.settle()
    assert node.committed == []


@by_attribute
async def test_what_got_no_answer_is_not_considered_saved(node, visitor):
    session = visitor()
    session["visits"] = 2
    node.commit_error = Unavailable("no backup answered")
    with pytest.raises(Unavailable):
        await session.save()
    node.commit_error = None
    await session.save()
    assert node.committed == [{"visits": encode("", 2)}]


# --- requests side by side ----------------------------------------------------------------------------------


async def test_concurrent_requests_share_one_state(node, visitor):
    first, second = visitor(), visitor()
    first["visits"] += 1
    second["visits"] += 1
    assert first["cart"] is second["cart"]
    second["cart"].append("lamp")
    await asyncio.gather(first.settle(), second.settle())
    first.close()
    second.close()
    assert stored(node, visitor.key) == {"visits": 3, "cart": ["mug", "lamp"]}
    assert node.holds == 0


@by_attribute
async def test_a_change_made_while_a_commit_runs_goes_with_the_next_one(node, visitor):
    first, second = visitor(), visitor()
    first["visits"] = 2
    first["cart"].append("lamp")
    with node.held():
        committing = asyncio.create_task(first.settle())
        await node.until_waiting()
        second["visits"] = 3
        second["cart"].append("plant")
        waiting = asyncio.create_task(second.settle())
        await asyncio.sleep(0)
        assert node.waiting == 1, "one commit of a session at a time"
    await asyncio.gather(committing, waiting)
    assert [decode(changes["visits"]) for changes in node.committed] == [2, 3]
    assert [decode(changes["cart"]) for changes in node.committed] == [
        ["mug", "lamp"],
        ["mug", "lamp", "plant"],
    ]


@by_attribute
async def test_a_change_is_committed_once_even_if_two_requests_saw_it(node, visitor):
    first, second = visitor(), visitor()
    first["visits"] = 2
    with node.held():
        one = asyncio.create_task(first.settle())
        await node.until_waiting()
        two = asyncio.create_task(second.settle())
        await asyncio.sleep(0)
    await asyncio.gather(one, two)
    assert node.committed == [{"visits": encode("", 2)}, {}]


async def test_a_failed_request_takes_back_what_it_changed_and_nothing_else(node, visitor):
    failing, other = visitor(), visitor()
    failing["visits"] = 99
    failing["new"] = True
    failing["cart"].append("lamp")
    other["name"] = "Ada"
    failing.undo()
    failing.close()
    assert dict(other) == {"visits": 1, "cart": ["mug"], "name": "Ada"}
    await other.settle()
    assert stored(node, visitor.key) == {"visits": 1, "cart": ["mug"], "name": "Ada"}


async def test_a_request_that_saw_what_was_taken_back_is_not_answered_as_if_it_were_kept(node, visitor):
    failing, other, third = visitor(), visitor(), visitor()
    failing["cart"].append("lamp")
    assert other["cart"] == ["mug", "lamp"]
    other["cart"].append("plant")
    failing.undo()
    failing.close()
    with pytest.raises(ChangesUndone, match="changes to cart"):
        await other.settle()
    other["cart"].append("plant")
    await other.settle()
    await third.settle()
    assert stored(node, visitor.key)["cart"] == ["mug", "plant"]


async def test_what_a_failed_request_only_read_stays_with_the_others(node, visitor):
    failing, other = visitor(), visitor()
    cart = other["cart"]
    assert failing["cart"] is cart
    failing.undo()
    failing.close()
    cart.append("lamp")
    await other.settle()
    assert stored(node, visitor.key)["cart"] == ["mug", "lamp"]


async def test_what_was_saved_before_the_failure_stays(node, visitor):
    session = visitor()
    session["visits"] = 2
    await session.save()
    session["visits"] = 3
    session.undo()
    assert session["visits"] == 2


async def test_an_undo_during_a_commit_of_the_same_change_leaves_what_was_committed(node, visitor):
    first, failing = visitor(), visitor()
    failing["visits"] = 7
    first["name"] = "Ada"
    with node.held():
        committing = asyncio.create_task(first.settle())
        await node.until_waiting()
        failing.undo()
        failing.close()
    await committing
    assert first["visits"] == stored(node, visitor.key)["visits"] == 7
    await first.settle()
    assert stored(node, visitor.key)["visits"] == 7


async def test_the_state_is_dropped_with_the_last_request(node, sessions, visitor):
    first, second = visitor(), visitor()
    cart = first["cart"]
    first.close()
    assert second["cart"] is cart
    second.close()
    assert visitor()["cart"] is not cart


def test_a_session_is_of_no_use_after_its_request(visitor):
    session = visitor()
    session.close()
    session.close()
    for use in (
        lambda: session["visits"],
        lambda: session.get("visits"),
        lambda: session.key,
        lambda: list(session),
    ):
        with pytest.raises(RuntimeError, match="is over"):
            use()
    with pytest.raises(RuntimeError, match="is over"):
        session["visits"] = 1
    assert "over" in repr(session)


def test_what_is_open_holds_the_session_at_the_node_once(node, visitor):
    first = visitor()
    second = visitor()
    assert node.holds == 1
    first.close()
    assert node.holds == 1
    second.close()
    assert node.holds == 0


# --- somebody else writes -----------------------------------------------------------------------------------


async def test_a_save_against_an_old_version_is_a_conflict_and_takes_the_changes_back(node, visitor):
    session = visitor()
    seen = session.version
    session["cart"].append("lamp")
    node.write(visitor.key, cart=encode("cart", ["plant"]))
    with pytest.raises(Conflict) as conflict:
        await session.save(if_version=seen)
    assert (conflict.value.expected, conflict.value.found) == (1, 2)
    assert session["cart"] == ["plant"]
    assert session.version == 2
    session["cart"].append("lamp")
    await session.save(if_version=session.version)
    assert stored(node, visitor.key)["cart"] == ["plant", "lamp"]


async def test_a_save_against_the_current_version_goes_through(node, visitor):
    session = visitor()
    session["visits"] = 2
    await session.save(if_version=1)
    assert session.version == 2


async def test_a_write_of_an_earlier_request_is_a_conflict_too(visitor):
    first, second = visitor(), visitor()
    seen = second.version
    first["visits"] = 2
    await first.settle()
    second["name"] = "Ada"
    with pytest.raises(Conflict):
        await second.save(if_version=seen)


async def test_requests_that_share_their_state_do_not_conflict_by_waiting_for_each_other(node, visitor):
    requests = [visitor() for _ in range(5)]

    async def count(session: Session) -> None:
        session["visits"] += 1
        await session.save(if_version=session.version)
        session.close()

    with node.held():
        counting = asyncio.gather(*(count(session) for session in requests))
        await node.until_waiting()
    await counting
    assert stored(node, visitor.key)["visits"] == 6


async def test_a_new_session_can_be_saved_against_version_zero_only(node, sessions):
    session = sessions.new()
    session["n"] = 1
    with pytest.raises(Conflict):
        await session.save(if_version=3)
    session["n"] = 1
    await session.save(if_version=0)
    assert session.version == 1


async def test_a_request_sees_what_others_wrote_before_it_came(node, visitor):
    first = visitor()
    assert first["cart"] == ["mug"]
    first["visits"] = 5
    node.write(visitor.key, cart=encode("cart", ["plant"]), visits=encode("visits", 3))
    second = visitor()
    assert second["cart"] == ["plant"]
    assert second["visits"] == 5, "the change of this node is newer"
    await second.settle()
    assert stored(node, visitor.key) == {"cart": ["plant"], "visits": 5}


async def test_a_foreign_write_during_a_commit_is_not_overwritten_later(node, visitor):
    session = visitor()
    assert session["cart"] == ["mug"]
    session["visits"] = 2
    with node.held():
        committing = asyncio.create_task(session.settle())
        await node.until_waiting()
        node.write(visitor.key, cart=encode("cart", ["plant"]))
    await committing
    session["name"] = "Ada"
    await session.settle()
    other = visitor()
    assert dict(other) == {"visits": 2, "cart": ["plant"], "name": "Ada"}


async def test_a_request_that_comes_while_a_commit_waits_sees_what_others_wrote_meanwhile(node, visitor):
    # The session was away and came back, and a request of before has not got its answer yet.
    first = visitor()
    assert first["cart"] == ["mug"]
    first["visits"] = 2
    with node.held():
        committing = asyncio.create_task(first.settle())
        await node.until_waiting()
        node.write(visitor.key, cart=encode("cart", ["plant"]))
        second = visitor()
        assert second["cart"] == ["plant"]
        second["cart"].append("lamp")
    await committing
    await second.settle()
    assert stored(node, visitor.key) == {"cart": ["plant", "lamp"], "visits": 2}


@by_attribute
async def test_a_change_inside_a_value_that_somebody_else_overwrote_meanwhile_is_refused_and_not_lost(
    node, visitor
):
    session, beside = visitor(), visitor()
    cart = session["cart"]
    node.write(visitor.key, cart=encode("cart", ["plant"]))
    session["visits"] = 2
    await session.save()
    cart.append("lamp")
    with pytest.raises(ChangesUndone, match="written cart since"):
        await session.settle()
    await beside.settle()
    session["cart"].append("lamp")
    await session.settle()
    assert stored(node, visitor.key) == {"visits": 2, "cart": ["plant", "lamp"]}


async def test_who_changed_an_overwritten_value_hears_of_it_and_who_brought_the_news_does_not(node, visitor):
    session = visitor()
    cart = session["cart"]
    node.write(visitor.key, cart=encode("cart", ["plant"]))
    newcomer = visitor()
    cart.append("lamp")
    assert newcomer["cart"] == ["plant"]
    await newcomer.settle()
    with pytest.raises(ChangesUndone):
        await session.settle()


async def test_an_overwritten_value_that_is_only_read_on_or_put_back_is_no_conflict(node, visitor):
    session = visitor()
    cart = session["cart"]
    node.write(visitor.key, cart=encode("cart", ["plant"]))
    await session.save()
    assert cart == ["mug"]
    await session.save()
    cart.append("lamp")
    session["cart"] = cart
    await session.settle()
    assert stored(node, visitor.key)["cart"] == ["mug", "lamp"]


async def test_a_change_inside_an_overwritten_value_is_refused_after_a_rotation_and_a_conflict_too(
    node, visitor
):
    session = visitor()
    cart, seen = session["cart"], session.version
    session["visits"] = 2
    node.write(visitor.key, cart=encode("cart", ["plant"]))
    with pytest.raises(Conflict):
        await session.save(if_version=seen)
    await session.rotate()
    cart.append("lamp")
    with pytest.raises(ChangesUndone):
        await session.settle()


async def test_a_value_that_is_overwritten_after_the_rotation_is_known_to_have_been_read_before_it(
    node, sessions, visitor
):
    session = visitor()
    cart = session["cart"]
    await session.rotate()
    key = bytes.fromhex(session.key)
    node.write(key, cart=encode("cart", ["plant"]))
    sessions.attach(key, session.token, "node1", node.try_open(key)).close()  # a request brings the news
    cart.append("lamp")
    with pytest.raises(ChangesUndone):
        await session.settle()


async def test_a_stream_names_what_it_changed_in_an_overwritten_value_and_keeps_few_of_them(node, visitor):
    session = visitor()
    session.release()
    for number in range(2 * DETACHED_KEPT_MAX):
        cart = session["cart"]
        node.write(visitor.key, cart=encode("cart", [str(number)]))
        await session.save()
    assert len(session.detached) == DETACHED_KEPT_MAX
    cart.append("lamp")
    assert list(session.close()) == ["cart"]


# --- the end ------------------------------------------------------------------------------------------------


async def test_an_invalidated_session_is_gone_and_the_request_goes_on_with_a_new_one(node, visitor):
    session = visitor()
    old = session.token
    await session.invalidate()
    assert visitor.key not in node.stored
    assert (session.new, session.ended, session.key, session.token, dict(session)) == (
        True,
        True,
        None,
        None,
        {},
    )
    session["again"] = 1
    await session.settle()
    assert session.token not in (None, old)
    assert stored(node, bytes.fromhex(session.key)) == {"again": 1}
    session.close()
    assert node.holds == 0


async def test_a_session_that_ended_elsewhere_cannot_be_written_but_what_was_read_stands(node, visitor):
    session = visitor()
    assert session["visits"] == 1
    del node.stored[visitor.key]
    await session.settle()
    session["visits"] = 2
    with pytest.raises(SessionGone):
        await session.settle()


async def test_invalidating_a_session_that_was_never_stored_empties_it(node, sessions):
    session = sessions.new()
    session["n"] = 1
    await session.invalidate()
    assert dict(session) == {}
    assert not session.ended
    await session.settle()
    assert node.stored == {}


async def test_rotation_keeps_everything_under_a_new_token(node, visitor):
    session = visitor()
    old = session.token
    session["user"] = "Ada"
    cart = session["cart"]
    await session.rotate()
    assert session.token != old
    assert session.route == "", "the visitor needs a new cookie"
    assert visitor.key not in node.stored
    key = bytes.fromhex(session.key)
    assert stored(node, key) == {"visits": 1, "cart": ["mug"], "user": "Ada"}
    assert not session.new
    cart.append("lamp")
    del session["visits"]
    await session.settle()
    assert stored(node, key) == {"cart": ["mug", "lamp"], "user": "Ada"}
    session.close()
    assert node.holds == 0


async def test_within_the_grace_a_request_under_way_goes_on_with_the_rotated_session(node, visitor):
    session, other = visitor(), visitor()
    session["user"] = "Ada"
    await session.rotate()
    assert other["user"] == "Ada"
    assert other.token != session.token
    other["visits"] = 99
    await other.settle()
    await session.settle()
    assert stored(node, bytes.fromhex(session.key)) == {"visits": 99, "cart": ["mug"], "user": "Ada"}
    other["visits"] = 100
    await other.settle()
    assert stored(node, bytes.fromhex(session.key))["visits"] == 100
    assert session["visits"] == 1, "as this request has read it"


async def test_after_the_grace_a_request_with_the_old_token_neither_sees_nor_changes_the_session(
    node, visitor
):
    session, other = visitor(), visitor()
    session["user"] = "Ada"
    await session.rotate()
    node.aliases.clear()
    assert "secret" not in other
    assert other.token != session.token
    other["visits"] = 99
    with pytest.raises(SessionGone):
        await other.settle()
    await session.settle()
    assert stored(node, bytes.fromhex(session.key))["visits"] == 1


async def test_a_log_out_by_the_old_token_ends_the_rotated_session(node, visitor):
    session, other = visitor(), visitor()
    await session.rotate()
    await other.invalidate()
    assert node.stored == {}
    assert other.ended


async def test_a_request_that_came_before_the_rotation_keeps_its_promise_about_versions(node, visitor):
    session, other = visitor(), visitor()
    seen = other.version
    session["user"] = "Ada"
    await session.rotate()
    assert session.version == seen + 1
    other["visits"] = 99
    with pytest.raises(Conflict):
        await other.save(if_version=seen)
    other["visits"] = 100
    await other.save(if_version=other.version)
    assert stored(node, bytes.fromhex(session.key)) == {"visits": 100, "cart": ["mug"], "user": "Ada"}


async def test_only_the_request_that_rotates_may_set_the_visitors_cookie(node, visitor):
    session, other = visitor(), visitor()
    assert not other.is_superseded
    await session.rotate()
    assert other.is_superseded
    assert not session.is_superseded


async def test_who_has_only_the_old_token_cannot_rotate_the_session_and_so_gets_no_new_one(node, visitor):
    session, other = visitor(), visitor()
    session["user"] = "Ada"
    await session.rotate()
    late = visitor()
    for superseded in (other, late):
        old = superseded.token
        superseded["seen"] = 1
        with pytest.raises(SessionGone, match="log in again"):
            await superseded.rotate()
        assert superseded.token == old
        assert superseded.is_superseded
    assert list(node.stored) == [bytes.fromhex(session.key)]
    await session.rotate()
    assert not session.is_superseded, "who has the new token may go on"


async def test_of_two_rotations_at_a_time_on_two_nodes_the_later_one_fails(node, visitor):
    elsewhere = Sessions(node, node.keyring, node.settings.granularity, node.settings.attribute_bytes_max)
    late = visitor()
    first = elsewhere.attach(visitor.key, late.token, "node1", node.try_open(visitor.key))
    rotate = node.rotate

    async def rotate_after_the_other(key, successor, if_version):
        node.rotate = rotate
        await first.rotate()
        await rotate(key, successor, if_version)

    node.rotate = rotate_after_the_other
    with pytest.raises(SessionGone, match="log in again"):
        await late.rotate()
    assert list(node.stored) == [bytes.fromhex(first.key)]


async def test_what_somebody_else_writes_during_a_rotation_is_taken_along(node, visitor):
    session = visitor()
    session["user"] = "Ada"
    rotate = node.rotate
    writes = [b"late"]

    async def rotate_late(key, successor, if_version):
        if writes:
            node.write(key, late=encode("late", writes.pop().decode()))
        await rotate(key, successor, if_version)

    node.rotate = rotate_late
    await session.rotate()
    (left,) = node.stored
    assert stored(node, left)["late"] == "late"
    assert stored(node, left)["user"] == "Ada"


async def test_a_session_that_ends_during_its_rotation_is_not_revived(node, visitor):
    session = visitor()
    session["user"] = "Ada"
    node.stored.pop(visitor.key)
    with pytest.raises(SessionGone):
        await session.rotate()
    assert node.stored == {}


async def test_a_rotation_that_cannot_end_the_old_session_leaves_the_visitor_with_it(node, visitor):
    session = visitor()
    old = session.token
    session["user"] = "Ada"
    node.invalidate_error = Unavailable("no backup answered")
    with pytest.raises(Unavailable):
        await session.rotate()
    assert session.token == old
    await session.settle()
    assert stored(node, visitor.key)["user"] == "Ada"


async def test_a_rotation_that_was_carried_out_without_an_answer_gives_the_visitor_his_new_token(
    node, visitor
):
    session = visitor()
    session["user"] = "Ada"
    rotate = node.rotate

    async def rotate_unanswered(key, successor, if_version):
        await rotate(key, successor, if_version)
        raise Unavailable("no answer")

    node.rotate = rotate_unanswered
    await session.rotate()
    assert list(node.stored) == [node.keyring.key_of(session.token)]
    assert not session.is_superseded
    session["user"] = "Eve"
    await session.settle()
    assert stored(node, bytes.fromhex(session.key))["user"] == "Eve"
    session.close()
    assert node.holds == 0


@pytest.mark.parametrize("meanwhile", ["rotated", "invalidated"])
async def test_a_rotation_without_an_answer_does_not_go_on_with_a_copy_of_what_somebody_else_ended(
    node, visitor, meanwhile
):
    elsewhere = Sessions(node, node.keyring, node.settings.granularity, node.settings.attribute_bytes_max)
    session = visitor()
    old = session.token
    other = elsewhere.attach(visitor.key, old, "node1", node.try_open(visitor.key))

    rotate = node.rotate

    async def lose_the_order(key, _successor, _if_version):
        node.rotate = rotate
        await (other.rotate() if meanwhile == "rotated" else other.invalidate())
        node.over.add(key)
        raise Unavailable("no answer")

    node.rotate = lose_the_order
    with pytest.raises(Unavailable):
        await session.rotate()
    assert session.token == old
    assert session.is_superseded


async def test_rotating_a_session_that_does_not_exist_does_nothing(sessions):
    session = sessions.new()
    await session.rotate()
    assert session.token is None


# --- after the response has begun ---------------------------------------------------------------------------


async def test_a_stream_lets_the_node_have_the_session_and_saves_by_itself(node, visitor):
    session = visitor()
    cart = session["cart"]
    await session.settle()
    session.release()
    assert node.holds == 0
    node.write(visitor.key, visits=encode("visits", 8))
    assert session["visits"] == 1, "as it was when the response began"
    cart.append("lamp")
    await session.save()
    assert stored(node, visitor.key) == {"visits": 8, "cart": ["mug", "lamp"]}
    assert session["visits"] == 8
    assert node.holds == 0
    assert list(session.close()) == []


@not_always
async def test_changes_that_a_stream_never_saved_are_named_and_dropped(node, visitor):
    session, other = visitor(), visitor()
    await session.settle()
    session.release()
    session["visits"] = 2
    session["cart"].append("lamp")
    assert list(session.close()) == ["cart", "visits"]
    assert dict(other) == {"visits": 1, "cart": ["mug"]}
    await other.settle()
    assert node.committed == [{}, {}]


async def test_a_stream_cannot_create_or_rotate_since_its_cookie_would_come_too_late(sessions, visitor):
    session = sessions.new()
    session.release()
    session["n"] = 1
    with pytest.raises(RuntimeError, match="cannot be created"):
        await session.save()
    session = visitor()
    session.release()
    with pytest.raises(RuntimeError, match="cannot reach the visitor"):
        await session.rotate()


async def test_a_stream_hears_that_its_session_has_ended(node, visitor):
    session = visitor()
    session.release()
    session["visits"] = 2
    del node.stored[visitor.key]
    with pytest.raises(SessionGone):
        await session.save()
    assert node.holds == 0


async def test_a_stream_can_end_the_session(node, visitor):
    session = visitor()
    session.release()
    await session.invalidate()
    assert node.stored == {}
    session.close()


async def test_a_stream_and_a_request_share_one_state(node, visitor):
    stream = visitor()
    stream.release()
    request = visitor()
    request["visits"] = 5
    assert stream["visits"] == 5
    await request.settle()
    request.close()
    assert node.holds == 0
    assert stream["visits"] == 5
    stream["visits"] += 1
    await stream.save()
    assert stored(node, visitor.key)["visits"] == 6


async def test_a_stream_that_asks_for_a_name_that_is_no_text_leaves_nothing_behind(node, sessions, visitor):
    session = visitor()
    assert session.get(None) is None
    assert session.get(7, "none") == "none"
    session.release()
    session["visits"] = 2
    assert list(session.close()) == ["visits"]
    assert (len(sessions), node.holds) == (0, 0)


async def test_a_request_whose_end_fails_lets_go_of_the_session_all_the_same(
    node, sessions, visitor, monkeypatch
):
    session = visitor()
    session.release()
    session["visits"] = 2
    monkeypatch.setattr(Live, "undo", lambda _live, _view: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        session.close()
    assert (len(sessions), node.holds) == (0, 0)


async def test_a_long_stream_does_not_remember_every_name_that_it_has_asked_for(visitor):
    session = visitor()
    session.release()
    for number in range(2 * TOUCHED_ABSENT_MAX):
        session.get(f"name{number}")
        assert f"other{number}" not in session
    assert session["visits"] == 1
    assert len(session.touched) <= TOUCHED_ABSENT_MAX + 1
    assert "visits" in session.touched


async def test_a_request_that_asked_for_many_names_hears_still_that_a_deletion_it_saw_was_taken_back(visitor):
    failing, other = visitor(), visitor()
    for number in range(TOUCHED_ABSENT_MAX):
        other.get(f"name{number}")
    del failing["cart"]
    assert "cart" not in other
    failing.undo()
    with pytest.raises(ChangesUndone, match="changes to cart"):
        await other.settle()


# --- shared objects -----------------------------------------------------------------------------------------


@by_attribute
async def test_an_object_shared_by_two_attributes_is_reported_once_by_name(node, sessions, visitor):
    with capture_logs() as logs:
        for _ in range(2):
            session = visitor()
            school = {"name": "Old"}
            session["school"] = school
            session["student"] = {"at": [school]}
            session["n"] = _
            await session.settle()
            session.close()
    assert [(line["event"], line["attributes"]) for line in logs] == [
        ("session.shared_object", ["school", "student"])
    ]
    assert logs[0]["key"] == visitor.key.hex()
    assert logs[0]["log_level"] == "warning"


async def test_equal_objects_and_shared_immutable_ones_are_not_reported(visitor):
    with capture_logs() as logs:
        session = visitor()
        pair = ("a", 1)
        session["first"], session["second"] = [pair], [pair]
        session["third"], session["fourth"] = [1], [1]
        await session.settle()
    assert logs == []


# --- cancellation ---------------------------------------------------------------------------------------------


async def test_a_cancelled_commit_does_not_block_the_next_one(node, visitor):
    first, second = visitor(), visitor()
    first["visits"] = 2
    with node.held():
        committing = asyncio.create_task(first.settle())
        await node.until_waiting()
        waiting = asyncio.create_task(second.settle())
        await asyncio.sleep(0)
        committing.cancel()
        with suppress(asyncio.CancelledError):
            await committing
    await waiting
    assert stored(node, visitor.key)["visits"] == 2


async def test_a_session_leaves_nothing_behind(node, sessions, visitor):
    for _ in range(3):
        session = visitor()
        session["visits"] += 1
        await session.settle()
        session.close()
    gc.collect()
    assert (len(sessions), node.holds) == (0, 0)
