"""A node that only records what its hub tells it, and a peer that speaks the protocol by hand."""

import asyncio
import contextlib
import os

from sessiond.core.identity import Identity
from sessiond.core.types import Life
from sessiond.net.framing import HEADER_BYTES, header
from sessiond.net.handshake import Handshake, Role, Stage
from sessiond.net.hub import Hub
from sessiond.net.limits import LinkLimits

SECRET = b"the cluster's secret"
DEADLINE_S = 20


def identity(name="node1", incarnation=1, boot_id=None, cluster_name="shop"):
    boot_id = boot_id or name.encode().ljust(16, b".")
    return Identity(Life(name, incarnation), boot_id, cluster_name, "h:1", "c:1", "a:1", "")


async def until(condition):
    """Wait for a condition, polling at every turn of the loop and a little slower."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - conditions are about many objects; a test may poll
            await asyncio.sleep(0.001)


class Node:
    """Implements LinkEvents. `events` holds what was reported, in order, without the frames."""

    def __init__(
        self, name, *, secrets=(SECRET,), incarnation=1, boot_id=None, cluster_name="shop", **limits
    ):
        self.identity = identity(name, incarnation, boot_id, cluster_name)
        self.hub = Hub(lambda: self.identity, secrets, LinkLimits(**limits), self)
        self.address = ""
        self.events = []
        self.links = []
        self.failures = []
        self.refusals = []
        self.reads = []  # (link, frames) of each call
        self.on_opened = lambda _link: None
        self.answer = None  # to admit: a refusal, None, an exception to raise, or something to await

    @property
    def life(self):
        return self.identity.life

    def frames(self, link):
        return [frame for source, frames in self.reads if source is link for frame in frames]

    async def start(self, address="127.0.0.1:0"):
        host, port = await self.hub.start(address)
        self.address = f"{host}:{port}"
        return self

    async def admit(self, identity, initiated_by_us):
        self.events.append(("admit", identity.life, initiated_by_us))
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, asyncio.Future):
            return await self.answer
        return self.answer

    def link_opened(self, link):
        self.events.append(("opened", link.peer.life))
        self.links.append(link)
        self.hub.check_invariants()
        self.on_opened(link)

    def frames_received(self, link, frames):
        assert frames
        assert link.is_open
        self.reads.append((link, frames))

    def link_closed(self, link, reason):
        self.events.append(("closed", link.peer.life, reason))
        self.hub.check_invariants()

    def link_refused(self, refusal):
        self.refusals.append(refusal)

    def dial_failed(self, address, failure):
        self.events.append(("failed", address, failure.kind))
        self.failures.append(failure)
        self.hub.check_invariants()

    def happened(self, kind):
        return [event for event in self.events if event[0] == kind]


async def linked(one, two):
    """Make a link by a dial of `one`; returns its two ends."""
    one.hub.dial(two.address)
    await until(lambda: one.hub.link_to(two.life) and two.hub.link_to(one.life))
    return one.hub.link_to(two.life), two.hub.link_to(one.life)


class HandPeer:
    """The other end of a connection, driven step by step by a test."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address):
        host, port = address.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port), limit=2**20))

    async def shake_hands(self, who, secrets=(SECRET,)):
        """As the initiator, until the link is open."""
        handshake = Handshake(Role.INITIATOR, who, secrets, os.urandom(16))
        self.say(handshake.begin())
        while handshake.stage is not Stage.OPEN:
            answer = handshake.receive(await self.hear())
            if handshake.stage is Stage.DECISION:
                answer = handshake.decide(None)
            if answer:
                self.say(answer)
        return handshake.peer

    def say(self, payload):
        self.writer.write(header(len(payload)) + payload)

    async def hear(self):
        async with asyncio.timeout(DEADLINE_S):
            size = int.from_bytes(await self.reader.readexactly(HEADER_BYTES), "big")
            return await self.reader.readexactly(size)

    async def ended(self):
        """Read until the other side has ended the connection."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                while await self.reader.read(65536):
                    pass

    async def close(self):
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
