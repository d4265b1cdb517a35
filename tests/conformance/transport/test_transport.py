"""Each script in this directory, with the data plane between varnishtest's client and its server."""

import asyncio
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond.contract.address import Address
from tests.balancer.proxy.stage import Stage

pytestmark = pytest.mark.conformance

SCRIPTS = sorted(Path(__file__).parent.glob("*.vtc"))
DEADLINE_S = 30.0
TIMEOUTS_S = {"request_head_timeout_s": 0.5, "response_head_timeout_s": 3.0, "half_close_timeout_s": 0.5}
"""Short ones, for the scripts that wait for them."""


class ServerOfScript:
    """A node whose server varnishtest starts, at an address that is free now."""

    def __init__(self) -> None:
        self.name = "node1"
        self.errors: list[BaseException] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = Address(*free.getsockname())

    async def start(self) -> None:
        """The script does."""

    async def stop(self) -> None:
        """The script has."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
async def test_the_script_finds_what_it_expects(script: Path, tmp_path: Path) -> None:
    program = shutil.which("varnishtest")
    assert program is not None, "varnishtest is not installed: on Debian it is in the package varnish"
    node = ServerOfScript()
    async with Stage(node, request_fall=1000, **TIMEOUTS_S) as stage:
        process = await asyncio.create_subprocess_exec(
            program, "-D", f"node={node.address}", "-D", f"balancer={stage.address}", str(script),
            env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(DEADLINE_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode(errors="replace")


def test_the_scripts_are_counted(show: Callable[[str], None]) -> None:
    assert len(SCRIPTS) >= 20
    show(f"transport: {len(SCRIPTS)} scripts of varnishtest")
