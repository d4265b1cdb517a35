"""The same seeds in half the time: the core compiled by mypyc.

    python -m tests.sim.compiled --seeds 10000 --processes 2

takes the arguments of `tests.sim`. A copy of the tree is compiled under `.run/compiled`, from the very sources that
ship; that needs a C compiler and Python's headers, and takes some minutes. Before anything else a seed is run both
ways: its trace, a hash over every event, has to be the same.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / ".run" / "compiled"
PACKAGES = ("sessiond", "balancer", "tests")
PROBE = ("--seed", "1")


def simulate(tree: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `tests.sim` from a tree."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE if arguments == PROBE else None,
        text=True,
        check=False,
    )


def compile_core() -> None:
    """Make the copy anew. Raises CalledProcessError."""
    shutil.rmtree(COPY, ignore_errors=True)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, COPY / package, ignore=shutil.ignore_patterns("__pycache__"))
    (COPY / "mypy.ini").write_text("[mypy]\nignore_missing_imports = True\n")
    modules = [
        str(path.relative_to(COPY))
        for path in sorted((COPY / "sessiond" / "core").glob("*.py"))
        if path.name != "__init__.py"
    ]
    subprocess.run(
        [sys.executable, "-m", "mypyc", *modules],
        cwd=COPY,
        env={**os.environ, "PYTHONPATH": str(COPY), "MYPYC_OPT_LEVEL": "2"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def main(arguments: list[str]) -> int:
    compile_core()
    interpreted, compiled = (simulate(tree, *PROBE).stdout.splitlines()[-1] for tree in (ROOT, COPY))
    print(f"interpreted: {interpreted}\ncompiled:    {compiled}", flush=True)
    if interpreted != compiled:
        print("the compiled core does something else: its seeds would prove nothing", file=sys.stderr)
        return 1
    return simulate(COPY, *arguments).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
