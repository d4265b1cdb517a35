"""The stream of nodes: what it sends, when, and that it costs no session and keeps nobody waiting."""

import asyncio
import json
from unittest.mock import patch

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient

from sessiond.contract.cluster_view import MemberState
from sessiond.demo import events
from tests.demo.fakes import FakeNode

DEADLINE_S = 30


async def next_event(stream: ClientResponse) -> dict[str, str]:
    """The fields of the next event; empty at the end of the stream."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(DEADLINE_S):
        while line := (await stream.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
    return fields


def states(event: dict[str, str]) -> dict[str, str]:
    return {row["name"]: row["state"] for row in json.loads(event["data"])["nodes"]}


async def test_a_stream_begins_with_all_nodes_and_a_short_pause_before_reconnects(shop: TestClient) -> None:
    async with shop.get("/api/events") as stream:
        assert stream.content_type == "text/event-stream"
        event = await next_event(stream)
    assert event["retry"] == "300"
    body = json.loads(event["data"])
    assert body["node"] == "node1"
    assert body["nodes"][1] == {"name": "node2", "state": "alive", "primaries": 0, "backups": 0, "colour": 2}


async def test_a_change_of_membership_is_sent_at_once(shop: TestClient, node: FakeNode) -> None:
    with patch.object(events, "BEAT_S", DEADLINE_S * 2):
        async with shop.get("/api/events") as stream:
            assert states(await next_event(stream))["node2"] == "alive"
            node.set_state("node2", MemberState.DEAD)
            event = await next_event(stream)
    assert states(event)["node2"] == "dead"
    assert json.loads(event["data"])["nodes"][1]["primaries"] is None


async def test_without_a_change_the_nodes_are_sent_again_after_a_beat(shop: TestClient) -> None:
    with patch.object(events, "BEAT_S", 0.01):
        async with shop.get("/api/events") as stream:
            first, second, third = [await next_event(stream) for _ in range(3)]
    assert first["data"] == second["data"] == third["data"]


async def test_a_stream_makes_no_session(shop: TestClient, node: FakeNode) -> None:
    async with shop.get("/api/events") as stream:
        await next_event(stream)
        assert "Set-Cookie" not in stream.headers
    assert node.store == {}


async def test_a_stream_ends_when_its_node_begins_to_leave(shop: TestClient, node: FakeNode) -> None:
    async with shop.get("/api/events") as stream:
        await next_event(stream)
        node.set_state("node1", MemberState.DRAINING)
        assert states(await next_event(stream))["node1"] == "draining"
        assert await next_event(stream) == {}
        assert stream.content.at_eof()


async def test_streams_end_when_the_application_shuts_down(shop: TestClient) -> None:
    async with shop.get("/api/events") as stream:
        await next_event(stream)
        await shop.app.shutdown()
        assert await next_event(stream) == {}
        assert stream.content.at_eof()


async def test_streams_beyond_the_limit_are_refused_until_one_ends(shop: TestClient) -> None:
    with patch.object(events, "STREAMS_MAX", 1), patch.object(events, "BEAT_S", 0.01):
        async with shop.get("/api/events") as stream:
            await next_event(stream)
            async with shop.get("/api/events") as refused:
                assert refused.status == 503
                assert "1 event streams open, its limit" in await refused.text()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with shop.get("/api/events") as again:
                    if again.status == 200:
                        break
