"""What the core asks the driver to do. The core decides and reserves; the driver acts and reports back."""

from typing import Any, NamedTuple

from sessiond.core.identity import Refusal
from sessiond.core.messages import Message
from sessiond.core.stored import Stored
from sessiond.core.types import Key, Life


class Send(NamedTuple):
    """Send one message to each of these lives; those without a link are skipped."""

    to: tuple[Life, ...]
    message: Message


class Dial(NamedTuple):
    """Try to make a link to whoever answers at this address; report the outcome, good or bad."""

    address: str


class DropLink(NamedTuple):
    """Close the link to this life; nothing that comes by it counts any more."""

    life: Life
    reason: str


class NewLife(NamedTuple):
    """This node goes on under another life: close every link and hand-shake anew."""

    life: Life


class Admission(NamedTuple):
    """The answer to `Machine.admit` number `number`: None welcomes."""

    number: int
    refusal: Refusal | None


class Resolve(NamedTuple):
    """An operation of the application is done; an exception is its failure."""

    operation: int
    outcome: Any


class StoreWrite(NamedTuple):
    """Write these records; report by `Machine.stored` or `Machine.store_failed`, with the batch's number."""

    number: int
    records: tuple[Stored, ...]


class StoreRead(NamedTuple):
    """Read the record of this key; report by `Machine.store_read`."""

    key: Key


class Log(NamedTuple):
    """An event worth a line; `level` as in structlog."""

    level: str
    event: str
    fields: dict[str, Any]


class MembersChanged(NamedTuple):
    """The list of members, or something shown of them, is not what it was."""


class JoinRefusedForGood(NamedTuple):
    """A seed refused this node before it joined, and will do so again: give up and say why."""

    refusal: Refusal
    address: str


Effect = (
    Send
    | Dial
    | DropLink
    | NewLife
    | Admission
    | Resolve
    | StoreWrite
    | StoreRead
    | Log
    | MembersChanged
    | JoinRefusedForGood
)
