"""Records in Redis or Valkey: ``redis://user:password@host:port/0?prefix=shop:&pool_size=8&timeout_s=5``.

Every node that has this URL sees the same records. A write is in the server's memory when it returns, and on its
disk as its ``appendonly`` and ``appendfsync`` say. The server removes what has expired by its own clock.

A key's record is compared and written by a script that names this one key, so no two scripts share a slot; the
scripts of a batch travel together.
"""

import contextlib
import math
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from sessiond.errors import ConfigurationError, StoreError, StoreUnavailable, StoreUnusable
from sessiond.stores.gate import Gate
from sessiond.stores.interface import Record, latest
from sessiond.stores.reading import Reading
from sessiond.stores.sealing import fence, seal, unseal
from sessiond.stores.url import StoreUrl

POOL_SIZE = 8
TIMEOUT_S = 5.0

PAGE_RECORDS = 64
"""Of a scan: with the largest sessions these are 64 MiB."""

WRITE = """
local there = redis.call('GETRANGE', KEYS[1], 0, 263)
local size = string.byte(there, 1) or 0
if size >= 25 and #there >= size + 9 then
  local mark = ARGV[2]
  -- Byte by byte: < would compare as the server's language sorts.
  for i = 1, math.min(size, #mark) do
    local old, new = string.byte(there, i + 1), string.byte(mark, i)
    if old > new then return 0 end
    if old < new then break end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[3])
return 1
"""
"""The record in ARGV[1] with the fence in ARGV[2] takes the key, unless a higher fence is there. `sealing` says how
a value begins. Of two fences neither is the beginning of the other, except of an equal one."""

_REFUSALS = (AuthenticationError, AuthorizationError, NoPermissionError)
_SCRIPT_REFUSALS = ("can't run this command", "ACL failure in script")
"""What Redis 7.0, and later ones with Valkey, say when the script does what its user may not."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class RedisStore(Reading):
    """Implements `sessiond.stores.interface.Store`."""

    shared = True

    def __init__(self, url: StoreUrl, *, cluster_name: str) -> None:
        super().__init__()
        if not url.parts.hostname:
            raise ConfigurationError(f"the store's URL {url} names no host: write redis://host:6379/0")
        self._name = str(url)
        self._prefix = url.text("prefix", f"sessiond:{cluster_name}:").encode()
        pool_size = url.count("pool_size", POOL_SIZE)
        timeout_s = url.seconds("timeout_s", TIMEOUT_S)
        self._authorities = url.text("ssl_ca_certs", "") if url.scheme == "rediss" else ""
        url.no_more_options()
        secure = {"ssl_ca_certs": self._authorities} if self._authorities else {}
        self._client = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url.without_options(**secure),
                max_connections=pool_size,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),  # the caller's to decide
            )
        )
        self._gate = Gate(self._name, timeout_s)
        self._script = ""

    async def open(self) -> None:
        if self._gate.is_open:
            return
        self._look_at_authorities()
        async with self._call(opening=True):
            self._script = await self._client.script_load(WRITE)
            await self._look()
        self._gate.open()

    async def write(self, records: Sequence[Record]) -> set[bytes]:
        chosen = latest(records)
        if not chosen:
            return set()
        async with self._call():
            answers = await self._run(chosen)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                # The server was restarted, or somebody flushed its scripts. To write again what was written is safe.
                self._script = await self._client.script_load(WRITE)
                answers = await self._run(chosen)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return {record.key for record, answer in zip(chosen, answers, strict=True) if not answer}

    async def read(self, key: bytes) -> Record | None:
        async with self._call():
            value = cast("bytes | None", await self._client.get(self._prefix + key))
        return None if value is None else self._live(unseal, key, value)

    async def delete(self, keys: Sequence[bytes]) -> None:
        if not keys:
            return
        async with self._call(), self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.unlink(self._prefix + key)
            await pipeline.execute()

    async def remove_expired(self, now: float, most: int) -> int:
        """Always 0: every key has its expiry, and the server removes it by itself."""
        del now, most
        async with self._call():
            return 0

    async def scan(self) -> AsyncIterator[Record]:
        """May bring a record twice while the server's table grows or shrinks."""
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", self._prefix) + b"*"
        cursor = -1
        while cursor:
            async with self._call():
                answer = await self._client.scan(max(cursor, 0), match=pattern, count=PAGE_RECORDS)
            cursor, names = cast("tuple[int, list[bytes]]", answer)
            for start in range(0, len(names), PAGE_RECORDS):
                for record in await self._page(names[start : start + PAGE_RECORDS]):
                    yield record

    async def close(self) -> None:
        await self._gate.close()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _run(self, records: list[Record]) -> list[Any]:
        """What the script answered for each: 1 written, 0 refused, or an error."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for record in records:
                pipeline.evalsha(
                    self._script,
                    1,
                    self._prefix + record.key,
                    seal(record),
                    fence(record),
                    max(1, math.ceil(record.expires_at * 1000)),
                )
            return await pipeline.execute(raise_on_error=False)

    async def _page(self, names: list[bytes]) -> list[Record]:
        async with self._call(), self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.get(name)
            values = await pipeline.execute()
        found = zip(names, values, strict=True)
        keys_and_values = [(name[len(self._prefix) :], value) for name, value in found if value is not None]
        return list(self._all_live(unseal, keys_and_values))

    def _look_at_authorities(self) -> None:
        """The client would take a file that is missing for a server that does not answer."""
        if not self._authorities:
            return
        try:
            ssl.create_default_context(cafile=self._authorities)
        except OSError as error:  # an SSLError is one
            raise StoreUnusable(
                f"the store {self._name} has ssl_ca_certs={self._authorities}, which cannot be used: {error.strerror}; "
                "name a PEM file of the certificates to be believed"
            ) from error

    async def _look(self) -> None:
        """Say what the server's settings mean for sessions. One that hides them is taken as it is."""
        try:
            found = await self._client.info()
        except ResponseError as error:
            log.info("store.settings_unknown", store=self._name, reason=str(error))
            return
        if found.get("cluster_enabled"):
            raise StoreUnusable(self._in_a_cluster())
        policy = found.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            log.warning("store.evicts", store=self._name, maxmemory_policy=policy, wanted="noeviction")
        if not found.get("aof_enabled"):
            log.warning("store.not_durable", store=self._name, appendonly="no", wanted="yes")

    @contextlib.asynccontextmanager
    async def _call(self, *, opening: bool = False) -> AsyncIterator[None]:
        async with self._gate.passage(opening=opening):
            try:
                yield
            except RedisError as error:
                raise self._translated(error) from error

    def _translated(self, error: RedisError) -> StoreError:
        words = str(error)
        match error:
            case _ if isinstance(error, _REFUSALS) or any(refusal in words for refusal in _SCRIPT_REFUSALS):
                return StoreUnusable(
                    f"the store {self._name} refuses us ({error}): check user and password in its URL, and that the "
                    "user may run scripts"
                )
            case MovedError():
                return StoreUnusable(self._in_a_cluster())
            case InvalidResponse():
                return StoreUnusable(f"the store {self._name} does not speak Redis' protocol: check its URL")
            case ResponseError() if words.startswith("unknown command"):
                return StoreUnusable(
                    f"the store {self._name} ({error}): it must be Redis 6.2 or later, or Valkey"
                )
        return StoreUnavailable(f"the store {self._name}: {error}")

    def _in_a_cluster(self) -> str:
        return (
            f"the store {self._name} is one node of a Redis Cluster: name a single server, or a proxy that stands "
            "before the cluster"
        )
