"""Many failure detectors together, on virtual time: what is found, how soon, and what must never be found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.core.detection import Pace
from tests.core.flock import Flock


def detection(size: int, seed: int, loss: float = 0.0) -> tuple[float, float]:
    """Seconds until the first node, and until every node, has found a stopped one silent."""
    flock = Flock(size, seed=seed, loss=loss)
    flock.run(3.0 + flock.rng.random())
    stopped = flock.rng.choice(flock.lives)
    flock.stop(stopped)
    first = flock.run_until(lambda: flock.know_silent(stopped) > 0, at_most=30.0)
    return first, first + flock.run_until(lambda: flock.all_know(stopped), at_most=60.0)


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_a_stopped_node_is_found_silent_within_three_seconds_and_by_all(size):
    took = [detection(size, seed) for seed in range(20)]
    assert max(first for first, _ in took) <= 3.0
    assert max(everybody for _, everybody in took) <= 3.5


def test_a_stopped_node_is_found_by_all_of_fifty():
    _, everybody = detection(50, seed=1)
    assert everybody <= 6.0


def test_with_loss_a_stopped_node_is_found_by_all_too():
    for seed in range(10):
        first, everybody = detection(5, seed, loss=0.05)
        assert first <= 4.0
        assert everybody <= 15.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.0, 0.2))
def test_while_nobody_stops_nobody_is_silent_whatever_is_lost_up_to_a_fifth(seed, size, loss):
    flock = Flock(size, seed=seed, loss=loss)
    flock.run(15.0)
    assert flock.silences() == 0


def test_a_false_suspicion_ends_at_the_accused_own_word():
    flock = Flock(10, seed=4, loss=0.2)
    flock.run(30.0)
    assert flock.suspicions() > 0
    flock.loss = 0.0
    flock.run(5.0)
    assert not any(bird.swim.is_suspected(life) for bird in flock.birds.values() for life in flock.lives)


def starved(awareness_max: int) -> Flock:
    """Ten nodes, one of which gets the CPU every 0.3 to 0.6 s only, and 5 % loss, for two minutes."""
    flock = Flock(10, seed=3, loss=0.05, pace=Pace(awareness_max=awareness_max), checked=False)
    flock.starve(flock.lives[0], lambda: flock.rng.uniform(0.3, 0.6))
    flock.run(120.0)
    return flock


def test_a_starved_node_gets_nobody_evicted_and_with_awareness_it_hardly_accuses_anybody():
    aware, blind = starved(awareness_max=8), starved(awareness_max=0)
    assert aware.silences() == 0
    assert blind.suspicions(by=blind.lives[0]) > 50
    assert aware.suspicions(by=aware.lives[0]) <= 3


@pytest.mark.parametrize("pause_s", [1.0, 5.0, 60.0])
def test_a_node_that_was_stopped_and_goes_on_accuses_nobody(pause_s):
    flock = Flock(5, seed=2)
    flock.run(5.0)
    paused = flock.lives[0]
    flock.stop(paused)
    flock.run(pause_s)
    flock.resume(paused)
    flock.run(10.0)
    assert flock.suspicions(by=paused) == 0
    assert flock.birds[paused].silences_of.total() == 0
    assert flock.know_silent(paused) == 0  # heard of again


def test_a_broken_path_between_two_nodes_is_no_silence_while_others_reach_both():
    flock = Flock(5, seed=2)
    one, other = flock.lives[:2]
    flock.cut |= {(one, other), (other, one)}
    flock.run(60.0)
    assert flock.silences() == 0


def test_a_node_that_nobody_hears_is_silent_though_it_hears_the_others():
    flock = Flock(5, seed=2)
    flock.run(3.0)
    mute = flock.lives[0]
    flock.cut |= {(mute, life) for life in flock.lives}
    flock.run_until(lambda: flock.all_know(mute), at_most=4.0)
    assert flock.birds[mute].silences_of.total() == 0


@pytest.mark.parametrize(("size", "few"), [(3, 1), (5, 1), (5, 2), (10, 5)])
def test_few_that_are_cut_off_find_out_nearly_as_soon_as_the_many(size, few):
    # Once they doubted themselves ever more instead: one of five took twenty seconds, two took ten.
    for seed in range(10):
        flock = Flock(size, seed=seed)
        flock.run(3.0 + flock.rng.random())
        here, there = flock.lives[:few], flock.lives[few:]
        flock.cut |= {(one, other) for one in here for other in there}
        flock.cut |= {(other, one) for one in here for other in there}
        flock.run_until(
            lambda here=here, there=there, flock=flock: all(
                set(there) <= set(flock.birds[life].silent) for life in here
            ),
            at_most=4.0 if size <= 5 else 6.0,
        )


def test_each_side_of_a_partition_finds_the_other_silent():
    flock = Flock(5, seed=2)
    flock.run(3.0)
    left, right = flock.lives[:3], flock.lives[3:]
    flock.cut |= {(one, other) for one in left for other in right}
    flock.cut |= {(other, one) for one in left for other in right}
    flock.run(15.0)
    for mine, theirs in ((left, right), (right, left)):
        for life in mine:
            assert set(flock.birds[life].silent) == set(theirs)


def test_a_node_has_the_same_work_whatever_the_size():
    rates = []
    for size in (10, 100):
        flock = Flock(size, checked=False, decoded=False)
        flock.run(10.0)
        rates.append(sum(bird.messages.total() for bird in flock.birds.values()) / size / 10.0)
    assert rates[1] == pytest.approx(rates[0], rel=0.03)
    assert rates[0] <= 2 / Pace().probe_interval_s + 0.5


def test_under_heavy_loss_everything_stays_in_its_bounds():
    flock = Flock(12, seed=9, loss=0.5)
    flock.run(20.0)  # with all invariants checked after each verb


def test_the_same_seed_gives_the_same_history():
    def history() -> list[object]:
        flock = Flock(6, seed=5, loss=0.1)
        flock.run(20.0)
        return [(bird.messages, bird.bytes, bird.suspected, bird.answered) for bird in flock.birds.values()]

    assert history() == history()
