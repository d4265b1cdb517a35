"""Answers played by an origin, and what a client of the balancer gets of them."""

from dataclasses import dataclass
from typing import NamedTuple

import h11

from tests.balancer.proxy.stage import Connection, ScriptedNode, Stage
from tests.conformance.messages import Answer


class Received(NamedTuple):
    """What a client saw. `is_complete`: the answer ended as its framing says; `surplus`: bytes behind it."""

    answer: Answer | None
    is_complete: bool
    surplus: bytes


@dataclass
class Player(ScriptedNode):
    """Answers every request with the same bytes, whole or one by one, and closes."""

    played: bytes = b""
    bytewise: bool = False

    def __post_init__(self) -> None:
        self.script = self._play

    async def _play(self, connection: Connection) -> None:
        if await connection.request() is None:
            return
        size = 1 if self.bytewise else len(self.played) or 1
        for start in range(0, len(self.played), size):
            await connection.say(self.played[start : start + size])


async def play(answer: bytes, *, method: bytes = b"GET", bytewise: bool = False) -> Received:
    """Ask once through a balancer of its own, with a request after which the client has nothing more to say."""
    player = Player("node1", played=answer, bytewise=bytewise)
    async with Stage(player, request_fall=1000) as stage:
        client = await stage.client()
        await client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.half_close()
        return read_answer(await client.everything(), method)


def read_answer(said: bytes, method: bytes) -> Received:
    """The final answer in all that came over a connection, as h11 reads it. Raises h11's error if it is malformed."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(said)
    connection.receive_data(b"")
    answer: Answer | None = None
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            if answer is None and said:
                raise
            return Received(answer, False, b"")
        if isinstance(event, h11.Response):
            answer = Answer(event.status_code, tuple(event.headers), b"")
        elif isinstance(event, h11.Data) and answer is not None:
            answer = answer._replace(body=answer.body + bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return Received(answer, True, connection.trailing_data[0])
        elif not isinstance(event, h11.InformationalResponse):
            return Received(answer, False, b"")
