"""An origin that records the bytes of each of its connections, and answers what a plain server finds in them."""

from dataclasses import dataclass, field

from tests.balancer.proxy.stage import Connection, ScriptedNode
from tests.conformance.messages import Message
from tests.conformance.tempers import disagreements, plain

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
"""The answer to everything: it has no body, whatever the method."""


@dataclass
class Origin(ScriptedNode):
    """`streams`: what came over each connection, in the order in which they were made."""

    streams: list[bytearray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.script = self._record

    async def _record(self, connection: Connection) -> None:
        stream = bytearray()
        self.streams.append(stream)
        answered = 0
        while data := await connection.reader.read(65536):
            stream += data
            complete = len(plain(bytes(stream)))
            await connection.say(NO_CONTENT * (complete - answered))
            answered = complete

    @property
    def messages(self) -> list[Message]:
        """The complete requests, as a plain server reads them."""
        return [message for stream in self.streams for message in plain(bytes(stream))]

    @property
    def disagreements(self) -> list[str]:
        """How servers of other tempers would read what came."""
        return [line for stream in self.streams for line in disagreements(bytes(stream))]
