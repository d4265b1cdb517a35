"""Every proxy test runs on both loops: uvloop, which serves in production, and asyncio's own, whose rules it shares.

Those of a module with the mark `over_tls` run over plain TCP and over TLS, but for those marked `plain`, which are
about what TLS does not have: an end in one direction only.
"""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.balancer.proxy.stage import Stage


def pytest_asyncio_loop_factories(
    config: object, item: object
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if "over_tls" in marks and "plain" not in marks:
        metafunc.parametrize("transport", ["tcp", "tls"], indirect=True)


@pytest.fixture(autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind: str = getattr(request, "param", "tcp")
    monkeypatch.setattr(Stage, "uses_tls", kind == "tls")
    return kind
