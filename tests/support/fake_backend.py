"""A node in memory for tests of the web side: one process, no backups, and hooks to hold or fail its commits.

As on the real one, a commit is applied at once and then waits: here for `resume`, there for the backups' acks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sessiond.backend import Committed, Elsewhere, Whereabouts
from sessiond.contract.cluster_view import ClusterView, HealthView, Load, MemberState, MemberView
from sessiond.contract.drain_view import DrainView
from sessiond.contract.session_id import Key, Keyring
from sessiond.core.inaction import DRAINING, JOINING, STATE_ROLE
from sessiond.errors import Conflict, SessionGone, Unavailable
from sessiond.ports import Sample
from sessiond.settings import Settings

SECRET = b"0123456789abcdef"


@dataclass
class Stored:
    """One session of the fake."""

    version: int = 0
    attributes: dict[str, bytes] = field(default_factory=dict)
    holds: int = 0


class FakeCheckout:
    def __init__(self, node: "FakeNode", key: Key, stored: Stored) -> None:
        self.key = key
        self._node = node
        self._stored = stored
        self._released = False
        stored.holds += 1

    @property
    def version(self) -> int:
        return self._now.version

    @property
    def _now(self) -> Stored:
        """A rotated session is read under its new key."""
        return self._node.stored.get(self._node.resolve(self.key), self._stored)

    def names(self) -> Iterable[str]:
        return list(self._now.attributes)

    def read(self, name: str) -> bytes | None:
        return self._now.attributes.get(name)

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._stored.holds -= 1


class FakeNode:
    """Implements `sessiond.ports.WebNode`."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(name="node1")
        self.keyring = Keyring([SECRET], self.settings.cluster_name)
        self.state = MemberState.ALIVE
        self.serving = True
        self.closed_because = JOINING
        """What `why_closed` says while the node neither serves nor drains."""
        self.is_drained = False
        self.drains_for_good = False
        self.stored: dict[Key, Stored] = {}
        self.owners: dict[Key, str] = {}
        self.committed: list[dict[str, bytes | None]] = []
        """The changes of every commit that succeeded, in order."""
        self.flushed: list[bool] = []
        """Of every commit that was asked for, whether it was to wait whatever the settings."""
        self.waiting = 0
        """Commits that are held now."""
        self.other_node: str | None = None
        """What `heir` answers."""
        self.opens_at_once = True
        """Whether `try_open` ever answers."""
        self.open_error: Exception | None = None
        self.commit_error: Exception | None = None
        self.invalidate_error: Exception | None = None
        self.over: set[Key] = set()
        """Keys whose sessions were rotated."""
        self.aliases: dict[Key, Key] = {}
        """Rotated keys that answer still; a test ends their grace by emptying it."""
        self._may_go = asyncio.Event()
        self._may_go.set()
        self._changed = asyncio.Event()
        self.sample_list: list[Sample] = []

    @property
    def name(self) -> str:
        return self.settings.name

    # --- hooks --------------------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Commits and invalidations wait until the block ends."""
        self._may_go.clear()
        try:
            yield
        finally:
            self._may_go.set()

    async def until_waiting(self, count: int = 1) -> None:
        """Return when `count` commits are held."""
        async with asyncio.timeout(10):
            while self.waiting < count:
                self._changed.clear()
                await self._changed.wait()

    def new_session(self, **attributes: bytes) -> tuple[str, Key]:
        """A session as if another node had made it; its token and key."""
        token = self.keyring.new_token(len(self.stored).to_bytes(16, "big"))
        key = self.keyring.key_of(token)
        assert key is not None
        self.stored[key] = Stored(1, dict(attributes))
        return token, key

    def write(self, key: Key, **attributes: bytes) -> None:
        """A commit of somebody else."""
        stored = self.stored[key]
        stored.attributes.update(attributes)
        stored.version += 1

    @property
    def holds(self) -> int:
        """Checkouts that were not released."""
        return sum(stored.holds for stored in self.stored.values())

    # --- Backend ------------------------------------------------------------------------------------------

    def try_open(self, key: Key) -> FakeCheckout | None:
        if not self.opens_at_once or self.open_error is not None or not self.serving or key in self.owners:
            return None
        key = self.resolve(key)
        stored = self.stored.get(key)
        return None if stored is None else FakeCheckout(self, key, stored)

    async def open(self, key: Key, *, may_refer: bool = False) -> FakeCheckout | Elsewhere | None:
        if self.open_error is not None:
            raise self.open_error
        if not self.serving:
            raise Unavailable(f"{self.name} is joining")
        if may_refer and key in self.owners:
            return Elsewhere(self.owners[key])
        key = self.resolve(key)
        stored = self.stored.get(key)
        return None if stored is None else FakeCheckout(self, key, stored)

    async def commit(
        self,
        key: Key,
        changes: Mapping[str, bytes | None],
        *,
        create: bool = False,
        after: int = 0,
        if_version: int | None = None,
        flush: bool = False,
    ) -> Committed:
        self.flushed.append(flush)
        if self.commit_error is not None:
            raise self.commit_error
        if create:
            assert key not in self.stored
            self.stored[key] = Stored(after)
        key = self.resolve(key)
        stored = self.stored.get(key)
        if stored is None:
            raise SessionGone("the session has ended; nothing was written")
        if if_version is not None and if_version != stored.version:
            raise Conflict(if_version, stored.version)
        for name, data in changes.items():
            if data is None:
                stored.attributes.pop(name, None)
            else:
                stored.attributes[name] = data
        stored.version += bool(changes)
        version = stored.version
        await self._wait()
        self.committed.append(dict(changes))
        return Committed(version, protected=True)

    async def invalidate(self, key: Key) -> None:
        if self.invalidate_error is not None:
            raise self.invalidate_error
        self.stored.pop(self.resolve(key), None)
        await self._wait()

    async def rotate(self, key: Key, successor: Key, if_version: int) -> None:
        if self.invalidate_error is not None:
            raise self.invalidate_error
        key = self.resolve(key)
        if key not in self.stored:
            raise SessionGone("the session has ended; nothing was written")
        if self.stored[key].version != if_version:
            raise Conflict(if_version, self.stored[key].version)
        del self.stored[key]
        self.over.add(key)
        if self.settings.rotate_grace_s:
            self.aliases[key] = successor
        await self._wait()

    def is_over(self, key: Key) -> bool:
        return key in self.over

    def resolve(self, key: Key) -> Key:
        while key in self.aliases:
            key = self.aliases[key]
        return key

    async def _wait(self) -> None:
        if self._may_go.is_set():
            return
        self.waiting += 1
        self._changed.set()
        try:
            await self._may_go.wait()
        finally:
            self.waiting -= 1

    def locate(self, key: Key) -> Whereabouts | None:
        stored = self.stored.get(key)
        return None if stored is None else Whereabouts(self.name, ("node2",), 3, stored.version)

    # --- WebNode ------------------------------------------------------------------------------------------

    def is_serving(self) -> bool:
        return self.serving

    def why_closed(self) -> str:
        if self.accepts_new_sessions():
            return ""
        if self.settings.role == "state":
            return STATE_ROLE
        is_draining = self.serving and self.state is MemberState.DRAINING
        return DRAINING if is_draining else self.closed_because

    def heir(self) -> str | None:
        return self.other_node

    def accepts_new_sessions(self) -> bool:
        return self.serving and self.state is MemberState.ALIVE and self.settings.role == "app"

    def health(self) -> HealthView:
        return HealthView(
            self.name, self.state, len(self.stored), 0, Load(), self.settings.role, self.why_closed()
        )

    def cluster_view(self) -> ClusterView:
        row = MemberView(
            name=self.name,
            incarnation=7,
            state=self.state,
            http="127.0.0.1:8101",
            cluster="127.0.0.1:7101",
            api="127.0.0.1:9101",
            zone="",
            primaries=len(self.stored),
            backups=0,
            unprotected=None,
        )
        return ClusterView(self.settings.cluster_name, self.name, "any", (row,))

    def drain_view(self) -> DrainView:
        return DrainView(
            self.name, self.state, len(self.stored), 0, 0, 0, safe_to_stop=self.is_drained, hindrance=""
        )

    def begin_drain(self) -> None:
        self.state = MemberState.DRAINING

    def abort_drain(self) -> bool:
        if self.drains_for_good:
            return False
        self.state = MemberState.ALIVE
        return True

    def samples(self) -> Iterable[Sample]:
        return self.sample_list

    async def watch(self) -> AsyncIterator[ClusterView]:
        yield self.cluster_view()
