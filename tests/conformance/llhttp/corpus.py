"""llhttp's tests as messages with verdicts, read from the Markdown in which its authors keep them.

A case is a heading, a comment with its mode, the bytes (line ends and control characters escaped) and the events that
llhttp reports for them. The events of a strict mode say what llhttp thinks of the bytes. Those of a lenient mode do
not: there llhttp itself is asked, as httptools brings it, which knows no leniency unless told to.

Most of llhttp's requests have no Host, which it leaves to its users to mind. They get one, or they would all be
refused for that; what llhttp says about them stays the same.
"""

import json
import re
from dataclasses import dataclass

from tests.conformance import by_llhttp

STRICT = frozenset({"request", "response", "request-finish", "response-finish"})
HOST = b"Host: conformance\r\n"

_PAUSES = frozenset({"22", "23"})
"""Codes of llhttp's "errors" after a message that asks to leave HTTP: a pause for its user."""

_BLOCK = re.compile(
    r"<!--\s*meta=(\{.*?\})\s*-->\s*```http\n(.*?)```(?:(?!```).)*```log\n(.*?)```", re.DOTALL
)
_HEADING = re.compile(r"^#+ (.*)$|^(.*)\n=+$", re.MULTILINE)
_ERROR = re.compile(r'error code=(\d+) reason="(.*)"')
_FIRST_LINE = re.compile(rb"(?:\r\n)*[^\r\n]* HTTP/[0-9.]+\r\n")


@dataclass(frozen=True)
class Case:
    """`ends`: where in `data` llhttp found complete messages to end, None where it was asked and does not say.

    `complete`: how many there are. `error`: what llhttp has against what follows them, or empty.
    """

    name: str
    data: bytes
    complete: int
    error: str
    ends: tuple[int, ...] | None

    @property
    def is_refused(self) -> bool:
        """Bytes after the last message of a connection are thrown away by most servers, and by us."""
        return bool(self.error) and "Data after" not in self.error


def cases(file: str, text: str) -> list[Case]:
    """All cases of one of the files."""
    found = []
    for match in _BLOCK.finditer(text):
        headings = [first or second for first, second in _HEADING.findall(text[: match.start()])]
        line = text.count("\n", 0, match.start()) + 1
        name = f"{file}:{line} {headings[-1]}"
        data, log = _unescaped(match[2]), match[3]
        mode = json.loads(match[1])
        if mode["type"] in STRICT and "skipBody" not in mode:
            found.append(_told(name, data, log))
        else:
            found.append(_asked(name, data))
    return found


def _told(name: str, data: bytes, log: str) -> Case:
    """A case whose log says what llhttp thinks."""
    error = _ERROR.search(log)
    edits: list[int] = []
    if name.startswith("request/"):
        for message in log.split(" message begin")[1:]:
            line = re.search(r"off=(\d+) version complete", message)
            if line and not re.search(r'span\[header_field\]="host"', message, re.IGNORECASE):
                place = int(line[1]) + 2
                if data[place - 2 : place] == b"\r\n":
                    edits.append(place)
    ends = [int(end) for end in re.findall(r"off=(\d+) message complete", log)]
    for place in reversed(edits):
        data = data[:place] + HOST + data[place:]
    shifted = tuple(end + len(HOST) * sum(place <= end for place in edits) for end in ends)
    return Case(name, data, len(ends), error[2] if error and error[1] not in _PAUSES else "", shifted)


def _asked(name: str, data: bytes) -> Case:
    """A case whose log is about a leniency that we never grant."""
    if name.startswith("response/"):
        reading = by_llhttp.answers(data)
        return Case(name, data, len(reading.answers), reading.error, None)
    line = _FIRST_LINE.match(data)
    if line and b"host:" not in data.lower():
        data = line[0] + HOST + data[line.end() :]
    reading = by_llhttp.requests(data)
    return Case(name, data, len(reading.messages), reading.error, None)


def _unescaped(block: str) -> bytes:
    """The bytes that a block stands for, by the rules of llhttp's test runner."""
    text = block.removesuffix("\n")
    text = re.sub(r"\\\n", "", text).replace("\n", "\r\n")
    for escaped, meant in (("\\r", "\r"), ("\\n", "\n"), ("\\t", "\t"), ("\\f", "\f")):
        text = text.replace(escaped, meant)
    text = re.sub(r"\\x([0-9a-fA-F]+)", lambda match: chr(int(match[1], 16)), text)
    text = re.sub(r"\\([0-7]{1,3})", lambda match: chr(int(match[1], 8)), text)
    if "${" in text:
        raise ValueError("a case computes its text with JavaScript, which nothing here understands")
    return text.encode()
