"""llhttp's answers, played by an origin: the client gets them as llhttp reads them, or a 502."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.conformance import by_llhttp
from tests.conformance.llhttp.corpus import Case, cases
from tests.conformance.llhttp.exceptions import ANSWERS
from tests.conformance.llhttp.source import documents
from tests.conformance.messages import Answer, lasting, named_by_connection
from tests.conformance.player import play

pytestmark = pytest.mark.conformance

_INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)")


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return [
        case
        for file, text in documents().items()
        if file.startswith("response/")
        for case in cases(file, text)
    ]


def segments(case: Case) -> list[bytes]:
    """The answers of a case one by one, with what is left: an origin may say only one to a request.

    Interim answers belong to the final one. The empty lines that llhttp allows between answers are left out.
    """
    edges = [0, *(case.ends or ()), len(case.data)]
    found: list[bytes] = []
    interim = b""
    for start, end in pairwise(edges):
        piece = case.data[start:end] if start == 0 else case.data[start:end].lstrip(b"\r\n")
        interim += piece
        if piece and not _INTERIM.match(piece):
            found.append(interim)
            interim = b""
    return [*found, interim] if interim else found


def final(said: bytes) -> Answer | None:
    """The complete final answer in what an origin says, as llhttp reads it."""
    return next(
        (answer for answer in by_llhttp.answers(said).answers if answer.status not in (100, 103)), None
    )


async def verdict(said: bytes, *, bytewise: bool) -> str:
    """What the client got: the answer as llhttp reads it, a 502, a cut, or what is wrong."""
    received = await play(said, bytewise=bytewise)
    if received.surplus:
        return f"bytes behind the answer: {received.surplus!r}"
    if received.answer is None:
        return "nothing"
    if received.answer.status == 502:
        return "502"
    meant = final(said) or by_llhttp.answers(said).partial
    if not received.is_complete:
        return "cut" if meant is None or meant.body.startswith(received.answer.body) else "cut and altered"
    if meant is None:
        return f"an answer that llhttp does not see: {received.answer}"
    sent = meant._replace(fields=lasting(meant.fields, named_by_connection(meant.fields)))
    got = received.answer._replace(fields=lasting(received.answer.fields))
    return "delivered" if got == sent else f"altered: {got}, sent {sent}"


def expected(said: bytes, case: Case) -> set[str]:
    """What may become of a segment."""
    reading = by_llhttp.answers(said)
    if final(said):
        return {"delivered"}
    if reading.error or case.error:
        return {"502"}
    if reading.partial is None:
        return {"502"}  # the head is not complete
    names = {name for name, _ in reading.partial.fields}
    is_framed = bool(names & {b"content-length", b"transfer-encoding"})
    return {"cut", "502"} if is_framed else {"delivered"}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
async def test_answers_are_delivered_or_refused_as_llhttp_does(
    corpus: list[Case], bytewise: bool, show: Callable[[str], None]
) -> None:
    faults: list[str] = []
    counts = dict.fromkeys(("delivered", "502", "cut"), 0)
    for case in corpus:
        for said in segments(case):
            found = await verdict(said, bytewise=bytewise)
            if case.name in ANSWERS:
                if found != ANSWERS[case.name].outcome:
                    faults.append(f"{case.name}: {found}, not as the table of exceptions says")
                continue
            wanted = expected(said, case)
            # Of an answer that turns out malformed, bytes before that may have been passed on.
            if found not in (wanted | {"cut"} if bytewise and "502" in wanted else wanted):
                faults.append(f"{case.name}: {found} for {said!r}; llhttp: {wanted} {case.error}")
            counts[found] = counts.get(found, 0) + 1
    assert faults == []
    assert not ANSWERS.keys() - {case.name for case in corpus}, "exceptions for cases that are not there"
    show(
        f"llhttp's answers {'byte by byte' if bytewise else 'at once'}: {len(corpus)} cases, {counts['delivered']} "
        f"answers delivered, {counts['502']} refused and {counts['cut']} cut as llhttp does, {len(ANSWERS)} cases are exceptions"
    )
