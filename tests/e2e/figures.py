"""`python -m tests.e2e.figures`: what a kill costs the users, as medians of three runs."""

import statistics
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.e2e.cluster import Cluster, at_work
from tests.e2e.kill_under_load import NODES, Report, kill_under_load

RUNS = 3


async def run_once() -> Report:
    with tempfile.TemporaryDirectory(prefix="e2e-") as directory:
        async with at_work(Cluster(Path(directory), nodes=NODES, app="tests.e2e.apps:create_app")) as cluster:
            return await kill_under_load(cluster)


def main() -> int:
    reports = []
    for _ in range(RUNS):
        reports.append(uvloop.run(run_once()))
        sys.stdout.write(f"{reports[-1]}\n")
    p50 = statistics.median(report.p50_ms for report in reports)
    p99 = statistics.median(report.p99_ms for report in reports)
    faults = [fault for report in reports for fault in report.faults]
    sys.stdout.write(f"medians of {RUNS} runs: p50 {p50:.1f} ms, p99 {p99:.1f} ms; {len(faults)} faults\n")
    sys.stdout.writelines(f"  {fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
