"""The container engine: the one that answers already, or a `dockerd` of our own for as long as the tests run.

Our own keeps everything it has in one temporary directory, and ends with this process, however that ends.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import environment
from tests.e2e_docker.commands import EngineError, needed, succeeds

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0
POLL_INTERVAL_S = 0.1
LOG_TAIL_LINES = 30


@contextmanager
def running_engine() -> Iterator[Mapping[str, str]]:
    """The environment in which `docker` and compose reach an engine. Raises EngineError where there is none."""
    needed("docker")
    if _answers(environment()):
        yield environment()
        return
    if os.geteuid() != 0:
        raise EngineError(
            "no container engine answers, and only root can start one: set DOCKER_HOST, or run as root"
        )
    directory = Path(tempfile.mkdtemp(prefix="engine-"))
    try:
        with _dockerd(directory) as host:
            yield {**environment(), "DOCKER_HOST": host}
    finally:
        shutil.rmtree(directory)


@contextmanager
def _dockerd(directory: Path) -> Iterator[str]:
    host = f"unix://{directory}/docker.sock"
    log = directory / "dockerd.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [
                *(needed("setpriv"), "--pdeathsig", "TERM"),
                *(needed("unshare"), "--mount"),  # what it mounts is gone when it is
                needed("dockerd"),
                *("--host", host),
                *("--data-root", f"{directory}/data"),
                *("--exec-root", f"{directory}/exec"),
                *("--pidfile", f"{directory}/docker.pid"),
                *("--bridge", "none"),  # compose makes networks of its own, and builds use the machine's
            ],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us: the containers are taken down first
        )
    try:
        _wait_until_it_answers(daemon, host, log)
        yield host
    finally:
        daemon.terminate()
        daemon.wait(STOP_DEADLINE_S)


def _wait_until_it_answers(daemon: subprocess.Popen[bytes], host: str, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while not _answers({**environment(), "DOCKER_HOST": host}):
        if daemon.poll() is not None or time.monotonic() > deadline:
            state = "does not answer" if daemon.poll() is None else f"ended with code {daemon.returncode}"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise EngineError(f"dockerd {state}; its last words:\n{tail}")
        time.sleep(POLL_INTERVAL_S)


def _answers(where: Mapping[str, str]) -> bool:
    return succeeds(["docker", "version"], where)
