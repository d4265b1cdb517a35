"""A worker goes on with its reports, whatever becomes of one of them."""

import asyncio
import socket
from typing import Any

import structlog

from balancer.settings import Settings
from balancer.workers.channel import Channel, Message
from balancer.workers.worker import Worker
from tests.balancer.proxy.stage import until


class Speaking:
    """A balancer whose first reports cannot be written, for what a node made it say."""

    has_begun = True
    settings = Settings(health_interval_s=0.01)

    def __init__(self, *words: str) -> None:
        self.words = [*words]

    @property
    def source(self) -> Any:
        return self

    def nodes(self) -> list[dict[str, Any]]:
        return [{"name": "node1", "reason": self.words.pop(0) if self.words else ""}]

    def nothing(self) -> None:
        return None

    totals = hindrance = numbers = nothing


async def test_a_report_that_cannot_be_written_is_logged_and_the_next_one_tells_what_it_would_have() -> None:
    ours, theirs = socket.socketpair()
    heard: list[Message] = []
    channel = Channel(heard.append, lambda: None)
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: channel, sock=ours)
    worker = Worker(theirs, ())
    await loop.create_unix_connection(lambda: worker._channel, sock=theirs)
    worker._balancer = balancer = Speaking("\ud800", "\ud800")  # type: ignore[assignment]  # as far as reports go
    worker._changed = {"node1"}
    with structlog.testing.capture_logs() as lines:
        reporting = asyncio.create_task(worker._report(balancer))  # type: ignore[arg-type]  # as above
        try:
            await until(lambda: heard or reporting.done())
            assert heard[0]["nodes"] == [{"name": "node1", "reason": ""}]
            assert heard[0]["changed"] == ["node1"]
            assert [line["event"] for line in lines] == ["report.failed", "report.failed"]
        finally:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
            channel.close()
            worker._channel.close()
