"""The memory of the sessions of `memory` elsewhere: in Redis, and in two Tomcats with BackupManager.

What is counted is what each keeps for itself: Redis's own accounting and its resident memory; of a Tomcat the heap in
use after a full collection, which leaves out the room that a collector needs.
"""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.bench import tomcat
from tests.bench.errors import BenchError
from tests.bench.measure import memory_kib
from tests.bench.processes import free_ports, get, running

PIPELINE = 1000
TTL_S = 1800
HEAP_MIB = 3000
TOMCAT_BATCH = 1000
TIMEOUT_S = 120.0


def of_redis(text: str, sessions: int) -> dict[str, float]:
    """Bytes a session: as Redis accounts for it, and of resident memory. Keys are those of aiohttp-session."""
    (port,) = free_ports(1)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with (
        tempfile.TemporaryDirectory(prefix="memory-") as directory,
        running("redis", command, None, Path(directory)) as server,
    ):
        server.wait_until(lambda: _answers(port), "answering")
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
            replies = connection.makefile("rb")
            before = _used(connection, replies)
            resident = memory_kib([server.pid])
            for batch in _batches(text, sessions):
                connection.sendall(b"".join(batch))
                for _ in batch:
                    if (reply := replies.readline()) != b"+OK\r\n":
                        raise BenchError(f"redis answered {reply!r} to a SET")
            used = _used(connection, replies) - before
            grown = (memory_kib([server.pid]) - resident) * 1024
    return {"bytes": used / sessions, "resident": grown / sessions}


def _batches(text: str, sessions: int) -> Iterator[list[bytes]]:
    rng = Random(1)
    batch = []
    for number in range(1, sessions + 1):
        key = f"AIOHTTP_SESSION_{rng.randbytes(16).hex()}"
        batch.append(_command("SET", key, text, "EX", str(TTL_S)))
        if len(batch) == PIPELINE or number == sessions:
            yield batch
            batch = []


def _command(*words: str) -> bytes:
    parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(_command("PING"))
            return connection.recv(16) == b"+PONG\r\n"
    except OSError:
        return False


def _used(connection: socket.socket, replies: "socket.SocketIO") -> int:
    connection.sendall(_command("INFO", "memory"))
    size = int(replies.readline()[1:])
    text = replies.read(size + 2).decode()
    return next(int(line.partition(":")[2]) for line in text.splitlines() if line.startswith("used_memory:"))


def of_tomcat(sessions: int) -> dict[str, float]:
    """Bytes of heap a session at the Tomcat that created it, and at the other one, which backs it up."""
    with (
        tempfile.TemporaryDirectory(prefix="memory-") as directory,
        tomcat.Tomcats("BackupManager", 2, Path(directory), heap_mib=HEAP_MIB) as tomcats,
    ):
        primary, backup = tomcats.ports
        _fill(primary, TOMCAT_BATCH)  # what is made once only is made by now
        before = [_heap(port) for port in (primary, backup)]
        made = TOMCAT_BATCH
        while made < sessions + TOMCAT_BATCH:
            made += TOMCAT_BATCH
            if (active := _fill(primary, TOMCAT_BATCH)) < made:
                raise BenchError(f"Tomcat has {active} sessions, not the {made} that were created")
        grown = [_heap(port) - at for port, at in zip((primary, backup), before, strict=True)]
    return {"primary": grown[0] / sessions, "backup": grown[1] / sessions}


def _fill(port: int, sessions: int) -> int:
    return int(get(port, f"/fill.jsp?sessions={sessions}", timeout_s=TIMEOUT_S).body)


def _heap(port: int) -> int:
    return int(get(port, "/fill.jsp?heap=1", timeout_s=TIMEOUT_S).body)
