"""Every error that sessiond raises on purpose.

    SessiondError
    ├── ConfigurationError      the process cannot start as configured
    ├── JoinRefused             the cluster does not take this node: secret, cluster name, node name
    ├── LinkError               a connection between nodes is of no use; it is closed, nothing else is affected
    ├── StoreError              one call to a store failed; it may or may not have been carried out
    │   ├── StoreUnavailable    down, slow, full, read-only: try again later
    │   ├── StoreUnusable       credentials, schema, a damaged place: waiting does not help
    │   └── DamagedRecord       one record cannot be read; the others can, nothing was changed
    │       └── NewerRecord     a newer release has written it, and can read it
    └── SessionError            one session operation failed
        ├── Conflict            save(if_version=…): somebody wrote in between; nothing was written
        │   └── ChangesUndone   what this request read was undone or overwritten beside it; nothing was written
        ├── SessionGone         expired or invalidated; nothing was written
        ├── Unavailable         no answer in time; the write may or may not have been applied
        ├── SessionTooLarge     a size limit; nothing was written
        ├── MemoryFull          this node takes no new data; nothing was written
        ├── ValueNotStorable    an attribute's value has no encoding; nothing was written
        └── ValueNotReadable    a stored attribute cannot be decoded here; nothing was changed

Each text says what happened, whether state changed, and what to do next.
"""


class SessiondError(Exception):
    """Root of the tree."""


class ConfigurationError(SessiondError):
    """The process cannot start as configured; the text names the setting and the way out. Exit code 2."""


class JoinRefused(SessiondError):
    """A member refused this node for good; the text names what differs. Exit code 2."""


class LinkError(SessiondError):
    """A connection between nodes breaks its rules; it is closed, and others are not affected."""


class StoreError(SessiondError):
    """One call to a store failed. It may or may not have been carried out; repeating it is safe."""


class StoreUnavailable(StoreError):
    """The store does not do its work now: down, too slow, full, read-only. The text says which. Try again later."""


class StoreUnusable(StoreError):
    """The store will not do its work until somebody acts: credentials, schema, a damaged place. The text says how."""


class DamagedRecord(StoreError):
    """The record of one key cannot be read. Nothing was changed."""

    def __init__(self, key: bytes, reason: str) -> None:
        super().__init__(f"the stored record {key.hex()} cannot be read: {reason}; it was left as it is")
        self.key = key
        self.reason = reason


class NewerRecord(DamagedRecord):
    """The record was written by a newer program, which can read it."""


class SessionError(SessiondError):
    """One operation on one session failed; others are not affected."""


class Conflict(SessionError):
    """`save(if_version=n)` met a newer version; nothing was written. Read again and retry."""

    def __init__(self, expected: int, found: int, reason: str = "") -> None:
        super().__init__(
            reason or f"the session is at version {found}, not {expected}; nothing was written: read it again"
        )
        self.expected = expected
        self.found = found


class ChangesUndone(Conflict):
    """What this request had read is not the session's any more; nothing was written. Retry.

    A request beside it failed, and what this one had seen of its changes is undone; or, if `overwritten`, another
    node's request wrote these attributes, and this one has changed what it had read of them before.
    """

    def __init__(self, names: list[str], version: int, *, overwritten: bool = False) -> None:
        listed = ", ".join(names)
        if overwritten:
            reason = (
                f"another request has written {listed} since this one read it, and this one has changed what it had "
                "read; nothing was written: read again"
            )
        else:
            reason = (
                f"another request of the session failed, and its changes to {listed}, which this request had seen, "
                "were undone; nothing was written: read again"
            )
        super().__init__(version, version, reason)


class SessionGone(SessionError):
    """The session was invalidated or has expired; nothing was written. Start a new one."""


class Unavailable(SessionError):
    """No answer in time. A write may or may not have been applied: only an answer means "kept"."""

    def __init__(self, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class SessionTooLarge(SessionError):
    """A size limit was hit; nothing was written. The text names attribute, size and setting."""

    @classmethod
    def of_attribute(cls, name: str, size: int, bytes_max: int) -> "SessionTooLarge":
        return cls(
            f"session attribute {name!r} encodes to {size} bytes, more than attribute_bytes_max ({bytes_max}); "
            "nothing was written: store less, or raise the setting on every node"
        )


class MemoryFull(SessionError):
    """The node's memory limit for sessions is reached; nothing was written."""


class ValueNotStorable(SessionError):
    """An attribute holds a value that has no encoding; nothing was written. The text names both."""


class ValueNotReadable(SessionError):
    """A stored attribute cannot be decoded on this node: its type is not registered here. Nothing was changed."""
