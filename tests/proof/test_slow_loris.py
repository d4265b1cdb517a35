"""The judge of the slow-loris proof: what the tool's words mean, and what is a problem."""

from dataclasses import replace

import pytest

from tests.proof.footprint import Footprint
from tests.proof.slow_loris import Report, attacks, told

TABLE = "Seconds,Closed,Pending,Connected,Service Available\n0,0,1,0,100\n1,0,0,100,100\n2,60,0,40,100\n"
HEADS, BODIES = attacks(1000, 500)
FINE = Report(
    HEADS,
    connected=1000,
    last_cut_s=15.0,
    are_all_cut=True,
    before=Footprint(50_000, 60),
    most=Footprint(52_000, 1065),
    after=Footprint(52_000, 62),
    alone_p99_ms=5.0,
    beside_p99_ms=9.0,
    faults=[],
)


def test_the_tool_is_read_with_its_colours() -> None:
    text = "\x1b[0;36m\nTest ended on 12th second\nExit status:\x1b[1;36m No open connections left\n\x1b[0m"
    assert told(text, TABLE) == (100, 12.0, True)
    text = text.replace("No open connections left", "Hit test time limit")
    assert told(text, TABLE) == (100, 12.0, False)


def test_a_tool_that_died_proves_nothing() -> None:
    with pytest.raises(ValueError, match="did not say"):
        told("Cannot open socket", TABLE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"connected": 900}, "nothing was shown"),
        ({"are_all_cut": False}, "not every connection was cut"),
        ({"last_cut_s": 30.0}, "after 30.0 s"),
        ({"after": Footprint(52_000, 100)}, "100 descriptors"),
        ({"most": Footprint(120_000, 1065)}, "120000 KiB"),
        ({"faults": ["no answer"]}, "no answer"),
    ],
)
def test_what_must_not_be_is_named(change: dict[str, object], words: str) -> None:
    problems = replace(FINE, **change).problems
    assert words in " ".join(problems)
    assert bool(problems) == bool(words)
