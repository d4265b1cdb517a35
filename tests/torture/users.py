"""Users who write rising numbers and read them back, and record every answer.

A user has one session and any number of doors to it: a balancer, or a node that he is pinned to. Each door writes
an attribute of its own, so that there is one writer for each and the order of numbers is the order of writes; all
doors share the cookie, as the tabs of a browser do.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sessiond.contract.session_id import join
from tests.e2e.client import Answer, Browser, Cookie, NotAnswered
from tests.torture.history import History, Kind, Operation

RETRY_PAUSE_S = 0.02
"""Between a request that failed and the next one."""

CREATE_ATTEMPTS_MAX = 50

LOOK_S = 10.0
"""So long the last look is repeated that gets no answer: a cluster that is whole needs none of it."""

LOOK_PAUSE_S = 0.2


class Door:
    """One way to a session; what it does is recorded under the session's name.

    A user whose session is not found gets another one, and goes on in that: it has a name of its own.
    """

    def __init__(
        self, history: History, user: str, via: str, attribute: str, browsers: Sequence[Browser]
    ) -> None:
        self.history = history
        self.user = user
        self.via = via
        self.attribute = attribute
        self._writer, self._reader = browsers
        self.sent = 0
        self.kept = 0

    async def write(self) -> Operation:
        self.sent += 1
        operation = self._begin(self._writer, Kind.WRITE, self.attribute)
        operation.number = self.sent
        await self._ask(operation, self._writer, "POST", f"/write/{self.attribute}/{self.sent}")
        if operation.is_answered:
            self.kept = operation.number
        return operation

    async def read(self, attribute: str = "") -> Operation:
        operation = self._begin(self._reader, Kind.READ, attribute or self.attribute)
        await self._ask(operation, self._reader, "GET", f"/read/{operation.attribute}")
        return operation

    async def log_out(self) -> Operation:
        operation = self._begin(self._writer, Kind.LOG_OUT, "")
        await self._ask(operation, self._writer, "POST", "/log-out")
        return operation

    async def close(self) -> None:
        await asyncio.gather(self._writer.close(), self._reader.close())

    async def look(self) -> None:
        """Read this door's attribute in every session that there was; again for `LOOK_S` while there is no answer."""
        for token in dict.fromkeys(self._reader.cookie.tokens):
            self._reader.cookie.set(join(token, self._reader.cookie.node))
            until = time.perf_counter() + LOOK_S
            while not (await self.read()).is_answered and time.perf_counter() < until:  # noqa: ASYNC110 - nothing tells but an answer
                await asyncio.sleep(LOOK_PAUSE_S)

    def _session(self, cookie: Cookie, token: str) -> str:
        number = cookie.tokens.index(token) if token else 0
        return f"{self.user}.{self.via}.{number}" if number else self.user

    def _begin(self, browser: Browser, kind: Kind, attribute: str) -> Operation:
        return Operation(
            self._session(browser.cookie, browser.cookie.token),
            attribute,
            kind,
            time.perf_counter(),
            via=self.via,
        )

    async def _ask(self, operation: Operation, browser: Browser, method: str, path: str) -> None:
        sent = browser.cookie.token
        try:
            answer = await browser.ask(method, path)
        except NotAnswered as error:
            operation.error = str(error)
        else:
            self._note(operation, answer, sent, browser.cookie)
        operation.ended_at = time.perf_counter()
        self.history.operations.append(operation)

    def _note(self, operation: Operation, answer: Answer, sent: str, cookie: Cookie) -> None:
        operation.status = answer.status
        if answer.status != 200:
            operation.error = answer.body[:200].decode(errors="replace")
            return
        body = answer.json()
        operation.found, operation.node = body["found"], body["node"]
        operation.epoch, operation.protected = body["epoch"], body["protected"]
        if not sent or operation.kind is Kind.LOG_OUT:
            return  # that there was no session, or is none afterwards, is as it should be
        token = (answer.session_id or sent).partition(".")[0]
        if token != sent or operation.found == operation.epoch == 0:
            operation.vanished, operation.session = operation.session, self._session(cookie, token)


class User:
    """One session. The first door creates it."""

    def __init__(self, history: History, number: int) -> None:
        self.history = history
        self.name = f"s{number}"
        self.cookie = Cookie()
        self.doors: list[Door] = []

    def ghost(self, via: str, browser: Browser) -> Door:
        """Somebody who comes with a copy of this user's cookie, which `browser` has, whatever became of the session."""
        return Door(self.history, self.name, via, self.doors[0].attribute, (browser, browser))

    def open_door(self, via: str, *browsers: Browser) -> Door:
        """`browsers`: one for writes and one for reads, with this user's cookie."""
        door = Door(self.history, self.name, via, f"a{len(self.doors)}", browsers)
        self.doors.append(door)
        return door

    async def begin(self) -> None:
        """Create the session. Fails if nobody takes it."""
        for _ in range(CREATE_ATTEMPTS_MAX):
            operation = await self.doors[0].write()
            if operation.is_answered and operation.protected:
                return
            await asyncio.sleep(RETRY_PAUSE_S)
        raise AssertionError(f"a session cannot be created: {operation}")


@asynccontextmanager
async def using(
    doors: Sequence[Door], write_pause_s: float, read_pause_s: float, *, own_only: bool = False
) -> AsyncIterator[None]:
    """Everybody writes and reads through these doors until the block ends; then what is in flight is waited for.

    Each door reads its own attribute and, as often, that of another door of the same session, unless `own_only`.
    """
    closing = asyncio.Event()
    attributes: dict[int, list[str]] = {}
    for door in doors:
        attributes.setdefault(door.user, []).append(door.attribute)

    async def pause(seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await closing.wait()
        except TimeoutError:
            pass

    async def write(door: Door, offset_s: float) -> None:
        await pause(offset_s)
        while not closing.is_set():
            operation = await door.write()
            await pause(write_pause_s if operation.is_answered else RETRY_PAUSE_S)

    async def read(door: Door, offset_s: float) -> None:
        await pause(offset_s)
        names = [door.attribute] if own_only else attributes[door.user]
        turn = names.index(door.attribute)
        while not closing.is_set():
            operation = await door.read(names[turn % len(names)])
            turn += 1
            await pause(read_pause_s if operation.is_answered else RETRY_PAUSE_S)

    async with asyncio.TaskGroup() as tasks:
        for number, door in enumerate(doors):
            share = number / len(doors)
            tasks.create_task(write(door, write_pause_s * share))
            tasks.create_task(read(door, read_pause_s * share))
        try:
            yield
        finally:
            closing.set()


async def look_at_everything(doors: Sequence[Door]) -> None:
    """The last look: every attribute of every session, through its own door."""
    await asyncio.gather(*(door.look() for door in doors))
