"""How llhttp reads bytes, through httptools: strictly as it is by default, or with every leniency that it has."""

from dataclasses import dataclass, field

import httptools

from tests.conformance.messages import Answer, Message

_LENIENCIES = (
    "headers", "chunked_length", "keep_alive", "transfer_encoding", "version", "data_after_close",
    "optional_lf_after_cr", "optional_cr_before_lf", "optional_crlf_after_chunk", "spaces_after_chunk_size",
)  # fmt: skip


@dataclass
class Reading:
    """The complete messages, and what llhttp had against what follows them (empty: nothing, or it is incomplete).

    `rest`: what follows a message that asks to leave HTTP, where llhttp stops; None if it did not.
    """

    messages: list[Message] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    error: str = ""
    rest: bytes | None = None
    partial: Answer | None = None


class _Collector:
    """Callbacks for a parser, which is set after it was made."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def on_message_begin(self) -> None:
        self._target, self._body = b"", b""
        self._fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if isinstance(self.parser, httptools.HttpResponseParser):
            self.reading.partial = Answer(self.parser.get_status_code(), tuple(self._fields), b"")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if self.reading.partial is not None:
            self.reading.partial = self.reading.partial._replace(body=self._body)

    def on_message_complete(self) -> None:
        fields = tuple(self._fields)
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.reading.messages.append(Message(self.parser.get_method(), self._target, fields, self._body))
        else:
            self.reading.answers.append(Answer(self.parser.get_status_code(), fields, self._body))
            self.reading.partial = None


def _read(
    parser_type: type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser],
    stream: bytes,
    *,
    lenient: bool,
) -> Reading:
    reading = Reading()
    collector = _Collector(reading)
    collector.parser = parser = parser_type(collector)
    if lenient:
        parser.set_dangerous_leniencies(**{f"lenient_{name}": True for name in _LENIENCIES})
    try:
        parser.feed_data(stream)
    except httptools.HttpParserUpgrade as upgrade:
        reading.rest = stream[upgrade.args[0] :]
    except httptools.HttpParserError as error:
        reading.error = str(error)
    return reading


def requests(stream: bytes, *, lenient: bool = False) -> Reading:
    """The requests in a stream."""
    return _read(httptools.HttpRequestParser, stream, lenient=lenient)


def answers(stream: bytes) -> Reading:
    """The answers in a stream, none of them to HEAD. `partial` is the last one, if it is incomplete."""
    return _read(httptools.HttpResponseParser, stream, lenient=False)
