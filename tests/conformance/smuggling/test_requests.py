"""No request gets past the balancer in a form that the next server could read otherwise.

Judged by what the origin received: as many requests as were accepted, none altered in meaning, and read alike by
servers of every temper. All payloads of a clause share a balancer, so none may spoil it for the next either.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from tests.balancer.proxy.stage import Stage
from tests.conformance.messages import meaning
from tests.conformance.origin import NO_CONTENT, Origin
from tests.conformance.payloads import PAYLOADS
from tests.conformance.payloads.types import HIDDEN, Payload
from tests.conformance.tempers import plain

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
CLAUSES = Counter(payload.clause for payload in PAYLOADS)

DELIVERIES: dict[str, tuple[int, int, bool]] = {
    # good requests before, good requests behind, byte by byte
    "alone": (0, 0, False),
    "behind good ones": (2, 0, False),
    "before a good one": (0, 1, False),
    "between good ones": (1, 1, False),
    "byte by byte": (0, 1, True),
}


def faults_of(payload: Payload, before: int, behind: int, origin: Origin, answers: bytes) -> list[str]:
    """What is wrong about what became of a payload between good requests."""
    faults = list(origin.disagreements)
    arrived = origin.messages
    if payload.status:
        wanted = [b"/good"] * before
        if not answers.startswith(NO_CONTENT * before):
            faults.append(f"good requests before it were answered {answers[:80]!r}")
        own = answers[len(NO_CONTENT) * before :]
        if not own.startswith(b"HTTP/1.1 %d " % payload.status) or own.count(b"HTTP/1.1 ") != 1:
            faults.append(f"it was answered {own[:80]!r}")
        if b"\r\nConnection: close\r\n" not in own:
            faults.append("its connection went on")
    else:
        wanted = [b"/good"] * before
        (sent,) = plain(payload.message)
        if len(arrived) <= before or meaning(arrived[before]) != meaning(sent):
            faults.append(f"it arrived as {arrived[before:]}")
        wanted.append(arrived[before].target if len(arrived) > before else b"")
        said = arrived[before].values(b"x-forwarded-for") if len(arrived) > before else []
        if said != [b"127.0.0.1"]:
            faults.append(f"the origin is told that it came from {said}")
        wanted += [b"/good"] * (behind if b" HTTP/1.0\r\n" not in payload.message else 0)
    if [message.target for message in arrived] != wanted:
        faults.append(f"the origin received {[message.target for message in arrived]}")
    return faults


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("clause", CLAUSES)
async def test_each_payload_is_refused_or_arrives_with_its_one_meaning(clause: str, delivery: str) -> None:
    before, behind, bytewise = DELIVERIES[delivery]
    faults: list[str] = []
    for payload in PAYLOADS:
        if payload.clause != clause or (bytewise and payload.is_large):
            continue
        origin = Origin("node1")
        async with Stage(origin) as stage:
            client = await stage.client()
            hidden = HIDDEN if payload.status else b""
            await client.send(GOOD * before + payload.message + hidden + GOOD * behind, bytewise=bytewise)
            if not client.writer.transport.is_closing():
                client.half_close()
            answers = await client.everything()
        faults += [f"{payload}: {fault}" for fault in faults_of(payload, before, behind, origin, answers)]
    assert faults == []


def test_the_table_covers_each_clause(show: Callable[[str], None]) -> None:
    assert len({payload.message for payload in PAYLOADS}) == len(PAYLOADS) >= 200
    assert min(CLAUSES.values()) >= 8
    for clause, count in CLAUSES.items():
        refused = sum(payload.status > 0 for payload in PAYLOADS if payload.clause == clause)
        show(f"smuggling, {clause}: {count} payloads, {refused} to be refused")
    show(f"smuggling: {len(PAYLOADS)} payloads, each delivered in {len(DELIVERIES)} ways")
