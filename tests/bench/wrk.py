"""The load: wrk cycling through requests that differ in their Cookie header, over keep-alive connections or not.

Closed loop: every connection sends its next request when it has the answer. So a faster contender gets
more requests, and CPU per request is what can be compared.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.errors import BenchError
from tests.bench.processes import finished, pinned

SCRIPT = Path(__file__).with_name("load.lua")
MARK = "load.lua: "
"""What the script's own line starts with."""

CONNECTIONS = 32
REQUEST_TIMEOUT_S = 10
EXIT_DEADLINE_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What is sent. `body_bytes` above 0 makes POSTs; `unlike`: no two of them have the same head."""

    path: str = "/"
    body_bytes: int = 0
    new_connections: bool = False
    unlike: bool = False
    connections: int = CONNECTIONS


GETS = Requests()


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of wrk counted. `errors`: answers of 400 and above, time-outs, and failures of sockets."""

    requests: int
    errors: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


def run(
    port: int,
    cookies: Sequence[str],
    duration_s: int,
    core: int,
    directory: Path,
    *,
    requests: Requests = GETS,
) -> Load:
    """Send requests for whole seconds from one pinned thread; `cookies` are values of the Cookie header."""
    cookie_file = directory / "cookies.txt"
    cookie_file.write_text("".join(f"{cookie}\n" for cookie in cookies))
    command = [
        *(
            "wrk",
            "--threads",
            "1",
            "--connections",
            str(requests.connections),
            "--duration",
            f"{duration_s}s",
        ),
        *("--timeout", f"{REQUEST_TIMEOUT_S}s", "--script", str(SCRIPT)),
        *(f"http://127.0.0.1:{port}{requests.path}", "--", str(cookie_file), str(requests.body_bytes)),
        *("close" if requests.new_connections else "keep", "unlike" if requests.unlike else "alike"),
    ]
    with pinned(core):
        return parse(finished(command, duration_s + EXIT_DEADLINE_S))


def parse(output: str) -> Load:
    """Read the line that load.lua writes at the end of a run."""
    for line in output.splitlines():
        if line.startswith(MARK):
            return Load(**json.loads(line.removeprefix(MARK)))
    raise BenchError(f"wrk printed no result of load.lua, but:\n{output}")
