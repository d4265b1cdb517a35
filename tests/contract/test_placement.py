"""Where backups go: the same answer for everybody, spread evenly, moved only if need be."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.contract.placement import Candidate, Scheme, placement, ranking, score

NODES = [Candidate(f"node{i}") for i in range(1, 7)]
PRIMARY = NODES[0]
KEYS = [i.to_bytes(2) * 8 for i in range(2000)]

candidates = st.lists(
    st.builds(
        Candidate,
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.sampled_from(["", "a", "b"]),
        st.just("app"),
    ),
    max_size=8,
    unique_by=lambda candidate: candidate.name,
)
keys = st.binary(min_size=16, max_size=16)


@given(keys, candidates, st.integers(0, 4), st.randoms())
def test_the_order_in_which_members_are_known_does_not_matter(key, members, copies, rng) -> None:
    shuffled = list(members)
    rng.shuffle(shuffled)
    assert placement(key, PRIMARY, members, copies) == placement(key, PRIMARY, shuffled, copies)


@given(keys, candidates, st.integers(0, 4))
def test_backups_are_as_many_as_wanted_and_possible_distinct_and_never_the_primary(
    key: bytes, members: list[Candidate], copies: int
) -> None:
    primary = members[0] if members else PRIMARY
    chosen = placement(key, primary, members, copies)
    assert len(chosen) == len(set(chosen)) == min(copies, max(0, len(members) - 1))
    assert primary.name not in chosen
    assert set(chosen) <= {member.name for member in members}


@given(keys, candidates)
def test_all_candidates_are_ranked_and_fewer_copies_are_the_head_of_more(
    key: bytes, members: list[Candidate]
) -> None:
    ranked = ranking(key, Candidate("-", "a"), members)
    assert sorted(ranked) == sorted(member.name for member in members)
    outsider = Candidate("-", "a")
    for copies in range(len(members)):
        assert placement(key, outsider, members, copies) == tuple(ranked[:copies])


@given(keys, candidates)
def test_another_zone_comes_before_the_primary_s_own(key: bytes, members: list[Candidate]) -> None:
    zones = {member.name: member.zone for member in members}
    own = [zones[name] == "a" for name in ranking(key, Candidate("-", "a"), members)]
    assert own == sorted(own)


@given(keys, candidates)
def test_without_a_zone_nobody_is_in_one_s_own(key: bytes, members: list[Candidate]) -> None:
    plain = [Candidate(member.name) for member in members]
    assert ranking(key, Candidate("-"), members) == ranking(key, Candidate("-"), plain)


def test_sessions_spread_evenly_over_all_other_nodes() -> None:
    counts = Counter(placement(key, PRIMARY, NODES, 1)[0] for key in KEYS)
    assert set(counts) == {node.name for node in NODES[1:]}
    even = len(KEYS) / len(counts)
    assert all(0.8 * even < count < 1.2 * even for count in counts.values())


def test_a_death_moves_only_the_sessions_of_the_dead_and_spreads_them_over_all_others() -> None:
    dead = NODES[3]
    left = [node for node in NODES if node != dead]
    heirs: Counter[str] = Counter()
    for key in KEYS:
        (before,) = placement(key, PRIMARY, NODES, 1)
        (after,) = placement(key, PRIMARY, left, 1)
        if before == dead.name:
            heirs[after] += 1
        else:
            assert after == before
    assert len(heirs) == 4
    assert min(heirs.values()) > 0.5 * sum(heirs.values()) / 4


def test_a_join_moves_sessions_only_to_the_newcomer() -> None:
    joined = [*NODES, Candidate("node9")]
    moved = 0
    for key in KEYS:
        (before,) = placement(key, PRIMARY, NODES, 1)
        (after,) = placement(key, PRIMARY, joined, 1)
        assert after in (before, "node9")
        moved += after != before
    assert 0.8 * len(KEYS) / 6 < moved < 1.2 * len(KEYS) / 6


def test_with_pair_all_sessions_of_a_node_go_to_the_next_ones_around_the_ring() -> None:
    for key in KEYS[:50]:
        assert placement(key, Candidate("node3"), NODES, 2, "pair") == ("node4", "node5")
        assert placement(key, Candidate("node6"), NODES, 2, "pair") == ("node1", "node2")
        assert placement(key, Candidate("node45"), NODES, 1, "pair") == ("node5",)  # not in the list itself


def test_with_pair_another_zone_comes_first_and_then_the_ring() -> None:
    members = [Candidate("a", "east"), Candidate("b", "east"), Candidate("c", "west"), Candidate("d", "west")]
    assert placement(KEYS[0], members[0], members, 3, "pair") == ("c", "d", "b")
    assert placement(KEYS[0], members[3], members, 3, "pair") == ("a", "b", "c")


def test_with_all_every_other_node_holds_a_copy_and_who_comes_first_differs() -> None:
    first: Counter[str] = Counter()
    for key in KEYS:
        chosen = placement(key, PRIMARY, NODES, 1, "all")
        assert sorted(chosen) == [node.name for node in NODES[1:]]
        first[chosen[0]] += 1
    assert min(first.values()) > 0.8 * len(KEYS) / 5


def test_with_central_copies_go_to_state_nodes_only_and_to_another_one_if_the_primary_is_one() -> None:
    states = [Candidate("s1", role="state"), Candidate("s2", role="state")]
    members = [*NODES, *states]
    counts = Counter(placement(key, PRIMARY, members, 1, "central")[0] for key in KEYS)
    assert counts.keys() == {"s1", "s2"}
    assert min(counts.values()) > 0.4 * len(KEYS)
    assert placement(KEYS[0], states[0], members, 2, "central") == ("s2",)
    assert placement(KEYS[0], PRIMARY, NODES, 1, "central") == ()


@pytest.mark.parametrize("scheme", ["backup", "pair", "all"])
def test_the_other_schemes_leave_state_nodes_alone(scheme: Scheme) -> None:
    assert placement(KEYS[0], PRIMARY, [Candidate("s1", role="state")], 1, scheme) == ()


def test_with_none_nobody_holds_a_copy() -> None:
    assert placement(KEYS[0], PRIMARY, NODES, 1, "none") == ()


def test_scores_are_the_same_on_every_machine_and_in_every_version() -> None:
    # Written down: nodes and balancer of different versions must agree.
    assert score(bytes(16), "node1") == 2883544207906054109
    assert score(bytes(range(16)), "node2") == 6181480943433342388
