"""Results as a table for people and as JSON for programs. Decides nothing."""

import os
import platform
from pathlib import Path
from typing import Any

from tests.bench.measure import Group, Plan, Result, Spread

HEADINGS = ("", "CPU µs/request", "ratio", "requests/s", "core busy", "p50 ms", "p99 ms", "KiB/connection")


def _text(spread: Spread, form: str, rounds: int) -> str:
    if rounds == 1:
        return f"{spread.median:{form}}"
    return f"{spread.median:{form}} ({spread.low:{form}}–{spread.high:{form}})"


def _figures(result: Result) -> dict[str, Spread]:
    """The figures of a contender, in the order of HEADINGS; the last only where there was a crowd."""
    idle = [turn.idle_kib for turn in result.turns if turn.idle_kib is not None]
    return {
        "cpu_us_per_request": result.spread(lambda turn: turn.cpu_us_per_request),
        "ratio": result.ratio,
        "requests_per_s": result.spread(lambda turn: turn.requests_per_s),
        "core_busy": result.spread(lambda turn: turn.busy),
        "p50_ms": result.spread(lambda turn: turn.load.p50_ms),
        "p99_ms": result.spread(lambda turn: turn.load.p99_ms),
        **({"idle_kib": Spread.of(idle)} if idle else {}),
    }


FORMATS = {"ratio": ".2f", "requests_per_s": ",.0f", "core_busy": ".0%"}


def table(group: Group, plan: Plan, results: list[Result]) -> str:
    """Median of the rounds, (lowest–highest). Ratios are of CPU per request, to the first row."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for result in results:
        figures = (
            _text(spread, FORMATS.get(name, ".1f"), plan.rounds) for name, spread in _figures(result).items()
        )
        rows.append((f"{result.contender.name} {result.contender.version}", *figures))
    rows[0] = HEADINGS[: len(rows[-1])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        row[0].ljust(widths[0])
        + "".join(f"  {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    how = "1 round" if plan.rounds == 1 else f"median (lowest–highest) of {plan.rounds} interleaved rounds"
    title = f"{group.title}: {how}, {plan.measure_s} s each"
    return "\n".join([title, *lines])


def as_json(group: Group, results: list[Result]) -> dict[str, Any]:
    return {
        "name": group.name,
        "title": group.title,
        "baseline": group.contenders[0].name,
        "contenders": [
            {
                "name": result.contender.name,
                "version": result.contender.version,
                "figures": {
                    name: {"median": spread.median, "low": spread.low, "high": spread.high}
                    for name, spread in _figures(result).items()
                },
                "rounds": [
                    {
                        "requests": turn.load.requests,
                        "failed": turn.load.failed,
                        "seconds": turn.load.seconds,
                        "cpu_s": turn.cpu_s,
                    }
                    for turn in result.turns
                ],
            }
            for result in results
        ],
    }


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
