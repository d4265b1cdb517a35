"""llhttp's requests, through the balancer to a recording origin: accepted and refused as llhttp does, or explained."""

from collections.abc import Callable

import pytest

from tests.balancer.proxy.stage import Stage
from tests.conformance import by_llhttp
from tests.conformance.llhttp.corpus import Case, cases
from tests.conformance.llhttp.exceptions import REQUESTS, Outcome
from tests.conformance.llhttp.source import documents
from tests.conformance.messages import Message, meaning
from tests.conformance.origin import NO_CONTENT, Origin

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return [
        case
        for file, text in documents().items()
        if file.startswith("request/")
        for case in cases(file, text)
    ]


async def replay(case: Case, *, bytewise: bool) -> tuple[Outcome, list[Message], list[str]]:
    """What came of it, the requests that arrived, and who would read them otherwise."""
    origin = Origin("node1")
    # llhttp refuses as soon as it can, the balancer may first wait for the end of a head.
    data = case.data + b"\r\n\r\n" * case.is_refused
    async with Stage(origin) as stage:
        client = await stage.client()
        await client.send(data, bytewise=bytewise)
        if not client.writer.transport.is_closing():
            client.half_close()
        said = await client.everything()
    own = said.replace(NO_CONTENT, b"").replace(NO_CONTENT[:-2] + b"Connection: close\r\n\r\n", b"")
    own = own.replace(NO_CONTENT[:-2] + b"Connection: keep-alive\r\n\r\n", b"")
    status = int(own.split(b" ")[1]) if own else 0
    return Outcome(len(origin.messages), status), origin.messages, origin.disagreements


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
async def test_requests_are_accepted_and_refused_as_llhttp_does(
    corpus: list[Case], bytewise: bool, show: Callable[[str], None]
) -> None:
    faults: list[str] = []
    accepted = refused = 0
    for case in corpus:
        outcome, arrived, disagreements = await replay(case, bytewise=bytewise)
        faults += [f"{case.name}: {line}" for line in disagreements]
        exception = REQUESTS.get(case.name)
        if exception is not None:
            if outcome != exception.outcome:
                faults.append(
                    f"{case.name}: {outcome}, not {exception.outcome} as the table of exceptions says"
                )
            continue
        accepted += outcome.arrived
        refused += outcome.status > 0
        if outcome.arrived != case.complete or (outcome.status > 0) != case.is_refused:
            faults.append(f"{case.name}: {outcome}; llhttp: {case.complete} complete, {case.error!r}")
        sent = [meaning(message) for message in by_llhttp.requests(case.data).messages]
        if [meaning(message) for message in arrived] != sent:
            faults.append(f"{case.name}: altered on its way: {arrived}, sent {sent}")
    assert faults == []
    unknown = REQUESTS.keys() - {case.name for case in corpus}
    assert not unknown, "exceptions for cases that are not there"
    show(
        f"llhttp's requests {'byte by byte' if bytewise else 'at once'}: {len(corpus)} cases, {accepted} requests "
        f"accepted and {refused} refused as llhttp does, {len(REQUESTS)} cases are exceptions"
    )
