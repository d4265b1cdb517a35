"""No answer gets past the balancer in a form that a client could read otherwise, and none reaches the wrong request."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.balancer.proxy.stage import Connection, ScriptedNode, Stage
from tests.conformance.payloads.answers import ANSWERS, SURPLUS, AnswerPayload
from tests.conformance.player import read_answer

NEXT = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"
CLAUSES = Counter(payload.clause for payload in ANSWERS)


@dataclass
class Node(ScriptedNode):
    """Says the payload to whoever asks for /bad, and `NEXT` to everybody else, on the same connection."""

    payload: AnswerPayload = ANSWERS[0]
    bytewise: bool = False

    def __post_init__(self) -> None:
        self.script = self._serve_payload

    async def _serve_payload(self, connection: Connection) -> None:
        while request := await connection.request():
            if b" /bad " not in request.line:
                await connection.say(NEXT)
                continue
            said = self.payload.message
            await connection.say(*([said[i : i + 1] for i in range(len(said))] if self.bytewise else [said]))
            if self.payload.closes:
                return


async def faults_of(payload: AnswerPayload, *, bytewise: bool) -> list[str]:
    """What is wrong about what two clients, and two requests of one of them, got."""
    node = Node("node1", payload=payload, bytewise=bytewise)
    bad = payload.method + b" /bad HTTP/1.1\r\nHost: a\r\n\r\n"
    good = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    async with Stage(node, request_fall=1000) as stage:
        client, other = await stage.client(), await stage.client()
        await client.send(bad + good)
        client.half_close()
        said = await client.everything()
        await other.send(good)
        other.half_close()
        others = await other.everything()
    faults = [] if others == NEXT else [f"another client got {others!r}"]
    if b"evil" in said and b"evil" not in payload.body:
        faults.append(f"the hidden answer arrived: {said!r}")
    received = read_answer(said, payload.method)
    if payload.status == 502 and (bytewise or payload.closes) and not received.is_complete:
        return faults  # a part had been passed on before the fault was there to be seen
    if received.answer is None or not received.is_complete:
        return [*faults, f"the client saw {received}"]
    if (received.answer.status, received.answer.body) != (
        payload.status,
        payload.body,
    ) and payload.status != 502:
        faults.append(f"the client got {received.answer}")
    if payload.status == 502 and received.answer.status != 502:
        faults.append(f"it was passed on as {received.answer}")
    if not said.endswith(NEXT) and b"\r\nConnection: close\r\n" not in said:
        faults.append(f"the next request was answered with {received.surplus!r}")
    return faults


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("clause", CLAUSES)
async def test_each_answer_becomes_a_502_or_arrives_with_its_one_meaning(clause: str, bytewise: bool) -> None:
    faults: list[str] = []
    for payload in ANSWERS:
        if payload.clause == clause and not (bytewise and (clause == SURPLUS or len(payload.message) > 3000)):
            faults += [f"{payload}: {fault}" for fault in await faults_of(payload, bytewise=bytewise)]
    assert faults == []


def test_the_table_covers_each_clause_of_answers(show: Callable[[str], None]) -> None:
    keys = {(payload.method, payload.closes, payload.message) for payload in ANSWERS}
    assert len(keys) == len(ANSWERS) >= 100
    assert min(CLAUSES.values()) >= 8
    for clause, count in CLAUSES.items():
        refused = sum(payload.status == 502 for payload in ANSWERS if payload.clause == clause)
        show(f"malformed answers, {clause}: {count} payloads, {refused} to become a 502")
    show(f"malformed answers: {len(ANSWERS)} payloads, each delivered at once and byte by byte")
