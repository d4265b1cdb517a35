"""What `sessiond status` makes of a cluster view."""

from dataclasses import replace

import pytest

from sessiond.commands.status import report, verdict
from sessiond.contract.cluster_view import ClusterView, MemberState, MemberView

ALIVE = MemberView(
    name="node1",
    incarnation=1795356183057,
    state=MemberState.ALIVE,
    http="10.0.0.1:8101",
    cluster="10.0.0.1:7101",
    api="10.0.0.1:9101",
    zone="",
    primaries=12,
    backups=7,
    unprotected=0,
)
OTHER = replace(ALIVE, name="a-longer-name", zone="rack2", primaries=7, backups=12)
DEAD = replace(
    ALIVE, name="node3", state=MemberState.DEAD, http="", primaries=None, backups=None, unprotected=None
)


def view(*members: MemberView) -> ClusterView:
    return ClusterView("default", "node1", "any", members)


def test_columns_are_aligned_and_what_is_not_known_is_a_dash():
    assert report(view(ALIVE, OTHER, DEAD)) == (
        "cluster default, as node1 sees it (quorum any)\n"
        "\n"
        "node           state  http           primaries  backups  unprotected  zone   role  incarnation\n"
        "node1          alive  10.0.0.1:8101         12        7            0  -      app   1795356183057\n"
        "a-longer-name  alive  10.0.0.1:8101          7       12            0  rack2  app   1795356183057\n"
        "node3          dead   -                      -        -            -  -      app   1795356183057\n"
        "total                                       19       19            0\n"
        "\n"
        "fully protected: every session has its backups\n"
    )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ((replace(ALIVE, unprotected=1), OTHER), "NOT FULLY PROTECTED: 1 session has fewer backups"),
        (
            (replace(ALIVE, unprotected=2), replace(OTHER, unprotected=3)),
            "NOT FULLY PROTECTED: 5 sessions have",
        ),
        (
            (replace(ALIVE, unprotected=2), DEAD),
            "2 sessions have fewer backups than configured; start another node",
        ),
        ((replace(ALIVE, backups=0), replace(OTHER, backups=0)), "none is to have one (--placement none)"),
        ((replace(ALIVE, backups=0), replace(OTHER, primaries=0, role="state")), "fully protected"),
        ((ALIVE, replace(OTHER, unprotected=None)), "NOT KNOWN TO BE PROTECTED: nothing is known of the"),
    ],
)
def test_it_says_when_a_death_could_lose_sessions(members, words):
    assert words in verdict(view(*members))
