"""Sessions as an application sees them: a mapping for one request, and what keeps it and the node in step.

A `Session` is the part of one request in a `Live`, the state that all requests of the session on this node
share. Its life: `Sessions.attach` or `Sessions.new`; reads and writes by the application; `settle` before the
first byte of the response; `release` if the application goes on after that (a stream, a WebSocket); `close`.
A request that failed calls `undo` instead of `settle`.

Invariant: nothing reaches the node before a commit; what a commit did not get an answer for is not considered
saved. A session is created by the first commit that stores something, so that a visitor who stores nothing
costs nothing.
"""

import secrets
from collections.abc import Coroutine, Iterator, MutableMapping, Sequence, Set
from enum import Enum
from typing import Any

from sessiond.aliases import SharedObjects
from sessiond.backend import Backend, Checkout, Elsewhere
from sessiond.content import ABSENT, Content, Detached, Snapshot
from sessiond.contract.session_id import RANDOM_BYTES, Key, Keyring
from sessiond.errors import ChangesUndone, Conflict, SessionGone, Unavailable
from sessiond.granularity import contents
from sessiond.live import NAME_BYTES_MAX, NOTHING, Live, checked_name

ROTATE_TRIES = 3
"""Times that a rotation is begun anew because another node's request wrote meanwhile."""

TOUCHED_ABSENT_MAX = 100
"""Names that a request has touched, up to which those count that are not there; a WebSocket may ask for any number."""


class Sessions:
    """All sessions that requests have open on one node."""

    def __init__(
        self, backend: Backend, keyring: Keyring, granularity: str, attribute_bytes_max: int
    ) -> None:
        self.backend = backend
        self.keyring = keyring
        self.shared_objects = SharedObjects()
        self.content = contents(granularity, attribute_bytes_max)
        """What the application sees of a session, over what of it is committed."""
        self._live: dict[Key, Live] = {}

    def new(self) -> "Session":
        """A session for a visitor who has none; it exists nowhere else until something is stored."""
        return Session(self, None, None, "")

    def attach(self, key: Key, token: str, route: str, checkout: Checkout) -> "Session":
        """The session that a request has opened at the node; `close` releases the checkout.

        `route`: the node that the visitor's cookie names.
        """
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = Live(key, self.content(checkout))
        else:
            live.adopt(checkout)
        session = Session(self, live, token, route)
        live.views += (session,)
        live.holders += 1
        return session

    def share(self, live: Live) -> None:
        """Later requests of a session that was just created meet this state."""
        if live.key is not None:
            self._live[live.key] = live

    def forget(self, live: Live) -> None:
        """The session ended, or no request has it any more."""
        if live.key is not None and self._live.get(live.key) is live:
            del self._live[live.key]

    def __len__(self) -> int:
        return len(self._live)


class Stage(Enum):
    """How far a request is: its response has not begun; it has, and the application goes on; it is done."""

    HELD = "held"
    BEGUN = "begun"
    OVER = "over"


HELD, BEGUN, OVER = Stage.HELD, Stage.BEGUN, Stage.OVER


class Session(MutableMapping[str, Any]):
    """One visitor's session, for one request.

    Values: see `sessiond.values`. Changes inside lists and dicts are noticed. Everything is committed before
    the response begins; `save` commits earlier, or later in a stream or WebSocket.
    """

    __slots__ = (
        "_live",
        "_new",
        "_sessions",
        "detached",
        "ended",
        "route",
        "stage",
        "token",
        "touched",
        "undone",
    )

    def __init__(self, sessions: Sessions, live: Live | None, token: str | None, route: str) -> None:
        self._sessions = sessions
        self._live = live
        self._new = live is None
        self.token = token
        """What the visitor's cookie must say; None while there is no session. A secret: never log it."""
        self.route = route
        """The node that the visitor's cookie with this token names; empty if he has no such cookie."""
        self.ended = False
        """Whether this request has invalidated the session it came with."""
        self.stage = HELD
        self.touched: set[str] = set()
        self.undone: Set[str] = NOTHING
        self.detached: Sequence[Detached] = ()

    # --- for the application ----------------------------------------------------------------------------

    @property
    def new(self) -> bool:
        """Whether the session did not exist when this request came."""
        return self._new

    @property
    def key(self) -> str | None:
        """The session's name inside the cluster, 32 hex digits; None before it is created. No secret: log it."""
        key = self._shared().key
        return None if key is None else key.hex()

    @property
    def version(self) -> int:
        """Number of committed writes; 0 before the session is created."""
        return self._shared().version

    async def save(self, if_version: int | None = None) -> None:
        """Commit now and wait until every backup has applied it, whatever `ack` and `flush` say.

        With `if_version`, raise `Conflict` and write nothing if somebody wrote since that `version`. What this
        request changed is then taken back: read again, change again, save again. Other errors leave the changes
        in place, to be saved later or not. Raises `Conflict`, `SessionGone`, `SessionTooLarge`, `MemoryFull`,
        `ValueNotStorable`, `Unavailable`.
        """
        live = self._shared()
        if self.stage is HELD or live.key is None:
            await self._commit(live, if_version, flush=True)
            return
        await self._reopen(live, live.key)
        live.holders += 1
        try:
            await self._commit(live, if_version, flush=True)
        finally:
            live.leave_hold()

    async def invalidate(self) -> None:
        """End the session, on every node; afterwards this is a new and empty one. Raises `Unavailable`."""
        live = self._shared()
        if live.key is not None:
            await live.turn()
            live.begin_commit()
            try:
                await self._sessions.backend.invalidate(live.key)
            finally:
                live.end_commit()
            self.ended = True
        self._move_to(self._nothing(), None)
        self.touched.clear()
        self.detached = ()
        self._new = True

    async def rotate(self) -> None:
        """Go on under a new token, with all attributes: call it when the visitor's rights change.

        For `rotate_grace_s` the old token answers with this session, for the visitor's other requests under way;
        after that it is worth nothing, and requests that came with it cannot write any more. Raises what `save`
        raises, `Conflict` only if others keep writing.

        A request that came with the old token cannot rotate, `SessionGone`: it would give the session to whoever
        had planted that token before the log-in. The second request of a double-clicked log-in hears that, too.
        """
        if self.stage is BEGUN:
            raise RuntimeError(
                "the response has begun, so the new token cannot reach the visitor; rotate before that"
            )
        old = self._shared()
        if old.key is None:
            return
        await old.turn()
        old.begin_commit()
        try:
            self._refuse_undone(old)
            live, token = await self._successor_of(old, old.key)
        finally:
            old.end_commit()
        self._move_to(live, token)
        self._sessions.share(live)

    async def _successor_of(self, old: Live, old_key: Key) -> tuple[Live, str]:
        """The same state under a new key, stored, and its token; the old key has ended."""
        backend = self._sessions.backend
        for tries_left in reversed(range(ROTATE_TRIES)):
            # What this node does not know yet is a conflict below, since a rotation counts the version on.
            if backend.is_over(old_key):
                raise SessionGone(
                    "the session has ended, or another request has given it a new id, since this one came; nothing "
                    "was written: load the page again, and log in again if need be"
                )
            old.catch_up()
            attributes = old.content.everything()
            version = old.version
            token, key = self._new_token()
            committed = await backend.commit(key, attributes, create=True, after=version, flush=True)
            try:
                # Only now: until then the old session is the visitor's, and the new token unknown to all.
                await backend.rotate(old_key, key, version)
            except Unavailable:
                # It may have been applied. If that is known, the visitor has to get the new token: nobody else has it.
                # If not he keeps the old one, and may find his session gone after the grace.
                if not self._answers_as(old_key, key):
                    raise
                break
            except SessionGone:
                await backend.invalidate(key)
                raise
            except Conflict:
                await backend.invalidate(key)
                if not tries_left:
                    raise
                await self._reopen(old, old_key)
            else:
                break
        return Live(key, old.content.successor(Snapshot(committed.version, attributes))), token

    def _answers_as(self, old_key: Key, key: Key) -> bool:
        """Whether this node knows that the old key stands for the session of this one, and no other request's."""
        checkout = self._sessions.backend.try_open(old_key)
        if checkout is None:
            return False
        checkout.release()
        return checkout.key == key

    def __getitem__(self, name: str) -> Any:
        value = self._read(name)
        if value is ABSENT:
            raise KeyError(name)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        value = self._read(name)
        return default if value is ABSENT else value

    def __setitem__(self, name: str, value: Any) -> None:
        if type(name) is not str or not name.isascii() or not 0 < len(name) <= NAME_BYTES_MAX:
            name = checked_name(name)
        (self._live or self._shared()).content.write(name, value)
        self.touched.add(name)

    def __delitem__(self, name: str) -> None:
        content = self._shared().content
        if not content.has(name):
            raise KeyError(name)
        content.write(name, ABSENT)
        self.touched.add(name)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        content = self._shared().content
        if not content.has(name):
            self._touch_absent(content, name)
            return False
        self.touched.add(name)
        return True

    def __iter__(self) -> Iterator[str]:
        return self._shared().content.names()

    def __len__(self) -> int:
        return sum(1 for _ in self._shared().content.names())

    def __eq__(self, other: object) -> bool:
        return self is other  # two requests' sessions are two things, whatever they hold

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        if self.stage is OVER:
            return "<Session of a request that is over>"
        return f"<Session {self.key or 'new'} version={self.version}>"

    # --- for adapters -----------------------------------------------------------------------------------

    @property
    def is_untouched(self) -> bool:
        """Whether there is no session and nobody has asked for one: nothing to settle."""
        return self._live is None

    @property
    def is_superseded(self) -> bool:
        """Whether the token has been rotated, or its session ended: the visitor's newer cookie must stay."""
        if self.token is None:
            return False
        key = self._sessions.keyring.key_of(self.token)
        return key is not None and self._sessions.backend.is_over(key)

    def settle(self) -> Coroutine[Any, Any, None]:
        """Commit what changed, or wait until what was read is safe. Raises what `save` raises."""
        return self._commit(self._shared(), None, flush=False)

    def undo(self) -> None:
        """The request failed: take back what it changed and did not save."""
        if self._live is not None:
            self._live.undo(self)

    def release(self) -> None:
        """The response has begun: the node may give the session away. Reads go on, and `save` opens it again."""
        self.stage = BEGUN
        if self._live is not None:
            self._live.leave_hold()

    def close(self) -> Sequence[str]:
        """The request is over. Names of attributes that it changed and never saved; their changes are gone."""
        live, begun = self._live, self.stage is BEGUN
        self.stage = OVER
        if live is None:
            return ()
        lost: Sequence[str] = ()
        try:
            if begun:
                # What differs has a str for its name; what was only asked for can be anything, and cannot be sorted.
                unsaved = {name for name in self.touched if live.content.differs(name)}
                if lost := sorted(unsaved | self._changed_in_vain(live)):
                    live.undo(self)
        finally:
            self._leave(live, held=not begun)
            self._live = None
        return lost

    # ----------------------------------------------------------------------------------------------------

    def _shared(self) -> Live:
        if self._live is None:
            if self.stage is OVER:
                raise RuntimeError(
                    "the request that this session was given to is over; sessions do not outlive a request"
                )
            self._live = self._nothing()
            self._live.views = (self,)
            self._live.holders = 1
        return self._live

    def _read(self, name: str) -> Any:
        """What the attribute is, or ABSENT."""
        content = (self._live or self._shared()).content
        value = content.read(name)
        if value is ABSENT:
            self._touch_absent(content, name)
        else:
            self.touched.add(name)
        return value

    def _touch_absent(self, content: Content, name: str) -> None:
        # That it is not there may be a deletion that is taken back; beyond the limit that is looked at each time.
        if len(self.touched) < TOUCHED_ABSENT_MAX or content.differs(name):
            self.touched.add(name)

    def _nothing(self) -> Live:
        """The state of a session that does not exist yet."""
        return Live(None, self._sessions.content(Snapshot(0, {})))

    async def _commit(self, live: Live, if_version: int | None, *, flush: bool) -> None:
        # A commit of this node's other requests that we wait for writes what we have seen: it is no conflict.
        seen = live.foreign if if_version is not None and if_version == live.version else None
        if live.committing:
            await live.turn()
        if self.undone or self.detached:
            self._refuse_undone(live)
        if seen == live.foreign:
            if_version = live.version
        changes = live.content.changes()
        repeats = bool(changes) and live.content.repeats(changes)
        live.begin_commit()
        try:
            if live.key is None:
                await self._create(live, changes, if_version, flush=flush)
                return
            if repeats and if_version is None:
                changes = await self._repeat(live, live.key, changes, flush=flush)
            else:
                backend = self._sessions.backend
                committed = await backend.commit(live.key, changes, if_version=if_version, flush=flush)
                live.committed(changes, committed.version)
        except Conflict as conflict:
            live.undo(self)
            if live.key is not None:
                # The checkout follows the copy here. Opening the session anew while we hold it would wait for a
                # handoff that waits for us, so that is for a session which has moved.
                if live.content.source.version < conflict.found:
                    await self._reopen(live, live.key)
                live.catch_up()
            raise
        except SessionGone:
            if (changes and not repeats) or if_version is not None:
                raise
            # What was read was true when the request came; that the session ended since does not make it wrong.
        finally:
            live.end_commit()
        if changes and live.key is not None and (pairs := live.content.shared(changes.keys())):
            self._sessions.shared_objects.warn(live.key, pairs)

    async def _repeat(
        self, live: Live, key: Key, changes: dict[str, bytes | None], *, flush: bool
    ) -> dict[str, bytes | None]:
        """Write again what is committed, unless somebody has written since. What was written."""
        backend = self._sessions.backend
        try:
            committed = await backend.commit(key, changes, if_version=live.version, flush=flush)
        except Conflict:
            changes = {}
            committed = await backend.commit(key, changes, flush=flush)
        live.committed(changes, committed.version)
        return changes

    async def _create(
        self, live: Live, changes: dict[str, bytes | None], if_version: int | None, *, flush: bool
    ) -> None:
        if if_version not in (None, 0):
            raise Conflict(if_version, 0)
        if not changes:
            return
        if self.stage is BEGUN:
            raise RuntimeError(
                "the response has begun, so a session cannot be created: its cookie travels in the response's head; "
                "store something before that"
            )
        token, key = self._new_token()
        committed = await self._sessions.backend.commit(key, changes, create=True, flush=flush)
        live.key = key
        live.committed(changes, committed.version)
        self.token, self.route = token, ""
        self._sessions.share(live)
        self._sessions.shared_objects.warn(key, live.content.shared(changes.keys()))

    async def _reopen(self, live: Live, key: Key) -> None:
        checkout = await self._sessions.backend.open(key)
        if checkout is None or isinstance(checkout, Elsewhere):
            raise SessionGone("the session has ended since; nothing was written: the visitor needs a new one")
        live.adopt(checkout)

    def _refuse_undone(self, live: Live) -> None:
        overwritten = not self.undone
        if names := self.undone or self._changed_in_vain(live):
            live.undo(self)
            raise ChangesUndone(sorted(names), live.version, overwritten=overwritten)

    def _changed_in_vain(self, live: Live) -> set[str]:
        """Attributes whose values were changed in place after somebody else had written them; each is told once."""
        changed: list[Detached] = []
        same: list[Detached] = []
        for each in self.detached:
            (changed if each.has_changed else same).append(each)
        self.detached = same
        # One that was put back is the session's again, and everybody can see what changed in it.
        return {each.name for each in changed if live.content.read(each.name) is not each.value}

    def _new_token(self) -> tuple[str, Key]:
        token = self._sessions.keyring.new_token(secrets.token_bytes(RANDOM_BYTES))
        key = self._sessions.keyring.key_of(token)
        if key is None:
            raise RuntimeError("the keyring does not know its own token")
        return token, key

    def _move_to(self, live: Live, token: str | None) -> None:
        """Leave a session that has ended for its successor; its other requests stay behind and cannot write."""
        old, held = self._shared(), self.stage is HELD
        self._sessions.forget(old)
        self._leave(old, held=held)
        self._live = live
        self.token, self.route = token, ""
        self.undone = NOTHING
        live.views = (self,)
        live.holders += held

    def _leave(self, live: Live, *, held: bool) -> None:
        if len(live.views) > 1:
            live.views = tuple(view for view in live.views if view is not self)
            if held:
                live.leave_hold()
        else:
            live.views = ()
            self._sessions.forget(live)
            live.content.source.release()
