"""Every limit of the links between nodes, in one value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLimits:
    """What links may take of memory and time."""

    frame_bytes_max: int = 8 * 1024 * 1024
    """Longest payload of a frame, in both directions. The same on every node; above the largest session."""

    queue_bytes_max: int = 64 * 1024 * 1024
    """Bytes waiting for one peer, the transport's buffer included; beyond it the link is closed: the state is
    sent again when the peer is back. Several times `frame_bytes_max`, or one big frame would close a busy link."""

    connect_timeout_s: float = 0.5
    """For finding a name and connecting to it, together: a vanished container hangs instead of refusing."""

    handshake_timeout_s: float = 2.0
    """From the connection to the open link. Longer than a healthy peer's longest pause."""

    pending_handshakes_max: int = 64
    """Accepted connections that have proven nothing yet; a further one closes the oldest, since an honest
    handshake takes milliseconds. Far above the number of nodes that come back at once."""

    close_timeout_s: float = 0.5
    """How long an ordered end waits for queued frames to leave."""
