"""``python -m tests.bench [--quick] [--only NAME] [--seconds N] [--json FILE]``: what `make bench` runs.

Without a name the benches `proxy`, `workers` and `session`; `cases` stands for all of the proxies' other cases.
Prints a table for each bench and writes all figures to a JSON file. Exit codes: 0 every request of every
contender was answered as it should be, 1 not so, 2 this machine lacks something, 130 interrupted.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.bench import cases, install, measure, proxies, report, sessions, workers, writes
from tests.bench.errors import BenchError, MachineError
from tests.bench.processes import REPOSITORY, Cores, unwind_on_sigterm

BENCHES = {
    "proxy": proxies.BENCH,
    "session": sessions.BENCH,
    "writes": writes.BENCH,
    **workers.BENCHES,
    **cases.BENCHES,
}
USUAL = ["proxy", "workers", "session"]
JSON_FILE = REPOSITORY / ".run" / "bench.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="What one request costs, beside peers."
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round: checks the answers, not the speed"
    )
    parser.add_argument("--only", choices=[*BENCHES, "cases"], help="run one bench")
    parser.add_argument(
        "--seconds",
        type=int,
        default=measure.FULL.measure_s,
        metavar="N",
        help=f"length of each measurement; default: {measure.FULL.measure_s}",
    )
    parser.add_argument("--json", type=Path, default=JSON_FILE, metavar="FILE", help=f"default: {JSON_FILE}")
    arguments = parser.parse_args()
    unwind_on_sigterm()
    try:
        run(
            list(cases.BENCHES)
            if arguments.only == "cases"
            else [arguments.only]
            if arguments.only
            else USUAL,
            measure.QUICK if arguments.quick else replace(measure.FULL, measure_s=arguments.seconds),
            arguments.json,
        )
    except MachineError as error:
        _say(f"bench: {error}")
        return 2
    except BenchError as error:
        _say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run(names: list[str], plan: measure.Plan, json_file: Path) -> None:
    """Run benches, print their tables, write the JSON file. Raises BenchError."""
    cores = Cores.of_this_machine()
    os.sched_setaffinity(0, {cores.load})  # what this process does must not disturb the thing under test
    install.ensure([package for name in names for package in BENCHES[name].packages], _say)
    tables, groups = [], []
    for name in names:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as directory,
            BENCHES[name].group(cores, Path(directory)) as group,
        ):
            take = partial(measure.take_turn, group=group, plan=plan, load_core=cores.load)
            results = measure.compare(group, plan.rounds, take, _say)
        tables.append(report.table(group, plan, results))
        groups.append(report.as_json(group, results))
    command = shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]])
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(
        json.dumps({"command": command, "machine": report.machine(), "groups": groups}, indent=2) + "\n"
    )
    for text in tables:
        sys.stdout.write(f"\n{text}\n")
    sys.stdout.write(f"\nAll figures: {json_file}\n")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
