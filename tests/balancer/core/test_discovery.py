"""The cluster's members, view after view: who becomes a node, and who stops being one."""

from dataclasses import replace

import pytest

from balancer.core.discovery import Members, WrongCluster
from balancer.core.health import Patience
from balancer.core.node_list import NodeList
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import Pool
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import ClusterView, MemberState, MemberView

ALIVE, DEAD, LEFT, DRAINING = MemberState.ALIVE, MemberState.DEAD, MemberState.LEFT, MemberState.DRAINING
FORGET_S = 60.0


def row(
    name: str, state: MemberState = ALIVE, *, port: int = 80, incarnation: int = 1, zone: str = ""
) -> MemberView:
    http, api = f"10.0.0.1:{port}", f"10.0.0.1:{port + 1000}"
    return MemberView(name, incarnation, state, http, "10.0.0.1:1", api, zone, None, None, None)


def view(*rows: MemberView, cluster: str = "shop") -> ClusterView:
    return ClusterView(cluster, rows[0].name, "any", rows)


class Seen:
    """Members, with what checks found of them."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.members = Members(FORGET_S, self.up.__contains__)

    def after(self, *rows: MemberView, now: float = 0.0) -> list[str]:
        assert self.members.heard(view(*rows), now) == []
        return [spec.name for spec in self.members.specs]


def test_living_members_are_nodes_with_their_address_and_zone() -> None:
    seen = Seen()
    assert seen.after(row("b", MemberState.JOINING), row("a", zone="west", port=81)) == ["a", "b"]
    assert seen.members.specs[0] == NodeSpec("a", Address("10.0.0.1", 81), zone="west")
    assert [str(api) for api in seen.members.apis] == ["10.0.0.1:1081", "10.0.0.1:1080"]


def test_state_nodes_serve_nobody_and_are_no_nodes() -> None:
    seen = Seen()
    assert seen.after(row("a"), row("b"), replace(row("s"), role="state")) == ["a", "b"]
    assert seen.after(row("a"), replace(row("b", incarnation=2), role="state")) == ["a"]
    assert seen.after(row("a"), row("b", incarnation=3)) == ["a", "b"]


def test_one_that_was_never_seen_living_is_no_node() -> None:
    assert Seen().after(row("a"), row("b", DEAD), row("c", LEFT)) == ["a"]


def test_who_said_farewell_goes_at_once_unless_it_still_serves() -> None:
    seen = Seen()
    seen.after(row("a"), row("b"))
    seen.up.add("b")
    assert seen.after(row("a"), row("b", LEFT)) == ["a", "b"]
    seen.up.clear()
    assert seen.after(row("a"), row("b", LEFT)) == ["a"]


@pytest.mark.parametrize("others", [(row("a"), row("b", DEAD)), (row("a"),)])
def test_the_dead_and_the_missing_stay_for_a_while(others: tuple[MemberView, ...]) -> None:
    seen = Seen()
    seen.after(row("a"), row("b"), now=100.0)
    assert seen.after(*others, now=100.0 + FORGET_S - 1) == ["a", "b"]
    seen.up.add("b")
    assert seen.after(*others, now=100.0 + FORGET_S) == ["a", "b"]  # whatever they say, it serves
    seen.up.clear()
    assert seen.after(*others, now=100.0 + FORGET_S) == ["a"]


def test_the_view_of_a_node_that_is_alone_takes_nobody_out_while_others_know_better() -> None:
    seen = Seen()
    for turn in range(20):
        now = turn * FORGET_S / 2
        seen.after(row("a"), row("b"), now=now)
        assert seen.after(row("c"), now=now) == ["a", "b", "c"]


def test_a_node_that_moved_is_followed_and_older_news_of_it_is_not() -> None:
    seen = Seen()
    seen.after(row("a", port=81, incarnation=2))
    seen.up.add("a")
    seen.after(row("a", port=80, incarnation=1))
    assert seen.members.specs[0].address.port == 81
    seen.up.clear()  # a cluster that was started anew counts from one again
    seen.after(row("a", port=82, incarnation=1))
    assert seen.members.specs[0].address.port == 82
    seen.after(row("a", port=83, incarnation=2))
    assert seen.members.specs[0].address.port == 83


def test_draining_members_are_named() -> None:
    seen = Seen()
    seen.after(row("a"), row("b", DRAINING))
    assert seen.members.draining == ["b"]


def test_a_member_that_cannot_be_reached_is_a_problem_and_the_others_are_taken() -> None:
    members = Members(FORGET_S, lambda _name: False)
    bad = MemberView("b", 1, ALIVE, "nowhere", "", "", "", None, None, None)
    everywhere = MemberView("c", 1, ALIVE, "0.0.0.0:80", "", "", "", None, None, None)
    problems = members.heard(view(row("a"), bad, everywhere), 0.0)
    assert [spec.name for spec in members.specs] == ["a"]
    assert [problem[:20] for problem in problems] == ["b: 'nowhere' is not ", "c: nobody can connec"]


@pytest.mark.parametrize("name", ["a b", "node.one", "", "\ud800", "x" * 64, "node1\n"])
def test_a_name_that_no_node_can_have_is_a_problem_and_the_others_are_taken(name: str) -> None:
    members = Members(FORGET_S, lambda _name: False)
    problems = members.heard(view(row("a"), row(name)), 0.0)
    assert [spec.name for spec in members.specs] == ["a"]
    (problem,) = problems
    assert problem.endswith("no node can have this name")
    assert problem.isprintable()


def test_another_cluster_is_refused_and_changes_nothing() -> None:
    members = Members(FORGET_S, lambda _name: False)
    members.heard(view(row("a")), 0.0)
    with pytest.raises(WrongCluster, match="blog"):
        members.heard(view(row("b"), cluster="blog"), 0.0)
    assert [spec.name for spec in members.specs] == ["a"]


PATIENCE = Patience(rise=1, fall=3, request_fall=5)


def test_nodes_of_the_configuration_stay_as_written_beside_those_of_the_cluster() -> None:
    pool = Pool(())
    fixed = NodeSpec("a", Address("fixed", 1), weight=4)
    nodes = NodeList(pool, [fixed], PATIENCE)
    nodes.set_discovered([NodeSpec("a", Address("told", 2), zone="z"), NodeSpec("b", Address("told", 3))])
    assert [str(node.address) for node in pool.nodes.values()] == ["fixed:1", "told:3"]
    assert (pool.nodes["a"].weight, pool.nodes["a"].zone) == (4, "z")
    nodes.set_fixed([NodeSpec("c", Address("fixed", 4))], PATIENCE)
    assert [str(node.address) for node in pool.nodes.values()] == ["fixed:4", "told:2", "told:3"]
    nodes.set_discovered([])
    assert list(pool.nodes) == ["c"]
