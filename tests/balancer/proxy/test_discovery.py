"""The cluster's list is followed: asked for over HTTP, from whoever answers, and kept when nobody does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from balancer.core.health import Patience
from balancer.core.node_list import NodeList
from balancer.core.pool import Pool
from balancer.proxy.discovery import Discovery
from balancer.settings import Settings
from sessiond.contract.cluster_view import MemberState
from tests.balancer.fake_api import FakeApi
from tests.balancer.proxy.stage import Connection, ScriptedNode, until

PATIENCE = Patience(rise=1, fall=3, request_fall=10)


@pytest.fixture
async def apis() -> AsyncIterator[tuple[FakeApi, FakeApi]]:
    apis = FakeApi("node1"), FakeApi("node2")
    for api in apis:
        await api.start()
        api.members = {"node1": MemberState.ALIVE, "node2": MemberState.ALIVE}
    yield apis
    for api in apis:
        await api.stop()


class Following:
    """A balancer's list that follows `seeds`."""

    def __init__(self, *seeds: FakeApi, **settings: Any) -> None:
        self.pool = Pool(())
        self.checked: list[str] = []
        options = {"discover_interval_s": 0.01, **settings}
        self.discovery = Discovery(
            Settings(discover=tuple(seed.address for seed in seeds), **options),
            self.pool,
            NodeList(self.pool, (), PATIENCE),
            lambda node: self.checked.append(node.name),
        )

    async def __aenter__(self) -> "Following":
        await self.discovery.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.discovery.stop()

    @property
    def names(self) -> list[str]:
        return list(self.pool.nodes)


async def test_a_fault_of_ours_in_the_first_round_is_not_the_end_of_following(
    apis: tuple[FakeApi, FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    following = Following(apis[0])
    hear, failures = following.discovery._heard, [RuntimeError("a fault"), RuntimeError("a fault")]

    def fail_or_hear(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        hear(*arguments)

    monkeypatch.setattr(following.discovery, "_heard", fail_or_hear)
    with structlog.testing.capture_logs() as lines:
        async with following:
            await until(lambda: following.names == ["node1", "node2"])
    assert [line["event"] for line in lines].count("discovery.failed") == 2


async def test_members_are_known_when_it_has_started_and_changes_are_followed(
    apis: tuple[FakeApi, FakeApi],
) -> None:
    api = apis[0]
    async with Following(api) as following:
        assert following.names == ["node1", "node2"]
        assert following.pool.nodes["node1"].zone == "z"
        api.members["node3"] = MemberState.ALIVE
        await until(lambda: following.names == ["node1", "node2", "node3"])
        api.members["node2"] = MemberState.LEFT
        await until(lambda: following.names == ["node1", "node3"])


async def test_when_a_seed_is_gone_the_next_one_and_the_members_themselves_are_asked(
    apis: tuple[FakeApi, FakeApi],
) -> None:
    gone, seed = apis
    learned = FakeApi("node3", dict.fromkeys(("node1", "node2", "node3", "node4"), MemberState.ALIVE))
    await learned.start()
    try:
        seed.members["node3"] = MemberState.ALIVE
        seed.apis["node3"] = learned.address
        await gone.stop()
        async with Following(gone, seed) as following:
            assert following.names == ["node1", "node2", "node3"]
            await seed.stop()
            await until(lambda: "node4" in following.names)
    finally:
        await learned.stop()


async def test_the_last_list_stays_when_nobody_answers_and_is_followed_again_later(
    apis: tuple[FakeApi, FakeApi],
) -> None:
    api = apis[0]
    async with Following(api) as following:
        await api.stop()
        await until(lambda: following.discovery.rounds_failed > 1)
        assert following.names == ["node1", "node2"]
        api.members["node3"] = MemberState.ALIVE
        await api.start()
        await until(lambda: "node3" in following.names)


async def test_a_member_that_nobody_calls_living_any_more_is_forgotten_after_its_time(
    apis: tuple[FakeApi, FakeApi],
) -> None:
    api = apis[0]
    async with Following(api, discover_forget_s=0.1) as following:
        del api.members["node2"]
        await until(lambda: following.names == ["node1"])


async def test_it_starts_with_an_empty_list_when_nobody_is_there_yet(apis: tuple[FakeApi, FakeApi]) -> None:
    api = apis[0]
    await api.stop()
    async with Following(api) as following:
        assert following.names == []
        await api.start()
        await until(lambda: following.names)


async def test_a_member_that_drains_is_checked_at_once(apis: tuple[FakeApi, FakeApi]) -> None:
    api = apis[0]
    async with Following(api) as following:
        node = following.pool.nodes["node2"]
        following.pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)
        assert following.checked == []
        api.members["node2"] = MemberState.DRAINING
        await until(lambda: following.checked)
        assert set(following.checked) == {"node2"}


async def test_the_token_is_sent_where_one_is_wanted(
    apis: tuple[FakeApi, FakeApi], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api = apis[0]
    api.token = "a token of thirty-two characters"[:32].replace(" ", "-")
    file = tmp_path / "token"
    file.write_text(api.token + "\n")
    async with Following(api, discover_token_file=file) as following:
        assert following.names == ["node1", "node2"]
    async with Following(api) as following:
        assert following.names == []
    assert "discover_token_file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "no json"},
        {"text": "[1]"},
        {"text": '{"cluster": "shop", "node": "a", "quorum": "any", "members": [{"name": "a"}]}'},
        {"status": 404},
        {"status": 302, "headers": {"Location": "/v1/cluster"}},
        {"body": b" " * 4_194_305},
    ],
)
async def test_an_answer_that_is_no_view_changes_nothing(
    apis: tuple[FakeApi, FakeApi], answer: dict[str, Any]
) -> None:
    api = apis[0]
    async with Following(api, discover_interval_s=3600) as following:
        before = following.pool.nodes
        api.answer = web.Response(**answer)
        await following.discovery._ask_somebody()
        assert following.discovery.rounds_failed == 1
        assert following.pool.nodes == before


async def test_names_that_do_not_resolve_and_silent_nodes_are_passed_over(
    apis: tuple[FakeApi, FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.proxy.discovery.ASK_TIMEOUT_S", 0.1)

    async def say_nothing(connection: Connection) -> None:
        await connection.closed()

    silent = ScriptedNode("silent", say_nothing)
    await silent.start()
    nowhere, hangs = FakeApi("x", address="vanished.invalid:80"), FakeApi("y", address=str(silent.address))
    try:
        async with Following(nowhere, hangs, apis[0]) as following:
            assert following.names == ["node1", "node2"]
    finally:
        await silent.stop()
