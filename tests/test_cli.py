"""The `sessiond` command as people run it: real processes, their exit codes and what they say."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sessiond
from tests.support.programs import DEADLINE_S, Run, refusal, runner

pytestmark = pytest.mark.process


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner("sessiond", tmp_path)


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    return refusal("sessiond", run)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


class Running:
    """A node that serves; its log is what it wrote on standard error."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.log_path = directory / f"log{len(list(directory.iterdir()))}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SESSIOND_")}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sessiond", "run", *anywhere(), "--log-format=json", *arguments],
                env={**inherited, **environment},
                cwd=directory,
                stderr=log,
            )

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.endswith("}")]

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first log line with that event; fails after a generous time, or if the node ends."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            has_ended = self.process.poll() is not None
            for line in self.events():
                if line["event"] == event:
                    return line
            assert not has_ended, self.log_path.read_text()
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts nodes on free ports; none of them outlives the test."""
    running: list[Running] = []

    def start(*arguments: str, **environment: str) -> Running:
        running.append(Running(tmp_path, *arguments, **environment))
        return running[-1]

    yield start
    for node in running:
        node.process.kill()
        node.process.wait()


def anywhere(**addresses: str) -> list[str]:
    """Options for the three ports, free ones where nothing is given."""
    ports = {"http": "127.0.0.1:0", "cluster": "127.0.0.1:0", "api": "127.0.0.1:0", **addresses}
    return [word for option, address in ports.items() for word in (f"--{option}", address)]


def test_version_says_which(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"sessiond {sessiond.__version__}\n")


def test_help_documents_every_option_but_the_secret(run: Run) -> None:
    page = run("run", "--help", SESSIOND_SECRET="hunter2 hunter2 hunter2").stdout
    for words in (
        "--name",
        "--http",
        "--cluster",
        "--api",
        "--join",
        "--secret-file",
        "--config",
        "HOST:PORT",
        "SESSIOND_",
    ):
        assert words in page
    assert "hunter2" not in page
    assert not re.search(r"--secret\b(?!-file)", page)


def test_an_unknown_option_is_named_with_the_one_that_was_meant(refused: Callable[..., str]) -> None:
    message = refused("run", "--clutser", "127.0.0.1:7101")
    assert "Unknown option: --clutser. Did you mean --cluster?" in message
    assert "Try: sessiond run --help" in message


def test_a_mistyped_flag_is_named(refused: Callable[..., str]) -> None:
    assert "--idle-timeout-s must be a number, not 'long'" in refused("run", "--idle-timeout-s", "long")


def test_a_mistyped_environment_variable_is_named(refused: Callable[..., str]) -> None:
    assert "environment variable SESSIOND_COPIES must be a whole number, not 'two'" in refused(
        "run", SESSIOND_COPIES="two"
    )


def test_a_mistyped_value_in_the_file_is_named_with_the_file(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    path.write_text('ack = "never"\n')
    assert f"{path}: ack must be one of sync, async, not 'never'" in refused("run", "--config", str(path))


def test_an_unknown_key_in_the_file_is_named_with_the_file(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    path.write_text('nmae = "node1"\n')
    assert f"{path}: unknown key nmae (did you mean name?)" in refused("run", "--config", str(path))


def test_a_missing_file_is_named(refused: Callable[..., str]) -> None:
    assert "cannot read the configuration file nowhere.toml" in refused("run", "--config", "nowhere.toml")


def test_a_value_that_cannot_work_is_named_with_the_way_out(refused: Callable[..., str]) -> None:
    message = refused("run", "--cluster", "0.0.0.0:7101")
    for option in ("--cluster", "--secret-file", "--insecure"):
        assert option in message


@pytest.mark.parametrize("content", [None, "", "hunter2"])
def test_an_unusable_secret_file_is_named_and_its_content_is_not(
    refused: Callable[..., str], tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    message = refused("run", *anywhere(), "--secret-file", str(path))
    assert f"--secret-file {path}" in message
    assert "hunter2" not in message


def test_a_secret_on_the_command_line_is_refused_and_not_repeated(refused: Callable[..., str]) -> None:
    message = refused("run", "--secret", "hunter2 hunter2 hunter2")
    assert "--secret-file" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("shpo:app", ["cannot import shpo", "there is no module shpo in "]),
        ("shop", ["'shop' is not MODULE:APP"]),
        ("shop:ap", ["shop has no ap; did you mean app?"]),
        ("shop:app", ["shop:app", "not an aiohttp.web.Application"]),
    ],
)
def test_an_application_that_cannot_be_hosted_is_named(
    refused: Callable[..., str], tmp_path: Path, reference: str, words: list[str]
) -> None:
    (tmp_path / "shop.py").write_text('app = "no application"\n')
    message = refused("run", reference, *anywhere())
    for word in words:
        assert word in message


@pytest.mark.parametrize("option", ["http", "cluster", "api"])
def test_a_busy_port_is_named_with_the_way_out(refused: Callable[..., str], taken: str, option: str) -> None:
    message = refused("run", *anywhere(**{option: taken}))
    assert f"cannot listen at --{option} {taken}: it is in use; stop the program there" in message
    assert "take another port" in message


def test_an_address_of_another_machine_is_named(refused: Callable[..., str]) -> None:
    message = refused("run", *anywhere(http="192.0.2.1:8101"))
    assert "cannot listen at --http 192.0.2.1:8101: 192.0.2.1 is no address of this machine" in message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_as_asked(start: Callable[..., Running], number: signal.Signals) -> None:
    node = start()
    node.wait_for("node.joined")
    assert node.end(number) == 0


def test_an_unknown_environment_variable_is_warned_of_and_never_fails(start: Callable[..., Running]) -> None:
    node = start(SESSIOND_NMAE="node7", SESSIOND_NAME="node8")
    assert (
        node.wait_for("settings.unknown_variable")["variable"]
        == "SESSIOND_NMAE (did you mean SESSIOND_NAME?)"
    )
    assert node.wait_for("daemon.started")["node"] == "node8"


def test_an_application_of_the_working_directory_is_hosted_with_sessions(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    (tmp_path / "counter.py").write_text(COUNTER)
    node = start("counter:make")
    node.wait_for("node.joined")
    shop = f"http://{node.wait_for('daemon.started')['http']}/"
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    for visits in (b"1", b"2", b"3"):
        with browser.open(shop, timeout=DEADLINE_S) as answer:
            assert answer.read() == visits
    assert node.end() == 0
    assert node.wait_for("node.sessions_end")["sessions"] == 1


COUNTER = """
from aiohttp import web
from sessiond.adapters.aiohttp import get_session

async def count(request):
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return web.Response(text=str(session["visits"]))

def make():
    app = web.Application()
    app.router.add_get("/", count)
    return app
"""

OUR_SECRET = "correct horse battery staple"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("--name=node2",), {"SESSIOND_SECRET": "another secret, not ours"}, "secret"),
        (("--name=node2", "--cluster-name=other"), {"SESSIOND_SECRET": OUR_SECRET}, "other"),
        (("--name=node1",), {"SESSIOND_SECRET": OUR_SECRET}, "node1"),
    ],
    ids=["wrong secret", "wrong cluster name", "duplicate node name"],
)
def test_a_node_that_the_cluster_does_not_take_says_why_and_disturbs_nobody(
    start: Callable[..., Running],
    refused: Callable[..., str],
    arguments: tuple[str, ...],
    environment: dict[str, str],
    words: str,
) -> None:
    member = start("--name=node1", SESSIOND_SECRET=OUR_SECRET)
    member.wait_for("node.joined")
    api = member.wait_for("daemon.started")["api"]
    with urllib.request.urlopen(f"http://{api}/v1/cluster", timeout=DEADLINE_S) as answer:
        seed = json.load(answer)["members"][0]["cluster"]
    message = refused("run", *anywhere(), "--join", seed, *arguments, **environment)
    assert words in message.splitlines()[-1]
    assert OUR_SECRET not in message
    with urllib.request.urlopen(f"http://{api}/readyz", timeout=DEADLINE_S) as answer:
        assert answer.status == 200
    assert member.end() == 0
