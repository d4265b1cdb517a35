"""The order in which a process starts and ends, with parts that write down what is asked of them."""

import asyncio

import pytest
import structlog

from sessiond.contract.address import Address
from sessiond.daemon import serve
from sessiond.errors import ConfigurationError, JoinRefused


class Parts:
    """Node, host and API of a process; `told` what they were asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sessions_ending = 0
        self.joined = asyncio.Event()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.refusing: dict[str, Exception] = {}
        self.failing_to_stop: dict[str, BaseException] = {}
        self.never_stopping = ""
        self.node = Node("node", self)
        self.host = Host("host", self)
        self.api = Web("api", self)


class Part:
    def __init__(self, name: str, parts: Parts) -> None:
        self.name = name
        self.parts = parts

    async def start(self) -> None:
        if self.name in self.parts.refusing:
            raise self.parts.refusing[self.name]
        self.parts.asked.append(f"{self.name}.start")
        if self.name == "node":
            self.parts.joined.set()

    async def stop(self) -> None:
        self.parts.asked.append(f"{self.name}.stop")
        if self.name in self.parts.failing_to_stop:
            raise self.parts.failing_to_stop[self.name]
        if self.name == self.parts.never_stopping:
            await asyncio.get_running_loop().create_future()
        self.parts.asked.append(f"{self.name}.stopped")


class Web(Part):
    @property
    def address(self) -> Address:
        return Address(f"{self.name}.example", 80)


class Host(Web):
    async def drain(self, timeout_s: float) -> None:
        self.parts.asked.append(f"host.drain {timeout_s}")
        await asyncio.sleep(0)
        self.parts.asked.append("host.drained")


class Node(Part):
    def bound(self, *, http: str, api: str) -> None:
        self.parts.asked.append(f"node.bound {http} {api}")

    async def failed(self) -> None:
        await self.parts.failure

    def begin_drain(self, *, for_good: bool) -> None:
        assert for_good
        self.parts.asked.append("node.begin_drain")

    async def drain(self, timeout_s: float) -> int:
        self.parts.asked.append(f"node.drain {timeout_s}")
        await asyncio.sleep(0)
        return self.parts.sessions_ending


def stops(parts: Parts) -> list[str]:
    return [asked for asked in parts.asked if asked.endswith(".stop")]


async def serve_until_told(parts: Parts) -> None:
    told = asyncio.Event()
    told.set()
    await serve(parts.node, parts.host, parts.api, told, 3.0)


async def test_ports_open_before_the_node_joins_and_close_before_it_leaves() -> None:
    parts = Parts()
    await serve_until_told(parts)
    addresses = "node.bound host.example:80 api.example:80"
    assert parts.asked[:4] == ["api.start", "host.start", addresses, "node.start"]
    assert stops(parts) == ["host.stop", "api.stop", "node.stop"]


async def test_no_session_begins_once_requests_in_flight_finish_beside_the_handing_over() -> None:
    parts = Parts()
    await serve_until_told(parts)
    assert parts.asked[4 : parts.asked.index("host.stop")] == [
        "node.begin_drain",
        "node.drain 3.0",
        "host.drain 3.0",
        "host.drained",
        "node.drain 1.0",
    ]


@pytest.mark.parametrize(("sessions", "lines"), [(0, []), (17, [("node.sessions_end", 17)])])
async def test_sessions_that_nobody_else_holds_are_told(sessions: int, lines: list[tuple[str, int]]) -> None:
    parts = Parts()
    parts.sessions_ending = sessions
    with structlog.testing.capture_logs() as logged:
        await serve_until_told(parts)
    assert [(line["event"], line["sessions"]) for line in logged if line["log_level"] == "warning"] == lines


@pytest.mark.parametrize("part", ["api", "host", "node"])
async def test_a_port_that_cannot_be_had_ends_it_and_everything_is_closed_again(part: str) -> None:
    parts = Parts()
    parts.refusing[part] = ConfigurationError("the port is in use")
    with pytest.raises(ConfigurationError, match="the port is in use"):
        await serve_until_told(parts)
    assert stops(parts) == ["host.stop", "api.stop", "node.stop"]
    assert "node.drain 3.0" not in parts.asked


async def test_a_node_that_cannot_go_on_ends_the_process_with_its_reason_and_without_draining() -> None:
    parts = Parts()
    serving = asyncio.create_task(serve(parts.node, parts.host, parts.api, asyncio.Event(), 3.0))
    await parts.joined.wait()
    parts.failure.set_exception(JoinRefused("the name node1 is taken"))
    with pytest.raises(JoinRefused, match="node1 is taken"):
        await serving
    assert parts.asked[4] == "host.stop"
    assert stops(parts) == ["host.stop", "api.stop", "node.stop"]


@pytest.mark.parametrize("error", [ValueError("the pool is closed twice"), asyncio.CancelledError()])
@pytest.mark.parametrize("part", ["host", "api", "node"])
async def test_a_part_that_cannot_stop_keeps_no_other_from_it_and_is_told(part: str, error: BaseException):
    parts = Parts()
    parts.failing_to_stop[part] = error
    with (
        structlog.testing.capture_logs() as logged,
        pytest.raises(Exception, match=r"closed twice|cancelled"),
    ):
        await serve_until_told(parts)
    assert {asked for asked in parts.asked if asked.endswith(".stopped")} == {
        f"{name}.stopped" for name in ("host", "api", "node") if name != part
    }
    assert [line["part"] for line in logged if line["event"] == "daemon.part_did_not_stop"] == [part]


async def test_a_clean_up_that_takes_too_long_leaves_the_node_its_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sessiond.daemon.PORTS_TIMEOUT_S", 0.01)
    parts = Parts()
    parts.never_stopping = "host"
    with structlog.testing.capture_logs() as logged:
        await serve_until_told(parts)
    assert parts.asked[-1] == "node.stopped"
    assert [line["part"] for line in logged if line["event"] == "daemon.stop_cut_short"] == ["host"]


async def test_a_node_that_takes_too_long_is_left_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sessiond.daemon.NODE_TIMEOUT_S", 0.01)
    parts = Parts()
    parts.never_stopping = "node"
    with structlog.testing.capture_logs() as logged:
        await serve_until_told(parts)
    assert [line["part"] for line in logged if line["event"] == "daemon.stop_cut_short"] == ["node"]


async def test_why_it_could_not_start_is_told_even_if_it_cannot_stop_either():
    parts = Parts()
    parts.refusing["node"] = ConfigurationError("the port is in use")
    parts.failing_to_stop["host"] = ValueError("the pool was never opened")
    with pytest.raises(ConfigurationError, match="the port is in use"):
        await serve_until_told(parts)
    assert parts.asked[-1] == "node.stopped"
