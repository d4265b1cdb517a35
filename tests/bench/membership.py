"""``python -m tests.bench.membership [--quick] [--out DIR]``: what `make proof-membership` runs.

The failure detector alone (`sessiond.core.swim`) at 10, 100 and 1,000 simulated nodes on virtual time: what it
sends, how soon a stopped node is found, and whom it suspects wrongly when every twentieth message is lost; and
one starved node among ten, with and without awareness. Prints the tables and writes them into
docs/membership.md, the plot into docs/membership.svg. The figures depend on the seeds only, not on the machine.

Exit codes: 0, or 1 if a healthy node was declared silent or the work of a node grew with the size.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sessiond.core.detection import Pace
from tests.bench.plot import Line, plot
from tests.core.flock import Flock

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- figures: make proof-membership -->", "<!-- end of figures -->"

LOSS = 0.05
WARM_UP_S = 3.0
GROWTH_MAX = 1.1
"""Work per node at the largest size, by that at the smallest: beyond it "flat" would be the wrong word."""


@dataclass(frozen=True, slots=True)
class Plan:
    sizes: tuple[int, ...] = (10, 100, 1000)
    measured_s: float = 10.0
    stops: int = 1000
    """Nodes of all clusters in which one is stopped, by size: 100 clusters of 10, 10 of 100, 3 of 1,000."""

    stops_min: int = 3
    starved_s: float = 600.0


QUICK = Plan(sizes=(10, 30), measured_s=4.0, stops=30, stops_min=1, starved_s=20.0)


@dataclass(frozen=True, slots=True)
class Work:
    """Per node and second."""

    messages: float
    bytes: float
    suspicions: int
    silences: int


@dataclass(frozen=True, slots=True)
class Row:
    size: int
    calm: Work
    lossy: Work
    first_s: list[float]
    all_s: list[float]


@dataclass(frozen=True, slots=True)
class Starved:
    awareness: bool
    suspicions: int
    of_it: int
    among_others: int
    evictions: int
    evictions_of_it: int


def work(size: int, seconds: float, loss: float) -> Work:
    flock = Flock(size, seed=size, loss=loss, checked=False, decoded=False)
    flock.run(WARM_UP_S)
    before = [(bird.messages.total(), bird.bytes) for bird in flock.birds.values()]
    suspicions = flock.suspicions()
    flock.run(seconds)
    after = [(bird.messages.total(), bird.bytes) for bird in flock.birds.values()]
    messages, octets = (sum(new[i] - old[i] for old, new in zip(before, after, strict=True)) for i in (0, 1))
    share = size * seconds
    return Work(messages / share, octets / share, flock.suspicions() - suspicions, flock.silences())


def detection(size: int, seed: int) -> tuple[float, float]:
    """Seconds after the stop of one node until the first other one, and until all, hold it for silent."""
    flock = Flock(size, seed=seed, checked=False, decoded=False)
    flock.run(WARM_UP_S + flock.rng.random())
    stopped = flock.rng.choice(flock.lives)
    flock.stop(stopped)
    first = flock.run_until(lambda: flock.know_silent(stopped) > 0, at_most=60.0)
    return first, first + flock.run_until(lambda: flock.all_know(stopped), at_most=60.0)


def starved(seconds: float, *, awareness: bool) -> Starved:
    """Ten nodes with loss, one of which gets the CPU every 0.3 to 0.6 s only."""
    pace = Pace() if awareness else Pace(awareness_max=0)
    flock = Flock(10, seed=3, loss=LOSS, pace=pace, checked=False, decoded=False)
    one = flock.lives[0]
    flock.starve(one, lambda: flock.rng.uniform(0.3, 0.6))
    flock.run(seconds)
    by_it, of_it = flock.suspicions(by=one), sum(bird.suspected[one] for bird in flock.birds.values())
    evictions_of_it = sum(bird.silences_of[one] for bird in flock.birds.values())
    return Starved(
        awareness,
        by_it,
        of_it,
        flock.suspicions() - by_it - of_it,
        flock.silences() - evictions_of_it,
        evictions_of_it,
    )


def measure(plan: Plan) -> tuple[list[Row], list[Starved]]:
    rows = []
    for size in plan.sizes:
        began = time.monotonic()
        runs = max(plan.stops_min, plan.stops // size)
        found = [detection(size, seed) for seed in range(runs)]
        calm, lossy = work(size, plan.measured_s, 0.0), work(size, plan.measured_s, LOSS)
        rows.append(
            Row(size, calm, lossy, [first for first, _ in found], [everybody for _, everybody in found])
        )
        sys.stderr.write(f"{size} nodes: {time.monotonic() - began:.0f} s\n")
    return rows, [starved(plan.starved_s, awareness=awareness) for awareness in (True, False)]


def _seconds(took: list[float]) -> str:
    return f"{statistics.median(took):.1f} ({max(took):.1f})"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heading, tuple("---:" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(rows: list[Row], starvation: list[Starved], plan: Plan) -> str:
    scale = _table(
        (
            "nodes",
            "messages per node and second",
            "bytes per node and second",
            "the same with 5 % loss",
            "a stopped node is found by the first, s",
            "by all, s",
            "false suspicions with 5 % loss, per node and minute",
            "healthy nodes declared silent",
        ),
        [
            (
                f"{row.size:,}",
                f"{row.calm.messages:.1f}",
                f"{row.calm.bytes:.0f}",
                f"{row.lossy.messages:.1f} / {row.lossy.bytes:.0f}",
                _seconds(row.first_s),
                _seconds(row.all_s),
                f"{row.lossy.suspicions / row.size / plan.measured_s * 60:.2f}",
                str(row.calm.silences + row.lossy.silences),
            )
            for row in rows
        ],
    )
    health = _table(
        (
            "awareness",
            "suspicions raised by the starved node",
            "suspicions of it",
            "among the nine others",
            "evictions of others",
            "evictions of it",
        ),
        [
            (
                "on" if row.awareness else "off",
                str(row.suspicions),
                str(row.of_it),
                str(row.among_others),
                str(row.evictions),
                str(row.evictions_of_it),
            )
            for row in starvation
        ],
    )
    return (
        f"Found times are the median and, in parentheses, the longest of "
        f"{', '.join(f'{len(row.first_s)} clusters of {row.size:,}' for row in rows)}.\n\n{scale}\n\n"
        f"Ten nodes for {plan.starved_s:.0f} s with 5 % loss; the loop of one of them sleeps 0.3 to 0.6 s at a time:"
        f"\n\n{health}\n"
    )


def picture(rows: list[Row]) -> str:
    sizes = [row.size for row in rows]
    return plot(
        "One node's work and what it finds, by the size of the cluster",
        sizes,
        [
            Line("messages per second", [row.calm.messages for row in rows], "#3465a4"),
            Line("hundred bytes per second", [row.calm.bytes / 100 for row in rows], "#73a046"),
            Line(
                "s until the first knows of a silence",
                [statistics.median(row.first_s) for row in rows],
                "#cc6600",
            ),
            Line("s until all know", [statistics.median(row.all_s) for row in rows], "#a40000"),
        ],
    )


def write(directory: Path, text: str, svg: str) -> None:
    """Put the figures between their marks in membership.md, and the plot beside it."""
    page = directory / "membership.md"
    old = page.read_text()
    head, rest = old.split(BEGIN)
    _, tail = rest.split(END)
    page.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")
    (directory / "membership.svg").write_text(svg)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.membership", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small clusters, a few seconds; writes nothing")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR", help="where membership.md lies")
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else Plan()
    rows, starvation = measure(plan)
    text = tables(rows, starvation, plan)
    sys.stdout.write(text)
    if not chosen.quick:
        write(chosen.out, text, picture(rows))
    grew = rows[-1].calm.messages / rows[0].calm.messages
    wrong = sum(row.calm.silences + row.lossy.silences for row in rows) + starvation[0].evictions
    if wrong or grew > GROWTH_MAX:
        sys.stderr.write(f"failed: {wrong} healthy nodes declared silent, messages grew {grew:.2f} times\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
