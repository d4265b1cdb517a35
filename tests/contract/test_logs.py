"""Logs: an event name and fields, as a line for people or an object for machines."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from sessiond.contract import logs
from sessiond.settings import Settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Set-up of logging is the process's: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line_with_event_level_time_and_fields() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream, node="node1")
    structlog.get_logger().warning("peer.suspected", peer="node2", silent_s=1.2)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "peer.suspected",
        "level": "warning",
        "node": "node1",
        "peer": "node2",
        "silent_s": 1.2,
    }


def test_auto_is_for_people_on_a_terminal_and_for_machines_elsewhere() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    logs.configure(stream=terminal)
    structlog.get_logger().info("node.joined", members=3)
    assert "node.joined" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    structlog.reset_defaults()
    logs.configure(stream=pipe)
    structlog.get_logger().info("node.joined", members=3)
    assert lines(pipe)[0]["members"] == 3


def test_console_without_a_terminal_has_no_colours() -> None:
    stream = io.StringIO()
    logs.configure("console", stream=stream)
    structlog.get_logger().info("node.joined")
    assert "node.joined" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_what_is_below_the_level_is_not_said() -> None:
    stream = io.StringIO()
    logs.configure("json", level="warning", stream=stream)
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_libraries_that_log_their_own_way_get_the_same_shape() -> None:
    stream = io.StringIO()
    logs.configure("json", level="debug", stream=stream, node="node1")
    logging.getLogger("aiohttp.access").warning("%s of %d", "one", 2)
    logging.getLogger("asyncio").debug("chatter")
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["node"]) == ("one of 2", "warning", "node1")


def test_an_exception_is_part_of_its_line() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    structlog.get_logger().error("request.failed", exc_info=ValueError("of all things"))
    (line,) = lines(stream)
    assert "of all things" in json.dumps(line["exception"])


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_trace_shows_where_it_broke_and_nothing_of_what_was_in_hand(log_format: str) -> None:
    stream = io.StringIO()
    logs.configure(log_format, stream=stream)
    settings = Settings(store="redis://shop:open-sesame@127.0.0.1/0")
    cookie = "SESSIONID=0123456789abcdef.node1"

    def handler(cookie: str) -> None:
        card = "4111-1111-1111-1111"
        raise ValueError(f"broken after {len(card)} digits, {len(cookie)} characters and {settings.name}")

    for log in (structlog.get_logger(), logging.getLogger("aiohttp.server")):
        try:
            handler(cookie)
        except ValueError:
            log.exception("request.failed")
    said = stream.getvalue()
    assert said.count("broken after 19 digits") == 2
    assert "in handler" in said or '"name": "handler"' in said
    for secret in ("0123456789abcdef", "4111", "open-sesame"):
        assert secret not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("xml",), "'xml' is none of auto, console, json"),
        (("json", "loudly"), "'loudly' is none of debug, info"),
    ],
)
def test_an_unknown_format_or_level_is_refused_with_those_that_exist(
    arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        logs.configure(*arguments)


def test_set_up_again_nothing_is_said_twice() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    logs.configure("json", stream=stream)
    logging.getLogger("aiohttp.access").warning("once")
    assert [line["event"] for line in lines(stream)] == ["once"]
