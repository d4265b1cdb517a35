"""The Autobahn suite, which needs a Python 2.7: found, installed beside the project's other downloads, and run."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.conformance.llhttp.source import DIRECTORY

VERSION = "25.10.1"
INSTALL_TIMEOUT_S = 400.0

CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.1.1", "9.1.2", "9.2.1", "9.3.1", "9.4.1", "9.5.1", "9.6.1", "10.*"]  # fmt: skip
"""What takes a minute or two. The rest of group 9 measures speed, 12 and 13 compress for many minutes."""


def python_2() -> Path | None:
    """A Python 2.7 that can install packages: pyenv's, or on the path (where pyenv leaves one that only complains)."""
    candidates = sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python2.7"))
    if (on_path := shutil.which("python2.7")) is not None:
        candidates.append(Path(on_path))
    for candidate in candidates:
        if (
            subprocess.run([candidate, "-m", "pip", "--version"], capture_output=True, check=False).returncode
            == 0
        ):
            return candidate
    return None


def installed(python: Path) -> Path:
    """The directory with the suite, installed if it is not there yet. Raises `RuntimeError` if it cannot be had."""
    directory = DIRECTORY / f"autobahn-{VERSION}"
    ready = directory / "zope" / "__init__.py"
    if not ready.exists():
        wanted = ("--target", str(directory), f"autobahntestsuite=={VERSION}")
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
        if done.returncode:
            raise RuntimeError(f"the Autobahn suite cannot be installed:\n{done.stderr}")
        ready.touch()  # a namespace package of setuptools, which --target leaves without this
    return directory


async def verdicts(
    python: Path, servers: dict[str, str], directory: Path
) -> dict[str, dict[str, tuple[str, str]]]:
    """By server and case: the behaviour in the case, and in its closing. The report stays in `directory`."""
    specification = directory / "specification.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(directory / "report"),
                "servers": [{"agent": name, "url": url} for name, url in servers.items()],
                "cases": CASES,
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    start = "import sys; from autobahntestsuite.wstest import run; sys.argv[0] = 'wstest'; run()"
    process = await asyncio.create_subprocess_exec(
        python, "-c", start, "-m", "fuzzingclient", "-s", str(specification),
        cwd=directory,
        env={"PYTHONPATH": str(installed(python)), "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    index = directory / "report" / "index.json"
    if process.returncode or not index.exists():
        raise RuntimeError(f"the Autobahn suite failed:\n{said.decode(errors='replace')[-3000:]}")
    return {
        name: {case: (result["behavior"], result["behaviorClose"]) for case, result in results.items()}
        for name, results in json.loads(index.read_text()).items()
    }
