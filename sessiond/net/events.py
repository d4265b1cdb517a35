"""What the hub tells the node's driver, and asks it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from sessiond.core.identity import Identity, Refusal

if TYPE_CHECKING:
    from sessiond.net.link import Link


class DialFailureKind(StrEnum):
    """Why a dial made no link."""

    REFUSED = "refused"
    """Every address of the name refused the connection at once: nobody listens there."""

    TIMEOUT = "timeout"
    """No connection within `connect_timeout_s`."""

    UNREACHABLE = "unreachable"
    """The network said no in another way (no route, say)."""

    NAME = "name"
    """The name does not resolve, or is no HOST:PORT."""

    LOCAL = "local"
    """This node could not even try (out of file descriptors, say): no evidence about the other one."""

    HANDSHAKE = "handshake"
    """Connected, but the other side hung up, kept silent, or spoke something else."""

    REFUSAL = "refusal"
    """One side refused the link; the failure's `refusal` says why."""


@dataclass(frozen=True, slots=True)
class DialFailure:
    """How a dial failed. `refused_by_us`: the refusal is the own `admit`'s (or the hub's), not the peer's."""

    kind: DialFailureKind
    detail: str
    refusal: Refusal | None = None
    refused_by_us: bool = False


class LinkEvents(Protocol):
    """Implemented by the driver. All but `admit` are called synchronously by the event loop.

    They may call the hub and its links: neither calls back before it has returned.
    """

    async def admit(self, identity: Identity, initiated_by_us: bool) -> Refusal | None:
        """Whether to have a link with this node, which has proven to know a secret. Asked on both sides."""

    def link_opened(self, link: "Link") -> None:
        """A link is open. One that was open to the same life has ended; there is no `link_closed` for it."""

    def frames_received(self, link: "Link", frames: list[bytes]) -> None:
        """The payloads that one read completed, in order; never empty, never from a closed link."""

    def link_closed(self, link: "Link", reason: str) -> None:
        """An open link ended and none has taken its place."""

    def link_refused(self, refusal: Refusal) -> None:
        """A node that dialed us, and has proven to know a secret, refused us. It did not say who it is."""

    def dial_failed(self, address: str, failure: DialFailure) -> None:
        """`Hub.dial` made no link. Each dial ends in this or in `link_opened`, if not in `drop_all`."""
