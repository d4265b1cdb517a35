"""One worker's place: the sockets that outlive it, its process, and another one when that has ended.

The sockets stay open here, so connections that wait to be accepted when a worker dies are served by the next one. A
worker that says nothing any more is ended: its share of the connections would wait for it for ever.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from balancer.workers.channel import Channel, Message

START_SPACING_S = 1.0
"""Least time between two starts in one place, so that a worker that dies at once does not eat the machine. So soon, and
for ever, a start that failed is tried again."""

SILENCE_MAX_S = 30.0
"""A worker that has reported nothing for so long is ended. Longer than any pause that a busy machine makes."""

STOP_GRACE_S = 5.0
"""What a worker gets beyond `drain_timeout_s` to end by itself."""

FAREWELL_S = 1.0
"""How long to wait for the last report of a worker that has ended."""

log = structlog.get_logger("balancer.workers")


class Keeper:
    """`instructions(number)` is a new worker's first message. `on_message` and `on_end` are called with the keeper."""

    def __init__(
        self,
        number: int,
        sockets: Sequence[socket.socket],
        instructions: Callable[[int], Message],
        on_message: Callable[["Keeper", Message], None],
        on_end: Callable[["Keeper"], None],
    ) -> None:
        self.number = number
        self.report: Message | None = None  # the worker's latest
        self.starts = 0
        self._sockets = sockets
        self._instructions = instructions
        self._on_message = on_message
        self._on_end = on_end
        self._channel: Channel | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_serving(self) -> bool:
        return self.report is not None and (self.report["hindrance"] or [""])[0] != "starting"

    @property
    def pid(self) -> int | None:
        """The worker's process, if there is one."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"worker {self.number}")

    def send(self, message: Message) -> bool:
        return self._channel is not None and self._channel.send(message)

    async def stop(self, drain_timeout_s: float) -> None:
        """Ask the worker to end, wait for it, and end it when it takes too long."""
        self._stopping.set()
        for each in self._sockets:
            each.close()
        self._signal(signal.SIGTERM)
        if self._task is None:
            return
        ended, _ = await asyncio.wait({self._task}, timeout=drain_timeout_s + STOP_GRACE_S)
        if not ended:
            log.error("worker.killed", worker=self.number, reason="it did not end in time")
            self._signal(signal.SIGKILL)
        await self._task

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            try:
                await self._run_worker()
            except Exception:
                # A fault of ours must not leave this place without a worker for good.
                log.exception("worker.not_kept", worker=self.number)
            if self._stopping.is_set():
                break
            try:
                async with asyncio.timeout_at(started + START_SPACING_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_worker(self) -> None:
        """From a worker's start to its end."""
        ended = asyncio.Event()
        channel = Channel(self._received, ended.set)
        try:
            process = await self._start_process(channel)
        except Exception:
            # No descriptor, no memory, no process left: that passes, and connections wait in this place's socket.
            channel.close()
            if not self._stopping.is_set():  # which closes what a worker would have been given
                log.exception("worker.not_started", worker=self.number)
            return
        self._process, self._channel = process, channel
        self.starts += 1
        log.info("worker.started", worker=self.number, pid=process.pid)
        try:
            channel.send(self._instructions(self.number))
            self._listen_for_silence()
            if self._stopping.is_set():
                self._signal(signal.SIGTERM)
            code = await process.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await ended.wait()
        finally:
            # Only a fault of ours leaves anybody here, who must not serve beside the next.
            self._signal(signal.SIGKILL)
            await process.wait()
            channel.close()
            self._process = self._channel = None
            if self._alarm is not None:
                self._alarm.cancel()
        if not self._stopping.is_set():
            how = {"signal": _signal_name(-code)} if code < 0 else {"exit_code": code}
            log.error("worker.ended", worker=self.number, pid=process.pid, **how)
        try:
            self._on_end(self)
        finally:
            self.report = None

    async def _start_process(self, channel: Channel) -> asyncio.subprocess.Process:
        """A worker at the other end of the channel. When it raises, there is none."""
        ours, theirs = socket.socketpair()
        with theirs:
            # First, for a process that we cannot talk to would have to be ended again.
            await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
            inherited = [theirs.fileno(), *(each.fileno() for each in self._sockets)]
            # A session of its own: Ctrl-C at the terminal is for the supervisor alone, which passes it on.
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "balancer.workers",
                *map(str, inherited),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def _received(self, message: Message) -> None:
        self._listen_for_silence()
        self._on_message(self, message)

    def _listen_for_silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(SILENCE_MAX_S, self._silent)

    def _silent(self) -> None:
        log.error("worker.killed", worker=self.number, reason=f"it said nothing for {SILENCE_MAX_S:g} s")
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
