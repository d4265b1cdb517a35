"""An id that this cluster did not give out, or whose session has ended, never becomes anybody's session."""

import secrets
from collections.abc import Awaitable, Callable

import pytest

from sessiond.contract.session_id import RANDOM_BYTES, TOKEN_CHARS, Keyring, join
from tests.e2e.client import Cookie
from tests.e2e.cluster import SECRET, Cluster

pytestmark = pytest.mark.process


async def test_a_forged_foreign_malformed_or_dead_id_gets_a_fresh_one(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=2, app="tests.e2e.apps:create_app")
    victim = cluster.browser()
    (await victim.post("/number/7")).good()
    logged_out = cluster.browser()
    (await logged_out.post("/number/7")).good()
    ended = logged_out.cookie.session_id
    (await logged_out.post("/log-out")).good()

    valid = victim.cookie.session_id
    first = "A" if valid[0] != "A" else "B"
    bad = {
        "forged": first + valid[1:],
        "of another cluster": own_token(b"another secret, also of 32 chars"),
        "never given out": own_token(SECRET.encode()),
        "logged out": ended,
        "without a suffix": valid[:TOKEN_CHARS],
        "cut short": valid[5:],
        "chosen by an attacker": "x" * TOKEN_CHARS + ".node1",
        "a path": "../../etc/passwd",
        "of odd bytes": "\xff\xfe" * 20 + ".node1",
    }
    for kind, session_id in bad.items():
        for node in cluster.nodes:
            visitor = cluster.browser_at(node, Cookie(session_id))
            presented = visitor.cookie.token
            answer = (await visitor.post("/number/1")).good()
            assert answer == {"node": node, "number": 0}, kind  # what was there before: nothing
            fresh = visitor.cookie.token
            assert fresh not in (presented, victim.cookie.token), kind
            assert len(fresh) == TOKEN_CHARS, kind
            await visitor.close()
    assert (await victim.get("/number")).good()["number"] == 7
    assert victim.cookie.tokens == [valid[:TOKEN_CHARS]]


async def test_an_unknown_suffix_is_no_address_and_the_session_is_found_nevertheless(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=2, app="tests.e2e.apps:create_app")
    visitor = cluster.browser()
    (await visitor.post("/number/7")).good()
    token = visitor.cookie.token
    visitor.cookie.session_id = join(token, "node9")
    answer = (await visitor.get("/number")).good()
    assert answer["number"] == 7
    assert visitor.cookie.session_id == join(token, answer["node"])


def own_token(secret: bytes) -> str:
    return join(Keyring([secret], "default").new_token(secrets.token_bytes(RANDOM_BYTES)), "node1")
