"""What one node takes: limits of an attribute, of a session, and of everything held here."""

from collections.abc import Mapping

from sessiond.backend import WHOLE
from sessiond.core.copies import ATTRIBUTE_BYTES, COPY_BYTES, Copy
from sessiond.core.options import ATTRIBUTES_MAX, Options
from sessiond.errors import MemoryFull, SessionError, SessionTooLarge


def refusal_of(
    changes: Mapping[str, bytes | None], copy: Copy | None, copies_bytes: int, options: Options
) -> SessionError | None:
    """Why these changes may not be written to `copy` (None: a new session), or None if they may.

    `copies_bytes`: what all copies on this node weigh.
    """
    held: Mapping[str, object] = copy.attributes if copy is not None else {}
    if len(held) + len(changes) > ATTRIBUTES_MAX and len(held.keys() | changes.keys()) > ATTRIBUTES_MAX:
        return SessionTooLarge(
            f"the session would have more than {ATTRIBUTES_MAX} attribute names, deleted ones included;"
            " nothing was written: keep many small things in one attribute"
        )
    added = 0
    for name, value in changes.items():
        if value is None:
            continue
        if len(value) > options.attribute_bytes_max and name != WHOLE:
            return SessionTooLarge(
                f"attribute {name!r} takes {len(value)} bytes; attribute_bytes_max allows"
                f" {options.attribute_bytes_max}; nothing was written: store less in it, or raise the setting"
            )
        old = copy.read(name) if copy is not None else None
        added += len(value) - len(old) if old is not None else len(value) + len(name)
    if added <= 0:
        return None
    size = added
    if copy is not None:
        size += copy.bytes - COPY_BYTES - ATTRIBUTE_BYTES * len(copy.attributes)
    if size > options.session_bytes_max:
        return SessionTooLarge(
            f"the session would take {size} bytes; session_bytes_max allows {options.session_bytes_max};"
            " nothing was written: remove attributes, or raise the setting"
        )
    if copies_bytes + added > options.memory_bytes_max:
        return MemoryFull(
            f"this node holds {copies_bytes} bytes of sessions; memory_bytes_max allows"
            f" {options.memory_bytes_max}; nothing was written: add nodes, or raise the setting"
        )
    return None
