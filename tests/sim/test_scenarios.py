"""Courses of events that broke rules once, as transcripts in `scenarios/`; each says why it exists.

After a change that is meant to show, `python -m tests.sim.test_scenarios` writes the transcripts anew: read the
difference before you keep it.
"""

from pathlib import Path

import pytest

from tests.sim.transcripts import replayed

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_happens_as_told(path):
    transcript = path.read_text()
    assert not transcript.startswith(">"), "a transcript begins with why it exists"
    assert replayed(transcript) == transcript


if __name__ == "__main__":
    for scenario in SCENARIOS:
        scenario.write_text(replayed(scenario.read_text()))
