"""Late commits: a request began here, the session moved on meanwhile, its write follows once (protocol 2.7).

A forwarded write carries an id that the copy keeps, so that it applies once even if the primary dies and
the next one gets it too. If the receiver is not the primary either, nothing was written and the caller
hears `Unavailable`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.copies import Copy, Pending, Role
from sessiond.core.effects import Resolve
from sessiond.core.types import Key, Life
from sessiond.errors import Conflict, SessionError, SessionGone, SessionTooLarge, Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

WRITE_ID_BYTES = 12


@dataclass(slots=True)
class _Forwarded:
    operation: int
    to: Life
    deadline: float
    if_version: int | None
    invalidate: bool
    is_rotation: bool


class Forwarding:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._under_way: dict[bytes, _Forwarded] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no commit of this node waits for another one's answer."""
        return not self._under_way

    # --- the node that commits late -------------------------------------------------------------------

    def forward(
        self,
        operation: int,
        key: Key,
        changes: Mapping[str, bytes | None],
        if_version: int | None,
        *,
        invalidate: bool,
        successor: Key | None = None,
    ) -> None:
        """Send a commit to the session's primary; the operation is resolved by its answer."""
        machine = self._machine
        if machine.directory.is_gone(key):
            gone = SessionGone("the session has ended; nothing was written")
            machine.emit(Resolve(operation, None if invalidate and successor is None else gone))
            return
        owner = self._primary_of(key)
        if owner is None:
            reason = "the session has moved and its primary is not known yet; nothing was written: try again"
            machine.emit(Resolve(operation, Unavailable(reason)))
            return
        machine.stats.writes_forwarded += 1
        write_id = machine.rng.randbytes(WRITE_ID_BYTES)
        deadline = machine.now + machine.options.request_wait_s
        self._under_way[write_id] = _Forwarded(
            operation, owner, deadline, if_version, invalidate, successor is not None
        )
        machine.due(deadline)
        machine.send((owner,), m.Forward(key, write_id, dict(changes), if_version, invalidate, successor))

    def _primary_of(self, key: Key) -> Life | None:
        machine = self._machine
        copy, location = machine.copies.get(key), machine.directory.get(key)
        terms = [known.term for known in (copy, location) if known is not None]
        owner = max(terms).owner if terms else None
        return owner if owner is not None and machine.membership.is_linked(owner) else None

    def on_result(self, result: m.ForwardResult) -> None:
        forwarded = self._under_way.pop(result.write_id, None)
        if forwarded is not None:
            self._machine.emit(Resolve(forwarded.operation, self._outcome(forwarded, result)))

    @staticmethod
    def _outcome(forwarded: _Forwarded, result: m.ForwardResult) -> Committed | SessionError | None:
        match result.outcome:
            case "ok":
                return None if forwarded.invalidate else Committed(result.version, result.protected)
            case "gone":
                return (
                    None
                    if forwarded.invalidate and not forwarded.is_rotation
                    else SessionGone("the session has ended; nothing was written")
                )
            case "conflict":
                return Conflict(forwarded.if_version or 0, result.version)
            case "limit":
                return SessionTooLarge(result.detail)
            case "refused":
                return Unavailable("the session is moving between nodes; nothing was written: try again")
            case _:
                return Unavailable(
                    result.detail or "the session's primary gave it up: the write may have been applied"
                )

    def next_deadline(self) -> float | None:
        return min((forwarded.deadline for forwarded in self._under_way.values()), default=None)

    def tick(self, now: float) -> None:
        self._fail([i for i, forwarded in self._under_way.items() if forwarded.deadline <= now])

    def life_ended(self, life: Life) -> None:
        self._fail([i for i, forwarded in self._under_way.items() if forwarded.to == life])

    def _fail(self, write_ids: list[bytes]) -> None:
        for write_id in write_ids:
            forwarded = self._under_way.pop(write_id)
            reason = (
                f"{forwarded.to.name}, the session's primary, did not answer: the write may have been applied"
            )
            self._machine.emit(Resolve(forwarded.operation, Unavailable(reason)))

    # --- the primary ----------------------------------------------------------------------------------

    def on_forward(self, life: Life, forward: m.Forward) -> None:
        machine = self._machine
        key = machine.aliases.resolve(forward.key)
        copy = machine.copies.get(key)
        if machine.directory.is_gone(key):
            machine.send((life,), m.ForwardResult(forward.write_id, "gone", 0, True, ""))
        elif (
            copy is None
            or copy.role is not Role.PRIMARY
            or copy.tombstone
            or not machine.lease.is_held()
            or machine.operations.is_frozen(copy)
        ):
            machine.send((life,), m.ForwardResult(forward.write_id, "refused", 0, True, ""))
        else:
            self._apply(copy, life, forward)

    def _apply(self, copy: Copy, life: Life, forward: m.Forward) -> None:
        machine = self._machine
        machine.touches.note(copy)  # the request that ends there has had the session until now
        pending = Pending(None, 0, forwarded=(life, forward.write_id))
        if forward.write_id in copy.write_ids:
            machine.replication.answer_when_applied(copy, pending)
            return
        if forward.if_version is not None and forward.if_version != copy.version:
            machine.send((life,), m.ForwardResult(forward.write_id, "conflict", copy.version, True, ""))
            return
        if forward.invalidate:
            machine.operations.end(copy, pending, forward.successor)
            return
        refusal = machine.operations.limits_refusal(copy, forward.changes)
        if refusal is not None:
            machine.send(
                (life,), m.ForwardResult(forward.write_id, "limit", copy.version, True, str(refusal))
            )
            return
        machine.replication.write(copy, forward.changes, pending, forward.write_id)
