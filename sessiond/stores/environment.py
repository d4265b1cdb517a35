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
    """An open directory. Made by `shared`; whoever got one calls `release` once."""

    _open: "dict[Path, Environment]" = {}  # noqa: RUF012 # LMDB's rule is for the process, so is this
    _opening = threading.Lock()

    @classmethod
    def shared(cls, path: Path, size_max: int, cluster_name: str) -> "Environment":
        """The environment of a directory, which is made if it is not there. Blocks. Raises StoreError."""
        with cls._opening:
            resolved = path.resolve()
            found = cls._open.get(resolved)
            if found is None:
                found = cls(resolved, size_max)
                cls._open[resolved] = found
            found._users += 1
        try:
            found._check_owner(cluster_name)
        except BaseException:
            found.release()
            raise
        return found

    def __init__(self, path: Path, size_max: int) -> None:
        self.path = path
        self._size_max = size_max
        self._users = 0
        self._jobs: queue.Queue[Job[Any] | None] = queue.Queue(QUEUE_MAX)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._environment = lmdb.open(
                str(path), map_size=size_max, max_dbs=3, max_readers=READERS_MAX, readahead=False, mode=0o600
            )
            try:
                self._records = self._environment.open_db(b"records")
                self._expiries = self._environment.open_db(b"expiries")
                self._about = self._environment.open_db(b"about")
            except BaseException:
                self._environment.close()
                raise
        except OSError as error:
            raise StoreUnusable(f"cannot make the store's directory {path}: {error.strerror}") from error
        except lmdb.Error as error:
            raise self._translated(error) from error
        self._thread = threading.Thread(target=self._run, name=f"store {path}", daemon=True)
        self._thread.start()

    def submit(self, kind: Kind, work: Callable[[Tables], T]) -> "Future[T]":
        """Have work done in the thread. What it raises, and any StoreError, is the future's."""
        job = Job(kind, work, Future())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise StoreUnavailable(
                f"{self.path}: {QUEUE_MAX} calls wait for the disk; this one was not begun"
            ) from None
        return job.done

    def release(self) -> None:
        """One user less; after the last one the thread ends, and what was submitted before is done. Blocks."""
        with self._opening:
            self._users -= 1
            if self._users:
                return
            self._jobs.put(None)
            self._thread.join()
            del self._open[self.path]

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._take()
            jobs = [job for job in group if job.done.set_running_or_notify_cancel()]
            if reads := [job for job in jobs if job.kind is Kind.READ]:
                self._read(reads)
            if writes := [job for job in jobs if job.kind is not Kind.READ]:
                self._write(writes)
        self._environment.close()

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

    def _check_owner(self, cluster_name: str) -> None:
        """Take the directory for a cluster, or see that it is this cluster's and of a schema that is known."""

        def check(tables: Tables) -> tuple[int, str]:
            about = {b"schema": b"%d" % SCHEMA, b"cluster": cluster_name.encode()}
            found = {}
            for name, ours in about.items():
                there = tables.transaction.get(name, db=self._about)
                if there is None:
                    tables.transaction.put(name, ours, db=self._about)
                found[name] = ours if there is None else bytes(there)
            return int(found[b"schema"]), found[b"cluster"].decode()

        schema, owner = self.submit(Kind.WRITE, check).result()
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
        if isinstance(error, lmdb.DiskError) or self._disk_is_full():
            return StoreUnavailable(f"{self.path}: the disk is full; nothing was written. Make room")
        if any(
            f": {os.strerror(number)}" in str(error) for number in (errno.EACCES, errno.EPERM, errno.EROFS)
        ):
            return StoreUnusable(
                f"{self.path} may not be written by this user ({error}): give it to the user"
            )
        return StoreUnavailable(f"{self.path}: {error}")
