"""Two requests of one session reach two survivors at the same moment: one session comes out of it, with both counted."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.client import Answer, Cookie
from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.process

VICTIM = "node1"
SESSIONS = 200


async def test_parallel_requests_at_two_survivors_have_one_winner_and_both_count(
    start_cluster: Callable[..., Awaitable[Cluster]], show: Callable[[str], None]
) -> None:
    cluster = await start_cluster(nodes=4)
    ids = [await begin_session(cluster) for _ in range(SESSIONS)]
    assert len(set(ids)) == SESSIONS
    survivors = [name for name in cluster.nodes if name != VICTIM]
    cluster.kill(VICTIM)

    outcomes = await asyncio.gather(
        *(
            race(cluster, session_id, (survivors[index % 3], survivors[(index + 1) % 3]))
            for index, session_id in enumerate(ids)
        )
    )
    answers = [answer for outcome in outcomes for answer in outcome[0]]
    show(
        f"race of two requests at two survivors: {len(answers)} requests, "
        f"{sum(answer.status == 200 for answer in answers)} answered 200, "
        f"{sum(sorted(visits(outcome[0])) == [2, 3] for outcome in outcomes)} of {SESSIONS} sessions counted both"
    )
    for (answers, cookies), session_id in zip(outcomes, ids, strict=True):
        assert [answer.status for answer in answers] == [200, 200], [answer.body for answer in answers]
        assert sorted(visits(answers)) == [2, 3]
        token = session_id.partition(".")[0]
        assert {*cookies[0].tokens, *cookies[1].tokens} == {token}

    places = [await cluster.agreed_place(session_id) for session_id in ids]
    assert all(place.primary in survivors and len(place.backups) == 1 for place in places)
    for session_id, place in zip(ids, places, strict=True):
        browser = cluster.browser_at(place.primary, Cookie(session_id))
        assert (await browser.get("/api/session")).good()["visits"] == 4
        await browser.close()


async def begin_session(cluster: Cluster) -> str:
    browser = cluster.browser_at(VICTIM)
    assert (await browser.get("/api/session")).good()["visits"] == 1
    await browser.close()
    return browser.cookie.session_id


async def race(
    cluster: Cluster, session_id: str, nodes: tuple[str, str]
) -> tuple[list[Answer], list[Cookie]]:
    browsers = [cluster.browser_at(node, Cookie(session_id)) for node in nodes]
    answers = await asyncio.gather(*(browser.get("/api/session") for browser in browsers))
    for browser in browsers:
        await browser.close()
    return list(answers), [browser.cookie for browser in browsers]


def visits(answers: list[Answer]) -> list[int]:
    return [answer.json()["visits"] if answer.status == 200 else -1 for answer in answers]
