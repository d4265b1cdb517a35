"""The `balancer` command as people run it: real processes, their exit codes and what they say."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sessiond
from tests.support.programs import DEADLINE_S, Run, environment, refusal, runner

pytestmark = pytest.mark.process

NODE = ("--node", "node1=127.0.0.1:8101")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner("balancer", tmp_path)


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    return refusal("balancer", run)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_version_says_which(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"balancer {sessiond.__version__}\n")


def test_help_documents_the_options(run: Run) -> None:
    page = run("run", "--help").stdout
    for words in ("--listen", "--admin", "--node", "NAME=HOST:PORT", "--config", "BALANCER_LOG_LEVEL"):
        assert words in page


def test_an_unknown_option_is_named_with_the_one_that_was_meant(refused: Callable[..., str]) -> None:
    message = refused("run", "--lisetn", "127.0.0.1:8080")
    assert "Unknown option: --lisetn. Did you mean --listen?" in message
    assert "Try: balancer run --help" in message


def test_mistyped_values_are_named_with_their_source(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "--health-rise must be a whole number, not 'a few'" in refused(
        "run", *NODE, "--health-rise", "a few"
    )
    message = refused("run", *NODE, BALANCER_CONNECT_TIMEOUT_S="soon")
    assert "environment variable BALANCER_CONNECT_TIMEOUT_S must be a number, not 'soon'" in message
    path = tmp_path / "balancer.toml"
    path.write_text("listen = 8080\n")
    assert f"{path}: listen must be a text, not 8080" in refused("run", "--config", str(path))
    path.write_text('nodes = ["node1=127.0.0.1:8101"]\n')
    assert f"{path}: unknown key nodes (did you mean node?)" in refused("run", "--config", str(path))


def test_without_a_node_it_says_how_to_name_one(refused: Callable[..., str]) -> None:
    assert "--node node1=127.0.0.1:8101" in refused("run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--node", "127.0.0.1:8101"), "'127.0.0.1:8101' is not NAME=HOST:PORT"),
        (("--node", "node1=127.0.0.1:8101,node1=127.0.0.1:8102"), "two nodes are called node1"),
        (("--node", "node1=127.0.0.1"), "node node1: '127.0.0.1' is not HOST:PORT"),
        ((*NODE, "--listen", "8080"), "listen: '8080' is not HOST:PORT"),
        ((*NODE, "--admin", "0.0.0.0:8090"), "admin_token_file"),
    ],
)
def test_what_cannot_work_is_named(
    refused: Callable[..., str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in refused("run", *arguments)


@pytest.mark.parametrize("option", ["listen", "admin"])
def test_a_busy_port_is_named_with_the_way_out(refused: Callable[..., str], taken: str, option: str) -> None:
    addresses = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", option: taken}
    message = refused("run", *NODE, "--listen", addresses["listen"], "--admin", addresses["admin"])
    assert f"cannot listen at --{option} {taken}: it is in use; stop the program there" in message
    assert "take another port" in message


def test_sigterm_ends_it_as_asked_and_an_unknown_variable_only_warns(tmp_path: Path) -> None:
    admin = free_port()
    command = [
        sys.executable,
        "-m",
        "balancer",
        "run",
        *NODE,
        "--listen=127.0.0.1:0",
        f"--admin=127.0.0.1:{admin}",
    ]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, env=environment("balancer", BALANCER_LISTN="x"), cwd=tmp_path, stderr=stderr
        )
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not answers(f"http://127.0.0.1:{admin}/healthz"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, log.read_text()
        assert "BALANCER_LISTN (did you mean BALANCER_LISTEN?)" in log.read_text()
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
