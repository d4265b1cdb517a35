"""A node in memory for the shop: it keeps sessions in a dict that several of them may share, as a cluster would."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sessiond.backend import Committed, Whereabouts
from sessiond.contract.cluster_view import ClusterView, HealthView, Load, MemberState, MemberView
from sessiond.contract.session_id import Key, Keyring
from sessiond.errors import Conflict, SessionError
from sessiond.ports import Sample
from sessiond.settings import Settings


@dataclass
class Stored:
    version: int = 0
    attributes: dict[str, bytes] = field(default_factory=dict)


class Held:
    """A checkout that shows what is stored."""

    def __init__(self, key: Key, stored: Stored) -> None:
        self.key = key
        self._stored = stored

    @property
    def version(self) -> int:
        return self._stored.version

    def names(self) -> Iterable[str]:
        return list(self._stored.attributes)

    def read(self, name: str) -> bytes | None:
        return self._stored.attributes.get(name)

    def release(self) -> None:
        pass


class FakeNode:
    """Implements `WebNode`. `before_commit` runs at every commit, to hold it up or to write first;
    `fail_after_commit` is raised by the next one, which has written all the same."""

    def __init__(self, name: str = "node1", store: dict[Key, Stored] | None = None) -> None:
        self.name = name
        self.settings = Settings(name=name)
        self.keyring = Keyring((), "default")
        self.store = {} if store is None else store
        self.backups: tuple[str, ...] = ("node2",)
        self.primary = name
        self.states = {"node1": MemberState.ALIVE, "node2": MemberState.ALIVE}
        self.before_commit: Callable[[Key], Awaitable[None]] | None = None
        self.fail_after_commit: SessionError | None = None
        self._changed = asyncio.Event()

    def set_state(self, name: str, state: MemberState) -> None:
        self.states[name] = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def try_open(self, key: Key) -> Held | None:
        stored = self.store.get(key)
        return Held(key, stored) if stored else None

    async def open(self, key: Key, *, may_refer: bool = False) -> Held | None:
        return self.try_open(key)

    async def commit(
        self,
        key: Key,
        changes: Mapping[str, bytes | None],
        *,
        create: bool = False,
        if_version: int | None = None,
        after: int = 0,
        flush: bool = False,
    ) -> Committed:
        del flush  # nothing is kept back here
        if self.before_commit:
            await self.before_commit(key)
        await asyncio.sleep(0)  # as a real one does, let others run before the answer
        stored = self.store.setdefault(key, Stored()) if create else self.store[key]
        if if_version is not None and stored.version != if_version:
            raise Conflict(if_version, stored.version)
        if changes:
            stored.version += 1
        for name, value in changes.items():
            if value is None:
                stored.attributes.pop(name, None)
            else:
                stored.attributes[name] = value
        version = stored.version
        await asyncio.sleep(0)  # the backup's ack
        if self.fail_after_commit:
            failure, self.fail_after_commit = self.fail_after_commit, None
            raise failure
        return Committed(version, protected=True)

    async def invalidate(self, key: Key) -> None:
        self.store.pop(key, None)

    def is_over(self, key: Key) -> bool:
        return False

    def locate(self, key: Key) -> Whereabouts | None:
        stored = self.store.get(key)
        return Whereabouts(self.primary, self.backups, 1, stored.version) if stored else None

    def is_serving(self) -> bool:
        return True

    def heir(self) -> str | None:
        return None

    def accepts_new_sessions(self) -> bool:
        return True

    def why_closed(self) -> str:
        return ""

    def health(self) -> HealthView:
        return HealthView(self.name, self.states[self.name], len(self.store), 0, Load())

    def cluster_view(self) -> ClusterView:
        members = [
            MemberView(name, 1, state, "", "", "", "", len(self.store), 0, 0)
            for name, state in sorted(self.states.items())
        ]
        return ClusterView("default", self.name, "any", tuple(members))

    def samples(self) -> Iterable[Sample]:
        return ()

    async def watch(self) -> AsyncIterator[ClusterView]:
        while True:
            changed = self._changed
            yield self.cluster_view()
            await changed.wait()
