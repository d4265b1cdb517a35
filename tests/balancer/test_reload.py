"""SIGHUP: the configuration is read anew and followed, and nobody who is connected notices."""

import asyncio
import json
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
import trustme

from balancer.errors import ConfigurationError
from balancer.server import Balancer
from sessiond.contract.cluster_view import MemberState
from sessiond.contract.session_id import Keyring
from tests.balancer.fake_api import FakeApi
from tests.balancer.proxy.stage import DEADLINE_S, ScriptedNode, eventually, until
from tests.balancer.running import serve, settings_for
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


async def test_a_panic_that_other_rules_begin_or_end_is_told(
    nodes: list[ScriptedNode], balancer: Balancer, capsys: pytest.CaptureFixture[str]
) -> None:
    await nodes[0].stop()
    await until(lambda: len(balancer.pool.up) == 1)
    await balancer.reload(replace(balancer.settings, panic_threshold=0.9))
    assert "pool.panic " in capsys.readouterr().out
    await balancer.reload(replace(balancer.settings, panic_threshold=0.0))
    assert "pool.panic_over" in capsys.readouterr().out


async def test_retries_that_were_spent_or_refused_stay_so(balancer: Balancer) -> None:
    budget = balancer._service.budget
    while budget.withdraw():
        pass
    assert await balancer.reload(replace(balancer.settings, retry_share=0.0, retry_reserve=100)) == []
    budget = balancer._service.budget
    assert (budget.balance, budget.refusals) == (0.0, 1)


async def test_a_secret_that_was_rotated_in_its_file_is_read_again(
    nodes: list[ScriptedNode], tmp_path: Path
) -> None:
    file, secrets = (
        tmp_path / "secret",
        ("the secret of before, 32 letters", "another one, with as many of them"),
    )
    file.write_text(secrets[0])
    balancer = Balancer(settings_for(nodes, failover="backup", secret_file=file))
    await balancer.start()

    def is_known(secret: str) -> bool:
        """Whether its sessions' backups are found."""
        token = Keyring([secret.encode()], "default").new_token(bytes(16))
        known = balancer.pool.nodes
        find = balancer._service.router._likely_backup
        return find(f"SESSIONID={token}.lost".encode(), b"/", known, known.values()) is not None

    try:
        assert [is_known(secret) for secret in secrets] == [True, False]
        file.write_text(secrets[1])
        await balancer.reload(balancer.settings)
        assert [is_known(secret) for secret in secrets] == [False, True]
        file.write_text("short")
        with pytest.raises(ConfigurationError, match=f"secret_file {file}"):
            await balancer.reload(balancer.settings)
        assert [is_known(secret) for secret in secrets] == [False, True]
    finally:
        await balancer.stop()


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """Of a cluster of three, none of which our checks find up."""
    api = FakeApi("node1", dict.fromkeys(("node1", "node2", "node3"), MemberState.ALIVE))
    await api.start()
    yield api
    await api.stop()


@asynccontextmanager
async def following(api: FakeApi, **settings: Any) -> AsyncIterator[Balancer]:
    balancer = Balancer(
        settings_for([], **{"discover": (api.address,), "discover_interval_s": 0.02, **settings})
    )
    try:
        await balancer.start()
        yield balancer
    finally:
        await balancer.stop()


async def test_a_token_of_the_nodes_that_was_rotated_in_its_file_is_read_again(
    api: FakeApi, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("before")
    api.token = "before"
    async with following(api, discover_token_file=file) as balancer:
        api.token = "after"
        api.members["node4"] = MemberState.ALIVE
        file.write_text("after")
        await balancer.reload(balancer.settings)
        await until(lambda: "node4" in balancer.pool.nodes)


@pytest.mark.parametrize(
    "name", ["discover", "discover_forget_s", "discover_interval_s", "discover_token_file"]
)
async def test_members_stay_known_when_it_changes_how_they_are_asked_for(
    api: FakeApi, tmp_path: Path, name: str
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    lonely = FakeApi("node2", {"node2": MemberState.ALIVE})  # it was cut off
    await lonely.start()
    try:
        values = {
            "discover": (lonely.address,), "discover_forget_s": 200.0, "discover_interval_s": 0.03, "discover_token_file": token
        }  # fmt: skip
        async with following(api) as balancer:
            assert list(balancer.pool.nodes) == ["node1", "node2", "node3"]
            api.members = {"node1": MemberState.ALIVE}
            asked = api.asked + lonely.asked
            assert await balancer.reload(replace(balancer.settings, **{name: values[name]})) == []
            await until(lambda: api.asked + lonely.asked > asked + 3)
            assert list(balancer.pool.nodes) == ["node1", "node2", "node3"]
    finally:
        await lonely.stop()


async def test_a_change_of_how_members_are_asked_for_does_not_wait_for_the_next_look(api: FakeApi) -> None:
    async with following(api, discover_interval_s=3600.0) as balancer:
        api.members["node4"] = MemberState.ALIVE
        await balancer.reload(replace(balancer.settings, discover_interval_s=1800.0))
        await until(lambda: "node4" in balancer.pool.nodes)


async def test_other_seeds_may_be_of_another_cluster_whose_members_are_the_list_from_then_on(
    api: FakeApi,
) -> None:
    other = FakeApi("blog1", {"blog1": MemberState.ALIVE}, cluster="blog")
    await other.start()
    await other.stop()
    api.apis["node1"] = api.address
    try:
        async with following(api) as balancer:
            asked = api.asked
            await balancer.reload(replace(balancer.settings, discover=(other.address,)))
            await until(
                lambda: api.asked > asked + 1
            )  # the members themselves, for the seed says nothing yet
            assert list(balancer.pool.nodes) == ["node1", "node2", "node3"]
            await other.start()
            await until(lambda: list(balancer.pool.nodes) == ["blog1"])
            other.members["blog2"] = MemberState.ALIVE
            await until(lambda: list(balancer.pool.nodes) == ["blog1", "blog2"])
    finally:
        await other.stop()


async def test_who_has_the_cluster_name_the_nodes_from_now_on_loses_none_of_them(
    nodes: list[ScriptedNode], balancer: Balancer, api: FakeApi
) -> None:
    api.members = {node.name: MemberState.ALIVE for node in nodes}
    api.addresses = {node.name: str(node.address) for node in nodes}
    known = dict(balancer.pool.nodes)
    settings = replace(balancer.settings, node=(), discover=(api.address,))
    assert await balancer.reload(settings) == []
    assert balancer.pool.nodes == known
    assert await balancer.reload(replace(settings, node=settings_for(nodes).node, discover=())) == []
    assert balancer.pool.nodes == known


async def shown(balancer: Balancer) -> str:
    """The last name in its certificate."""
    _, writer = await asyncio.open_connection(*balancer.listen_address, ssl=certificates.client_context())
    names: ssl.SSLObject = writer.get_extra_info("ssl_object")
    found = [str(name) for _, name in names.getpeercert()["subjectAltName"]]  # type: ignore[index,misc]
    writer.close()
    return found[-1]


async def test_a_new_certificate_is_shown_from_then_on(nodes: list[ScriptedNode], tmp_path: Path) -> None:
    certificate, key = certificates.write(tmp_path, "127.0.0.1", "old.example")
    balancer = Balancer(settings_for(nodes, tls_certificate_file=certificate, tls_key_file=key))
    await balancer.start()
    try:
        assert await shown(balancer) == "old.example"
        certificates.write(tmp_path, "127.0.0.1", "new.example")
        await balancer.reload(balancer.settings)
        assert await shown(balancer) == "new.example"
        certificate.write_text("spoilt")
        with pytest.raises(ConfigurationError, match=f"tls_certificate_file {certificate}"):
            await balancer.reload(balancer.settings)
        assert await shown(balancer) == "new.example"
    finally:
        await balancer.stop()


async def test_another_certificate_may_be_in_another_file(nodes: list[ScriptedNode], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, key = certificates.write(tmp_path, "127.0.0.1", "old.example")
    balancer = Balancer(settings_for(nodes, tls_certificate_file=certificate, tls_key_file=key))
    await balancer.start()
    try:
        certificate, key = certificates.write(tmp_path / "other", "127.0.0.1", "new.example")
        settings = replace(balancer.settings, tls_certificate_file=certificate, tls_key_file=key)
        assert await balancer.reload(settings) == []
        assert await shown(balancer) == "new.example"
    finally:
        await balancer.stop()


async def test_whom_we_believe_to_be_a_node_and_what_we_show_it_follow_the_settings(tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    stranger, right = tmp_path / "stranger" / "authority.pem", certificates.write_authority(tmp_path)
    trustme.CA().cert_pem.write_to_path(stranger)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority().issue_cert("127.0.0.1").configure_cert(asking)
    certificates.authority().configure_trust(asking)
    asking.verify_mode = ssl.CERT_REQUIRED
    node = ScriptedNode("node1", serve, tls=asking)
    await node.start()
    balancer = Balancer(settings_for([node], node_tls=True, node_tls_ca_file=stranger))
    await balancer.start()
    try:
        assert "certificate verify failed" in balancer.pool.nodes["node1"].reason
        certificate, key = certificates.write(tmp_path, "balancer")
        settings = replace(
            balancer.settings,
            node_tls_ca_file=right, node_tls_certificate_file=certificate, node_tls_key_file=key,
        )  # fmt: skip
        assert await balancer.reload(settings) == []
        await until(lambda: balancer.pool.up)
        assert (await ask(balancer)).endswith(b"node1")
    finally:
        await balancer.stop()
        await node.stop()


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


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2])
async def test_lines_of_the_access_log_have_the_form_that_is_configured_now(
    nodes: list[ScriptedNode], tmp_path: Path, workers: int
) -> None:
    program = Program(tmp_path)
    program.configure(*nodes, access_log="true", log_format='"console"')
    await program.start("--workers", str(workers))

    def served() -> list[str]:
        return [line for line in program.log.splitlines() if "request.served" in line]

    async def serve_one() -> str:
        before = len(served())
        async with load(program.listen, 1) as answered:
            await until(answered)
        await until(lambda: len(served()) > before)
        return served()[-1]

    try:
        assert not (await serve_one()).startswith("{")
        program.configure(*nodes, access_log="true", log_format='"json"')
        await program.reload()
        assert json.loads(await serve_one())["event"] == "request.served"
    finally:
        assert await program.stop() == 0, program.log
