"""What answers is a node's API, but not one that this release knows: one sentence with its address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web

from sessiond.commands.client import Asking, CommandFailed
from sessiond.commands.locate import show_location
from sessiond.commands.status import show_status
from sessiond.contract.cluster_view import ClusterView
from sessiond.contract.location_view import LocationView
from tests.commands.test_status import ALIVE
from tests.support.wire import serving

PLACE = LocationView("0" * 32, "node1", ("node2", "node3"), 3, 7)


@asynccontextmanager
async def answering(body: object) -> AsyncIterator[Asking]:
    """An API whose every answer is this."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serving(app) as port:
        yield Asking(api=f"127.0.0.1:{port}")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "body",
    [{"ok": 1}, [], None, "node1", {**PLACE.to_json(), "backups": None}, {"key": "0", "version": None}],
)
async def test_an_answer_that_is_no_location_is_told(body, *, as_json):
    async with answering(body) as asking:
        with pytest.raises(CommandFailed, match=f"the node at {asking.api} answers what this version"):
            await show_location("x", asking, as_json=as_json)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "body", [{"ok": 1}, [], None, ClusterView("default", "node9", "any", (ALIVE,)).to_json()]
)
async def test_an_answer_that_is_no_cluster_with_its_own_node_in_it_is_told(body, *, as_json):
    async with answering(body) as asking:
        with pytest.raises(CommandFailed, match=f"the node at {asking.api} answers what this version"):
            await show_status(asking, as_json=as_json)


async def test_a_location_is_told_to_people_and_to_programs(capsys):
    async with answering({**PLACE.to_json(), "since": "a later release says more"}) as asking:
        await show_location("x", asking, as_json=False)
        lines = capsys.readouterr().out.splitlines()
        assert lines[1:] == ["primary  node1", "backups  node2, node3", "epoch    3", "version  7"]
        await show_location("x", asking, as_json=True)
        assert capsys.readouterr().out.startswith('{"key": "0000')
    async with answering(replace(PLACE, backups=(), version=None).to_json()) as asking:
        await show_location("x", asking, as_json=False)
        assert "not protected" in (told := capsys.readouterr().out)
        assert "not known to the node that was asked" in told
