"""What a node says on its links, as bytes and back.

Most of what is said of where sessions live is the names of lives, so each end of a link numbers them for the other:
as soon as a node has a link to a life, it tells everybody that this is its next number, and a new link gets all that
were told before anything else. A link is FIFO, so a number is known before it is used; it dies with the link.
"""

from collections.abc import Iterator
from typing import Protocol

from sessiond.core.checks import CodecError
from sessiond.core.codec import NUMBERED_MAX, decode, encode
from sessiond.core.messages import Lives, Message
from sessiond.core.types import Life
from sessiond.net.link import Link


class Links(Protocol):
    """What is needed of the hub."""

    def links(self) -> list[Link]:
        """The open links, one to each life."""

    def link_to(self, life: Life) -> Link | None:
        """The open link to a life."""


class Wire:
    """The messages of all links of a node."""

    def __init__(self, hub: Links) -> None:
        self._hub = hub
        self._numbers: dict[Life, int] = {}
        """What this node calls others, on every link."""

        self._numbered: dict[Life, list[Life]] = {}
        """What each peer calls others, on its link."""

    def opened(self, link: Link) -> None:
        """A link is open; nothing has been sent on it."""
        life = link.peer.life
        self._numbered[life] = []
        if life not in self._numbers and len(self._numbers) < NUMBERED_MAX:
            self._numbers[life] = len(self._numbers)
            frame = encode(Lives((life,)))
            for other in self._hub.links():
                if other is not link:
                    other.send(frame)
        link.send(encode(Lives(tuple(self._numbers))))

    def closed(self, link: Link) -> None:
        """A link has ended, and none has taken its place."""
        self._numbered.pop(link.peer.life, None)

    def send(self, sender: Life, to: tuple[Life, ...], message: Message) -> None:
        """Send a message to each of these lives; those without a link are skipped."""
        frame = encode(message, sender, self._numbers)
        for life in to:
            link = self._hub.link_to(life)
            if link is not None:
                link.send(frame)

    def received(self, link: Link, frames: list[bytes]) -> Iterator[Message]:
        """The messages of these frames, one by one. Raises CodecError at the first that is none."""
        sender = link.peer.life
        numbered = self._numbered[sender]
        for frame in frames:
            message = decode(frame, sender, numbered)
            if not isinstance(message, Lives):
                yield message
                continue
            numbered += message.lives
            if len(numbered) > NUMBERED_MAX:
                raise CodecError(f"more than {NUMBERED_MAX} lives have numbers")
