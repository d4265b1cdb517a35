"""One LMDB environment of this process: its thread, its transactions, its size.

LMDB wants a directory opened once in a process, and a write transaction waits for the disk, or for another process
that has one. So everything happens in one thread of the environment, and stores of one directory share it.

Group commit: what waits when the thread is free is done in one transaction, and one fsync makes all of it durable;
only then do the calls return. A call that fails takes no other one with it: after a failure each is done by itself.

The file grows as it fills, up to `size_max`. Removing needs a few new pages too, as pages are never written in
place, so removals may go `RESERVE_BYTES` beyond it: a full store can always be emptied.
"""

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Generic, TypeVar

import lmdb

from sessiond.errors import StoreError, StoreUnavailable, StoreUnusable

SCHEMA = 1
"""Of the directory's tables. What a record's own bytes look like is `sealing.FORMAT`."""

QUEUE_MAX = 10_000
"""Calls that wait for the thread; beyond it a call fails at once."""

GROUP_MAX = 256
"""Calls in one transaction at most, so that none waits for too many others."""

RESERVE_BYTES = 16 * 2**20
READERS_MAX = 126

DISK_BYTES_MIN = 2**16
"""A disk with less than this is full."""

T = TypeVar("T")


class Kind(Enum):
    READ = auto()
    WRITE = auto()
    REMOVE = auto()
    """A write that makes the store emptier, and may use the reserve."""


@dataclass(frozen=True, slots=True)
class Tables:
    """A transaction, and the tables it works on."""

    transaction: lmdb.Transaction
    records: Any
    """key → sealed record"""
    expiries: Any
    """expires_at (8) key → nothing: in order of time"""


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    kind: Kind
    work: Callable[[Tables], T]
    done: "Future[T]"


class Environment:
    """A directory of this process. Made by `shared`; whoever got one calls `release` once. Nothing here blocks."""

    _known: "dict[Path, Environment]" = {}  # noqa: RUF012 # LMDB's rule is for the process, so is this
    _knowing = threading.Lock()

    @classmethod
    def shared(cls, path: Path, size_max: int) -> "Environment":
        """The environment of a directory; what is wrong with the directory, its calls say."""
        resolved = path.resolve()
        with cls._knowing:
            found = cls._known.get(resolved)
            if found is None or not found.users:
                found = cls._known[resolved] = cls(resolved, size_max, after=found)
            found.users += 1
        return found

    def __init__(self, path: Path, size_max: int, after: "Environment | None") -> None:
        self.path = path
        self._size_max = size_max
        self.users = 0
        self._after = after
        self._jobs: queue.Queue[Job[Any] | None] = queue.Queue()
        self.ended: Future[None] = Future()
        self._environment: lmdb.Environment
        self._records: Any
        self._expiries: Any
        self._about: Any
        # A daemon, as it may wait for the lock of a process that stands still.
        threading.Thread(target=self._run, name=f"store {path}", daemon=True).start()

    def submit(self, kind: Kind, work: Callable[[Tables], T]) -> "Future[T]":
        """Have work done in the thread. What it raises, and any StoreError, is the future's."""
        if self._jobs.qsize() >= QUEUE_MAX:
            raise StoreUnavailable(
                f"{self.path}: {QUEUE_MAX} calls wait for the disk; this one was not begun"
            )
        job = Job(kind, work, Future())
        self._jobs.put(job)
        return job.done

    def release(self) -> "Future[None]":
        """One user less. Done when nothing is open any more, if it was the last, and at once if not.

        What was submitted before is carried out.
        """
        with self._knowing:
            self.users -= 1
            if not self.users:
                self._jobs.put(None)
                return self.ended
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def take(self, cluster_name: str) -> "Future[None]":
        """Make the directory the cluster's, or see that it is, and of a schema that is known."""

        def take(tables: Tables) -> None:
            ours = {b"schema": b"%d" % SCHEMA, b"cluster": cluster_name.encode()}
            found = {}
            for name, value in ours.items():
                there = tables.transaction.get(name, db=self._about)
                if there is None:
                    tables.transaction.put(name, value, db=self._about)
                found[name] = value if there is None else bytes(there)
            schema, owner = int(found[b"schema"]), found[b"cluster"].decode()
            if schema > SCHEMA:
                raise StoreUnusable(
                    f"{self.path} has schema {schema}, made by a newer program; this one knows {SCHEMA} at most: "
                    "run the newer program, or give this one another directory"
                )
            if owner != cluster_name:
                raise StoreUnusable(
                    f"{self.path} belongs to the cluster {owner!r}, not to {cluster_name!r}: give each cluster a "
                    "directory of its own"
                )

        return self.submit(Kind.WRITE, take)

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        if self._after is not None:
            self._after.ended.result()
            self._after = None
        try:
            self._open()
        except StoreError as error:
            self._refuse(error)
        else:
            self._serve()
            self._environment.close()
        with self._knowing:
            if self._known.get(self.path) is self:
                del self._known[self.path]
        self.ended.set_result(None)

    def _open(self) -> None:
        """Raises StoreError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._environment = lmdb.open(
                str(self.path),
                map_size=self._size_max,
                max_dbs=3,
                max_readers=READERS_MAX,
                readahead=False,
                mode=0o600,
            )
            try:
                self._records = self._environment.open_db(b"records")
                self._expiries = self._environment.open_db(b"expiries")
                self._about = self._environment.open_db(b"about")
            except BaseException:
                self._environment.close()
                raise
        except OSError as error:
            raise StoreUnusable(f"cannot make the store's directory {self.path}: {error.strerror}") from error
        except lmdb.Error as error:
            raise self._translated(error) from error

    def _refuse(self, error: StoreError) -> None:
        """Fail whatever comes, until the last user has gone."""
        while (job := self._jobs.get()) is not None:
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)

    def _serve(self) -> None:
        ended = False
        while not ended:
            group, ended = self._take()
            jobs = [job for job in group if job.done.set_running_or_notify_cancel()]
            if reads := [job for job in jobs if job.kind is Kind.READ]:
                self._read(reads)
            if writes := [job for job in jobs if job.kind is not Kind.READ]:
                self._write(writes)

    def _take(self) -> tuple[list[Job[Any]], bool]:
        """All that waits, after the first has come; whether it was the last."""
        group: list[Job[Any]] = []
        job = self._jobs.get()
        while job is not None:
            group.append(job)
            if len(group) == GROUP_MAX:
                return group, False
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _read(self, jobs: list[Job[Any]]) -> None:
        for job in jobs:
            try:
                with self._transaction(write=False) as tables:
                    result = job.work(tables)
            except lmdb.Error as error:
                job.done.set_exception(self._translated(error))
            except Exception as error:  # noqa: BLE001 # it is the caller's to see
                job.done.set_exception(error)
            else:
                job.done.set_result(result)

    def _write(self, jobs: list[Job[Any]]) -> None:
        """In one transaction if that works, else one by one."""
        try:
            with self._transaction(write=True) as tables:
                results = [job.work(tables) for job in jobs]
        except Exception as error:  # noqa: BLE001 # it is the caller's to see
            if len(jobs) > 1:
                for job in jobs:
                    self._write([job])
            else:
                self._write_after(error, jobs[0])
            return
        for job, result in zip(jobs, results, strict=True):
            job.done.set_result(result)

    def _write_after(self, error: Exception, job: Job[Any]) -> None:
        """A removal that found no room may try again with the reserve; anything else has failed."""
        if isinstance(error, lmdb.MapFullError) and job.kind is Kind.REMOVE:
            try:
                self._environment.set_mapsize(self._used_bytes() + RESERVE_BYTES)
                try:
                    with self._transaction(write=True) as tables:
                        result = job.work(tables)
                finally:
                    self._environment.set_mapsize(self._size_max)
            except Exception as second:  # noqa: BLE001 # it is the caller's to see
                error = second
            else:
                job.done.set_result(result)
                return
        job.done.set_exception(self._translated(error) if isinstance(error, lmdb.Error) else error)

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Tables]:
        try:
            transaction = self._environment.begin(write=write, buffers=True)
        except lmdb.MapResizedError:
            self._environment.set_mapsize(0)  # another process has made the file larger: follow it
            transaction = self._environment.begin(write=write, buffers=True)
        with transaction:
            yield Tables(transaction, self._records, self._expiries)

    # --- inside -------------------------------------------------------------------------------------------

    def _used_bytes(self) -> int:
        """The part of the file that was ever used."""
        return int((self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"])

    def _disk_is_full(self) -> bool:
        """LMDB calls it an input/output error when a part of a page found room."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize < DISK_BYTES_MIN

    def _translated(self, error: lmdb.Error) -> StoreError:
        match error:
            case lmdb.MapFullError():
                return StoreUnavailable(
                    f"{self.path} is full: its records take size_max={self._size_max} bytes; nothing was written. "
                    "Raise size_max in the store's URL, or wait until records expire"
                )
            case (
                lmdb.CorruptedError()
                | lmdb.InvalidError()
                | lmdb.PageNotFoundError()
                | lmdb.VersionMismatchError()
            ):
                return StoreUnusable(
                    f"{self.path} holds no LMDB environment that can be read ({error}): move the directory away and "
                    "start again, or bring a backup of it back"
                )
            case lmdb.PanicError():
                return StoreUnusable(
                    f"{self.path}: LMDB has given up, as the disk failed ({error}): restart the node"
                )
        if isinstance(error, lmdb.DiskError) or self._disk_is_full():
            return StoreUnavailable(f"{self.path}: the disk is full; nothing was written. Make room")
        if any(
            f": {os.strerror(number)}" in str(error) for number in (errno.EACCES, errno.EPERM, errno.EROFS)
        ):
            return StoreUnusable(
                f"{self.path} may not be written by this user ({error}): give it to the user"
            )
        return StoreUnavailable(f"{self.path}: {error}")
