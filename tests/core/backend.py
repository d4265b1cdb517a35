"""A node of a `World` as sessions see it: the operations of `sessiond.backend.Backend`, in virtual time."""

from collections.abc import Mapping

from sessiond.backend import Checkout, Committed, Elsewhere, Whereabouts
from sessiond.contract.session_id import Key
from tests.core.world import World

LONGEST_S = 10.0
STEP_S = 0.01


class WorldNode:
    """Every operation lets as much time pass as it needs."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world

    def try_open(self, key: Key) -> Checkout | None:
        return self._world.machine(self.name).try_open(key, self._world.now)

    async def open(self, key: Key, *, may_refer: bool = False) -> Checkout | Elsewhere | None:
        outcome = self._done("open", key, may_refer=may_refer)
        assert outcome is None or isinstance(outcome, Elsewhere) or hasattr(outcome, "read")
        return outcome  # type: ignore[return-value] # a checkout, as asserted

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
        if create:
            outcome = self._done("create", key, changes, after=after, flush=flush)
        else:
            outcome = self._done("commit", key, changes, if_version, flush=flush)
        assert isinstance(outcome, Committed)
        return outcome

    async def invalidate(self, key: Key) -> None:
        self._done("invalidate", key)

    async def rotate(self, key: Key, successor: Key, if_version: int) -> None:
        self._done("rotate", key, successor, if_version)

    def is_over(self, key: Key) -> bool:
        return self._world.machine(self.name).is_over(key)

    def locate(self, key: Key) -> Whereabouts | None:
        return self._world.machine(self.name).locate(key)

    def _done(self, verb: str, *args: object, **kwargs: object) -> object:
        operation = self._world.ask(self.name, verb, *args, **kwargs)
        deadline = self._world.now + LONGEST_S
        while (outcome := self._world.outcome(self.name, operation)) == "pending":
            assert self._world.now < deadline, f"{verb} at {self.name} has no outcome"
            self._world.run(STEP_S)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
