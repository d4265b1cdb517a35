"""Messages and answers as short words, for transcripts: ``< n5/93 Patch s3 4@n5/93 …``."""

from collections.abc import Callable
from typing import Any

from sessiond.core.messages import CopyData, Ping, Pong, Touch
from sessiond.core.types import Attribute, Life, Location, Stamp, Term

UNTOLD = (Ping, Pong, Touch)
"""Messages that say nothing new nearly always."""

INCARNATIONS_FROM = 1_000_000_000
"""Incarnations are milliseconds since long ago; a transcript counts them from the start of the run."""


def words(value: Any, name_of: Callable[[bytes], str]) -> str:
    """Any value of the protocol, without what a reader can do without."""

    def told(value: Any) -> str:
        match value:
            case Life(name, incarnation):
                return f"{name}/{incarnation - INCARNATIONS_FROM}"
            case Term(epoch, owner):
                return f"{epoch}@{told(owner)}"
            case Stamp(term, version):
                return f"v{version} in {told(term)}"
            case Location(term, seq, backups, gone):
                return f"{told(term)}.{seq}{' gone' if gone else ''} [{' '.join(map(told, backups))}]"
            case Attribute(text, stamp):
                return f"{told(text)} ({told(stamp)})"
            case CopyData():
                values = {name: attribute.value for name, attribute in value.attributes.items()}
                end = " tombstone" if value.tombstone else ""
                return f"{told(value.last)}{end} {told(values)}"
            case bytes():
                return name_of(value) if len(value) > 8 else value.decode()
            case dict():
                return " ".join(f"{name}={told(inner)}" for name, inner in value.items())
            case tuple() if hasattr(value, "_fields"):
                return " ".join([type(value).__name__, *map(told, value)])
            case tuple() | list():
                return "[" + ", ".join(map(told, value)) + "]"
            case float():
                return f"{value:.3f}"
        return str(value)

    return told(value)
