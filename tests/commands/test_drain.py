"""What `sessiond drain --wait` says while it waits."""

from dataclasses import replace

import pytest

from sessiond.commands.drain import progress
from sessiond.contract.cluster_view import MemberState
from sessiond.contract.drain_view import DrainView

LEFT = DrainView(
    "node2",
    MemberState.DRAINING,
    primaries=0,
    backups=0,
    quarantined=0,
    requests=0,
    safe_to_stop=False,
    hindrance="",
)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"primaries": 3, "backups": 4}, "node2 draining: 3 primaries, 4 backups left"),
        (
            {"quarantined": 1, "requests": 2},
            "node2 draining: 1 quarantined copies, 2 requests in flight left",
        ),
        ({}, "node2 draining: 0 copies, the last look-ups and the balancer's notice left"),
    ],
)
def test_progress_is_what_is_left(changes, line):
    assert progress(replace(LEFT, **changes)) == line


def test_a_hindrance_stands_beside_what_it_hinders():
    hindered = replace(LEFT, primaries=7, hindrance="there is no other node")
    assert progress(hindered) == "node2 draining: 7 primaries left; there is no other node"


def test_safe_to_stop_is_the_nodes_own_word_and_no_guess_from_numbers():
    assert "safe" not in progress(LEFT)
    assert progress(replace(LEFT, safe_to_stop=True)) == "node2: 0 copies: safe to stop"
