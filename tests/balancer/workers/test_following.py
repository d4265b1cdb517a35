"""A worker follows the settings that it is sent, one after the other, whatever becomes of those before."""

import asyncio
import socket
from dataclasses import replace

import pytest

from balancer.errors import ConfigurationError
from balancer.settings import Settings
from balancer.workers.packing import packed_settings
from balancer.workers.worker import Worker
from tests.balancer.proxy.stage import until


class Faulty:
    """A balancer whose reloads end like this, in this order, and well after that."""

    def __init__(self, *errors: Exception) -> None:
        self.settings = Settings(log_level="critical")
        self.tried: list[Settings] = []
        self._errors = list(errors)

    async def reload(self, settings: Settings) -> list[str]:
        self.tried.append(settings)
        if self._errors:
            raise self._errors.pop(0)
        self.settings = settings
        return []


async def test_settings_that_were_refused_and_faults_of_ours_do_not_end_the_following(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(
        "balancer.workers.worker.logs.configure", lambda _format, level, **_more: logged.append(level)
    )
    balancer = Faulty(ConfigurationError("no"), ExceptionGroup("followers failed", [KeyError("node1")]))
    ours, theirs = socket.socketpair()
    worker = Worker(theirs, ())
    following = asyncio.create_task(worker._follow_settings(balancer))
    try:
        levels = ("debug", "warning", "error")
        for number, level in enumerate(levels, 1):
            packed = packed_settings(replace(Settings(), log_level=level))
            worker._later.put_nowait({"kind": "settings", "worker": 1, "settings": packed})
            await until(lambda number=number: len(balancer.tried) == number or following.done())
        assert [settings.log_level for settings in balancer.tried] == list(levels)
        assert logged == ["debug", "critical", "warning", "critical", "error"], (
            "what was refused is no longer logged by"
        )
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        for end in (ours, theirs):
            end.close()
