"""A node: the core, driven. The only place that reads the clock and carries effects out.

    node = Node(Settings(name="node1"))
    await node.start()
    …
    await node.stop()

Every input (frames of a link, an operation of the application, the timer) goes into the core with the
clock's reading; its effects are carried out at once and in order, before anything else happens; one timer
is armed for the core's next deadline. Nothing is decided here.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from random import Random
from typing import Any

import structlog

from sessiond.backend import Checkout, Committed, Elsewhere, Whereabouts
from sessiond.closed import why_closed
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import ClusterView, HealthView, Load, MemberState
from sessiond.contract.drain_view import DrainView
from sessiond.contract.session_id import Key, Keyring
from sessiond.core.checks import CodecError
from sessiond.core.copies import Role
from sessiond.core.effects import (
    Admission,
    Dial,
    DropLink,
    Effect,
    JoinRefusedForGood,
    Log,
    MembersChanged,
    NewLife,
    Resolve,
    Send,
    StoreRead,
    StoreWrite,
)
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.machine import Machine
from sessiond.core.options import Options
from sessiond.core.recall import Outcome
from sessiond.core.storing import StoreState
from sessiond.core.types import Life
from sessiond.errors import ConfigurationError, JoinRefused, StoreUnusable, Unavailable
from sessiond.net.events import DialFailure
from sessiond.net.hub import Hub
from sessiond.net.limits import LinkLimits
from sessiond.net.link import Link
from sessiond.node_metrics import samples_of
from sessiond.ports import Sample
from sessiond.settings import Settings, cluster_secrets, validated
from sessiond.store_driver import StoreDriver
from sessiond.stores import store_for
from sessiond.wire import Wire

BOOT_ID_BYTES = 16

clock: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Where the system has one, a clock that goes on while the machine is suspended: a node that was away must notice."""

COPY_OBJECTS = 10
"""What a copy of a small session consists of: to go through them takes 4 µs."""

ENTRIES_AN_OBJECT = 5
"""Entries of the directory that take as long as one object: they are made of shared ones."""

OWN_FINDINGS = frozenset({RefusalCode.SELF, RefusalCode.REDUNDANT})
"""Refusals that say something about a dialed address, whichever side noticed."""


class Node:
    """One member of a cluster, with the sessions it holds. See `backend.Backend` for the session operations.

    Raises ConfigurationError for settings that cannot work.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = validated(settings)
        found = cluster_secrets(settings)
        self.keyring = Keyring(found, settings.cluster_name)
        self._log = structlog.get_logger()
        if not found:
            self._log.warning(
                "secret.none", way_out="--secret-file, the same on every node", only_for="loopback"
            )
        identity = Identity(
            life=Life(settings.name, time.time_ns() // 1_000_000),
            boot_id=secrets.token_bytes(BOOT_ID_BYTES),
            cluster_name=settings.cluster_name,
            http=settings.advertise_http or settings.http,
            cluster=settings.advertise_cluster or settings.cluster,
            api=settings.advertise_api or settings.api,
            zone=settings.zone,
            quorum=settings.quorum,
            location=settings.location,
            role=settings.role,
        )
        store = store_for(settings.store, cluster_name=settings.cluster_name) if settings.store else None
        named_alike = [field.name for field in fields(Options) if field.name != "store_kind"]
        options = Options(
            **{name: getattr(settings, name) for name in named_alike},
            store_kind="" if store is None else "shared" if store.shared else "own",
        )
        # Random only spreads load and names writes; what must not be guessed comes from `secrets`.
        rng = Random(secrets.randbits(64))  # noqa: S311
        self._machine = Machine(identity, options, settings.join, rng, clock())
        limits = LinkLimits(
            queue_bytes_max=settings.link_queue_bytes_max, connect_timeout_s=settings.connect_timeout_s
        )
        self._hub = Hub(lambda: self._machine.identity, found, limits, self)
        self._wire = Wire(self._hub)
        self._store: StoreDriver | None = None
        if store is not None:
            self._store = StoreDriver(store, self, timeout_s=settings.store_timeout_s, wall_clock=time.time)
        self._flushed = asyncio.Event()
        """Set when nothing waits to be stored."""

        self._operations = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._admissions: dict[int, asyncio.Future[Refusal | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._watchers: set[asyncio.Event] = set()
        self._drained = asyncio.Event()
        self._is_running = False
        self._failure: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        return self.settings.name

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen for links and begin to join. Returns before the node has joined: see `joined`.

        Raises ConfigurationError if the cluster address cannot be had, or the store cannot be used as it is. A store
        that does not answer is no error: the node serves, and opens it when it does. After an error nothing is open.
        """
        self._failure = asyncio.get_running_loop().create_future()
        try:
            await self._open_store()
            host, port = await self._hub.start(self.settings.cluster)
        except BaseException:
            if self._store is not None:
                await self._store.close()
            raise
        if not self.settings.advertise_cluster:
            identity = replace(self._machine.identity, cluster=str(Address(host, port)))
            self._machine.identity = identity
        self._is_running = True
        self._machine.start(clock())
        self._act()

    async def _open_store(self) -> None:
        if self._store is None:
            return
        try:
            await self._store.start()
        except StoreUnusable as error:
            raise ConfigurationError(f"--store cannot be used: {error}") from error

    def bound(self, *, http: str | None = None, api: str | None = None) -> None:
        """Ports that were free ones (port 0) have these addresses; call before `start`."""
        identity = self._machine.identity
        if http is not None and not self.settings.advertise_http:
            identity = replace(identity, http=http)
        if api is not None and not self.settings.advertise_api:
            identity = replace(identity, api=api)
        self._machine.identity = identity

    async def joined(self) -> None:
        """Wait until this node serves. Raises JoinRefused if the cluster does not take it, Unavailable if it stops before."""
        joining = asyncio.create_task(self._until_joined())
        failing = asyncio.create_task(self.failed())
        try:
            done, _ = await asyncio.wait((joining, failing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if joining not in done or not joining.result():
                raise Unavailable(f"{self.name} was stopped before it had joined; nothing was changed")
        finally:
            joining.cancel()
            failing.cancel()

    async def _until_joined(self) -> bool:
        """Whether it has; False if the node stopped first."""
        async for _ in self.watch():
            if self.is_serving():
                return True
        return False

    async def failed(self) -> None:
        """Wait until the node cannot go on, and raise why: JoinRefused. Returns when the node is stopped."""
        assert self._failure is not None, "start() comes first"  # noqa: S101 - an invariant
        await asyncio.shield(self._failure)

    def begin_drain(self, *, for_good: bool = False) -> None:
        """Take no new sessions, and hand those that are here to their backups.

        `for_good`: the process ends afterwards, and the drain cannot be aborted.
        """
        self._machine.begin_drain(clock(), for_good=for_good)
        self._act()

    def abort_drain(self) -> bool:
        """Serve again; what was handed over stays where it is. False if the drain is for good."""
        is_aborted = self._machine.abort_drain(clock())
        if is_aborted:
            self._drained.clear()
        self._act()
        return is_aborted

    async def drain(self, timeout_s: float) -> int:
        """Wait until nothing is left here that another node could take; the number of sessions that end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        return self._machine.copies.counts[Role.PRIMARY]

    async def stop(self) -> None:
        """Leave the cluster and close every link. Sessions that were not drained are found by the others as
        after a crash. Calling it again, or without `start`, does nothing."""
        if not self._is_running:
            return
        await self._flush()
        self._machine.leave(clock())
        self._act()
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
        await self._hub.close()
        if self._store is not None:
            await self._store.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    Unavailable(f"{self.name} stops: a write may have been applied; ask another node")
                )
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(None)
        self._wake_watchers()

    async def _flush(self) -> None:
        """Wait until the store has everything, if it takes it."""
        storing = self._machine.storing
        if storing is None or storing.is_idle:
            return
        if not storing.is_down:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.store_timeout_s):
                    await self._flushed.wait()
        if not storing.is_idle:
            self._log.error("store.left_behind", sessions=storing.backlog)

    # --- sessions: `backend.Backend` --------------------------------------------------------------------

    def try_open(self, key: Key) -> Checkout | None:
        """`open` without waiting: the session, if this node is its primary already."""
        return self._machine.try_open(key, clock())

    async def open(self, key: Key, *, may_refer: bool = False) -> Checkout | Elsewhere | None:
        operation, future = self._operation()
        self._machine.open(operation, key, clock(), may_refer=may_refer)
        outcome: Checkout | Elsewhere | None = await self._outcome(future)
        return outcome

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
        machine = self._machine
        now = clock()
        if not changes and if_version is None and machine.is_settled(key, now):
            copy = machine.copies[key]
            return Committed(copy.version, protected=machine.operations.is_protected(copy))
        operation, future = self._operation()
        if create:
            machine.create(operation, key, changes, now, after, flush=flush)
        else:
            machine.commit(operation, key, changes, if_version, now, flush=flush)
        committed: Committed = await self._outcome(future)
        return committed

    async def invalidate(self, key: Key) -> None:
        operation, future = self._operation()
        self._machine.invalidate(operation, key, clock())
        await self._outcome(future)

    async def rotate(self, key: Key, successor: Key, if_version: int) -> None:
        operation, future = self._operation()
        self._machine.rotate(operation, key, successor, if_version, clock())
        await self._outcome(future)

    def is_over(self, key: Key) -> bool:
        return self._machine.is_over(key)

    def locate(self, key: Key) -> Whereabouts | None:
        return self._machine.locate(key)

    def _operation(self) -> tuple[int, asyncio.Future[Any]]:
        self._operations += 1
        future = self._waiting[self._operations] = asyncio.get_running_loop().create_future()
        return self._operations, future

    async def _outcome(self, future: asyncio.Future[Any]) -> Any:
        self._act()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                _let_go(future.result())  # resolved in the very turn in which the caller was cancelled
            raise

    def objects(self) -> int:
        """About so many objects, that a garbage collection would look at, are here for the sessions' sake."""
        machine = self._machine
        return COPY_OBJECTS * len(machine.copies) + len(machine.directory) // ENTRIES_AN_OBJECT

    # --- what the web side shows: `ports.WebNode` -------------------------------------------------------

    def is_serving(self) -> bool:
        return self._is_running and self._machine.may_act

    def accepts_new_sessions(self) -> bool:
        return self.is_serving() and not self._machine.draining and self.settings.role == "app"

    def why_closed(self) -> str:
        return why_closed(self._machine, is_running=self._is_running)

    def heir(self) -> str | None:
        return self._machine.drain.heir()

    def health(self) -> HealthView:
        counts = self._machine.copies.counts
        state = self._machine.state if self._is_running else MemberState.JOINING
        return HealthView(
            self.name,
            state,
            counts[Role.PRIMARY],
            counts[Role.BACKUP],
            Load(),
            self.settings.role,
            self.why_closed(),
        )

    def cluster_view(self) -> ClusterView:
        return self._machine.cluster_view()

    def drain_view(self) -> DrainView:
        return self._machine.drain_view()

    def samples(self) -> Iterator[Sample]:
        return samples_of(self._machine, self._hub, self._store)

    async def watch(self) -> AsyncIterator[ClusterView]:
        """A fresh view now and after every change of membership; ends when the node stops."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                yield self.cluster_view()
                await changed.wait()
                changed.clear()
                if not self._is_running:
                    return
        finally:
            self._watchers.discard(changed)

    def _wake_watchers(self) -> None:
        for changed in self._watchers:
            changed.set()

    # --- links: `net.events.LinkEvents` -----------------------------------------------------------------

    async def admit(self, identity: Identity, initiated_by_us: bool) -> Refusal | None:
        del initiated_by_us  # who dialed makes no difference to who may come in
        self._operations += 1
        future: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self._admissions[self._operations] = future
        self._machine.admit(self._operations, identity, clock())
        self._act()
        return await future

    def link_opened(self, link: Link) -> None:
        self._wire.opened(link)
        self._machine.link_opened(link.peer, link.dialed, clock())
        self._act()

    def frames_received(self, link: Link, frames: list[bytes]) -> None:
        machine, life, now = self._machine, link.peer.life, clock()
        try:
            for message in self._wire.received(link, frames):
                machine.receive(life, message, now)
        except CodecError as error:
            self._log.error("link.bad_message", peer=str(life), detail=str(error))
            link.close(f"it sent what is no message: {error}")
        self._act()

    def link_closed(self, link: Link, reason: str) -> None:
        del reason  # the hub has logged it
        self._wire.closed(link)
        self._machine.link_closed(link.peer.life, clock())
        self._act()

    def link_refused(self, refusal: Refusal) -> None:
        self._machine.refused(refusal, clock())
        self._act()

    def dial_failed(self, address: str, failure: DialFailure) -> None:
        refusal = failure.refusal
        if failure.refused_by_us and refusal is not None and refusal.code not in OWN_FINDINGS:
            refusal = None  # it is about the other side, which was told
        self._machine.dial_failed(address, failure.kind.value, failure.detail, refusal, clock())
        self._act()

    # --- the store: `store_driver.StoreEvents` ----------------------------------------------------------

    def store_opened(self) -> None:
        self._machine.store_opened(clock())
        self._act()

    def stored(self, number: int, refused: Collection[bytes]) -> None:
        self._machine.stored(number, refused, clock())
        self._act()

    def store_failed(self, number: int, reason: str) -> None:
        self._machine.store_failed(number, reason, clock())
        self._act()

    def store_read(self, key: bytes, outcome: Outcome) -> None:
        self._machine.store_read(key, outcome, clock())
        self._act()

    def store_is_up(self) -> bool:
        storing = self._machine.storing
        return storing is not None and storing.state is StoreState.UP

    # --- effects ----------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Carry out what the core wants done, in its order, and arm the timer."""
        for effect in self._machine.take_effects():
            if type(effect) is Send:  # nearly every effect is one
                self._wire.send(self._machine.life, *effect)
            else:
                self._carry_out(effect)
        storing = self._machine.storing
        if storing is not None:
            (self._flushed.set if storing.is_idle else self._flushed.clear)()
        if self._machine.draining:
            (self._drained.set if self._machine.drained else self._drained.clear)()
        deadline = self._machine.next_deadline()
        if self._is_running and (self._timer is None or deadline < self._timer_at):
            self._arm(deadline)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Resolve(operation, outcome):
                self._resolve(operation, outcome)
            case Log(level, event, log_fields):
                getattr(self._log, level)(event, **log_fields)
            case StoreWrite():
                assert self._store is not None, "the core has no store of its own"  # noqa: S101 - an invariant
                self._store.write(effect)
            case StoreRead():
                assert self._store is not None, "the core has no store of its own"  # noqa: S101 - an invariant
                self._store.read(effect)
            case Dial(address):
                self._hub.dial(address)
            case DropLink(life, reason):
                link = self._hub.link_to(life)
                if link is not None:
                    link.close(reason)
            case NewLife(life):
                self._hub.drop_all(f"this node goes on as {life}")
            case Admission(number, refusal):
                admission = self._admissions.pop(number)
                if not admission.done():
                    admission.set_result(refusal)
            case MembersChanged():
                self._wake_watchers()
            case JoinRefusedForGood(refusal, address):
                if self._failure is not None and not self._failure.done():
                    self._failure.set_exception(
                        JoinRefused(f"the node at {address} refuses this one: {refusal.detail}")
                    )

    def _resolve(self, operation: int, outcome: object) -> None:
        future = self._waiting.pop(operation)
        if not future.done():
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        else:
            _let_go(outcome)  # whoever asked has gone away meanwhile

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._machine.tick(clock())
        self._act()


def _let_go(outcome: object) -> None:
    """What nobody receives any more: a session must not stay checked out."""
    if hasattr(outcome, "release"):
        outcome.release()
