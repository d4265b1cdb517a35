"""SIGHUP: the configuration is read anew and followed, and nobody who is connected notices."""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from balancer.errors import ConfigurationError
from balancer.reloading import LIVE
from balancer.server import Balancer
from balancer.settings import Settings
from tests.balancer.proxy.stage import DEADLINE_S, ScriptedNode, eventually, until
from tests.balancer.running import settings_for
from tests.balancer.test_cli import free_port
from tests.support import certificates
from tests.support.programs import environment


async def ask(
    balancer: Balancer, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
) -> bytes:
    reader, writer = await asyncio.open_connection(*balancer.listen_address)
    writer.write(request)
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()
    writer.close()
    return answer


async def test_nodes_limits_and_checks_follow_the_settings(
    balancer: Balancer, nodes: list[ScriptedNode]
) -> None:
    settings = replace(
        balancer.settings, node=balancer.settings.node[1:], request_head_bytes_max=100, health_path="/other"
    )
    assert await balancer.reload(settings) == []
    assert {(await ask(balancer))[-5:] for _ in range(4)} == {b"node2"}
    long = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: " + b"x" * 100 + b"\r\n\r\n"
    assert (await ask(balancer, long)).startswith(b"HTTP/1.1 431 ")
    await until(lambda: any(request.line.split(b" ")[1] == b"/other" for request in nodes[1].requests))


async def test_what_cannot_change_is_named_and_stays_and_the_rest_changes(balancer: Balancer) -> None:
    settings = replace(balancer.settings, listen="127.0.0.1:1", workers=3, body_idle_timeout_s=7.0)
    assert await balancer.reload(settings) == ["listen", "workers"]
    assert balancer.settings.workers == 1
    assert balancer.settings.body_idle_timeout_s == 7.0
    assert (await ask(balancer)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"node": ()}, "node: name at least one node"),
        ({"connect_timeout_s": -1.0}, "connect_timeout_s"),
        # TLS towards nodes would need a restart, and its files are of no use before.
        ({"node_tls": True, "node_tls_ca_file": "authority"}, "a restart would do.*node_tls"),
    ],
)
async def test_settings_that_make_no_sense_change_nothing(
    balancer: Balancer, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    before = balancer.settings
    authority = certificates.write_authority(tmp_path)
    fields = {name: authority if value == "authority" else value for name, value in fields.items()}
    with pytest.raises(ConfigurationError, match=words):
        await balancer.reload(replace(before, retry_reserve=5, **fields))
    assert balancer.settings is before
    assert (await ask(balancer)).startswith(b"HTTP/1.1 200 ")


def test_live_settings_exist() -> None:
    assert {field for field in LIVE if field not in Settings.__dataclass_fields__} == set()


async def test_a_new_certificate_is_shown_from_then_on(nodes: list[ScriptedNode], tmp_path: Path) -> None:
    certificate, key = certificates.write(tmp_path, "127.0.0.1", "old.example")
    balancer = Balancer(settings_for(nodes, tls_certificate_file=certificate, tls_key_file=key))
    await balancer.start()

    async def shown() -> str:
        _, writer = await asyncio.open_connection(*balancer.listen_address, ssl=certificates.client_context())
        names: ssl.SSLObject = writer.get_extra_info("ssl_object")
        found = [str(name) for _, name in names.getpeercert()["subjectAltName"]]  # type: ignore[index,misc]
        writer.close()
        return found[-1]

    try:
        assert await shown() == "old.example"
        certificates.write(tmp_path, "127.0.0.1", "new.example")
        await balancer.reload(balancer.settings)
        assert await shown() == "new.example"
        certificate.write_text("spoilt")
        with pytest.raises(ConfigurationError, match=f"tls_certificate_file {certificate}"):
            await balancer.reload(balancer.settings)
        assert await shown() == "new.example"
    finally:
        await balancer.stop()


class Program:
    """A balancer as a process, with its configuration in a file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "balancer.toml"
        self.log_path = directory / "log"
        self.listen, self.admin = free_port(), free_port()
        self._process: asyncio.subprocess.Process | None = None

    def configure(self, *nodes: ScriptedNode, **more: object) -> None:
        lines = [
            f'listen = "127.0.0.1:{self.listen}"',
            f'admin = "127.0.0.1:{self.admin}"',
            "node = [" + ", ".join(f'"{node.name}={node.address}"' for node in nodes) + "]",
            "connect_timeout_s = 10",
            *(f"{name} = {value}" for name, value in more.items()),
        ]
        self.path.write_text("\n".join(lines))

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    async def start(self, *arguments: str) -> None:
        with self.log_path.open("wb") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "balancer", "run", "--config", str(self.path), *arguments,
                env=environment("balancer"), cwd=self.path.parent, stderr=stderr,
            )  # fmt: skip
        await eventually(self._is_ready)

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log
        try:
            async with (
                aiohttp.ClientSession() as web,
                web.get(f"http://127.0.0.1:{self.admin}/readyz") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def hang_up(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGHUP)

    async def reload(self) -> None:
        """Returns when the program says that it is done."""
        told = self.log.count("configuration.reloaded")
        self.hang_up()
        await until(lambda: self.log.count("configuration.reloaded") > told)

    async def stop(self) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()


@asynccontextmanager
async def load(port: int, clients: int) -> AsyncIterator[Callable[[], int]]:
    """Users who ask without a pause, over connections that they keep for ten requests; gives their number of answers.

    The first thing that goes wrong for one of them is raised at the end.
    """
    answered = 0
    ending = False

    async def user() -> None:
        nonlocal answered
        while not ending:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(10):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 "), head
                await reader.readexactly(5)
                answered += 1
            writer.close()

    users = [asyncio.create_task(user()) for _ in range(clients)]
    yield lambda: answered
    ending = True
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*users)


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2])
async def test_reloads_under_load_fail_no_request(
    nodes: list[ScriptedNode], tmp_path: Path, workers: int
) -> None:
    program = Program(tmp_path)
    program.configure(*nodes)
    await program.start("--workers", str(workers))
    try:
        async with load(program.listen, 8) as answered:
            for round_ in range(6):
                here = [nodes[:1], nodes[1:], nodes][round_ % 3]
                program.configure(*here, body_idle_timeout_s=20 + round_)
                await program.reload()
                seen = answered()
                await until(lambda seen=seen: answered() > seen + 50)  # type: ignore[misc]
    finally:
        assert await program.stop() == 0, program.log
    assert program.log.count("configuration.reloaded") == 6


@pytest.mark.process
async def test_a_bad_file_is_named_and_the_old_configuration_stays(
    nodes: list[ScriptedNode], tmp_path: Path
) -> None:
    program = Program(tmp_path)
    program.configure(*nodes)
    await program.start("--log-format", "json")
    try:
        for text, words in (
            (
                "conect_timeout_s = 1",
                f"{program.path}: unknown key conect_timeout_s (did you mean connect_timeout_s?)",
            ),
            ('connect_timeout_s = "soon"', f"{program.path}: connect_timeout_s must be a number, not 'soon'"),
            ("listen =", f"the configuration file {program.path} is not TOML"),
            ("node = []", "node: name at least one node"),
        ):
            program.path.write_text(text)
            program.hang_up()
            await until(lambda words=words: words in program.log)  # type: ignore[misc]
        async with load(program.listen, 1) as answered:
            await until(lambda: answered() > 10)
        assert "configuration.reloaded" not in program.log
        program.configure(*nodes, workers=2, log_level='"debug"')
        await program.reload()
        assert '"settings": ["workers"]' in program.log
    finally:
        assert await program.stop() == 0, program.log
