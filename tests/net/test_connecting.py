import asyncio
import errno
import os
import socket

import pytest

from sessiond.net import connecting
from sessiond.net.connecting import ConnectFailed, Connector
from sessiond.net.events import DialFailureKind
from tests.net.nodes import until


async def failure_of(connector, address):
    with pytest.raises(ConnectFailed) as failed:
        await connector.connect(address, asyncio.Protocol())
    return failed.value


async def test_a_port_nobody_listens_at_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    failure = await failure_of(Connector(5.0), f"127.0.0.1:{port}")
    assert failure.kind is DialFailureKind.REFUSED
    assert "refused" in str(failure)


async def test_a_host_that_answers_nothing_is_given_up_in_time():
    """As with a vanished container: a listener whose queue is full drops further connections silently."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        try:
            host, port = full.getsockname()
            failure = await failure_of(Connector(0.1), f"{host}:{port}")
        finally:
            for connection in waiting:
                connection.close()
    assert failure.kind is DialFailureKind.TIMEOUT
    assert "0.1 s" in str(failure)


@pytest.mark.parametrize("address", ["node2", "node2:", "node2:port", "::1:7101", "node2:0"])
async def test_what_is_no_address_is_reported_as_a_bad_name(address):
    failure = await failure_of(Connector(5.0), address)
    assert failure.kind is DialFailureKind.NAME
    assert repr(address) in str(failure)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (socket.EAI_NONAME, DialFailureKind.NAME),
        (socket.EAI_AGAIN, DialFailureKind.NAME),
        (socket.EAI_MEMORY, DialFailureKind.LOCAL),
    ],
)
async def test_a_name_that_is_gone_is_told_from_a_fault_of_this_node(monkeypatch, code, kind):
    async def look_up(_target):
        raise socket.gaierror(code, "says the resolver")

    monkeypatch.setattr(connecting, "_look_up", look_up)
    failure = await failure_of(Connector(5.0), "node2:7101")
    assert failure.kind is kind
    assert str(failure) == "node2: says the resolver"


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ([errno.ECONNREFUSED, errno.ECONNREFUSED], DialFailureKind.REFUSED),
        ([errno.ECONNREFUSED, errno.EHOSTUNREACH], DialFailureKind.UNREACHABLE),
        ([errno.ENETUNREACH, errno.EHOSTUNREACH], DialFailureKind.UNREACHABLE),
        ([errno.ETIMEDOUT, errno.ETIMEDOUT], DialFailureKind.TIMEOUT),
        ([errno.ECONNREFUSED, errno.EMFILE], DialFailureKind.LOCAL),
    ],
)
async def test_a_name_with_several_addresses_fails_as_the_weakest_evidence_of_them(monkeypatch, codes, kind):
    """Refused is certain evidence of a death, so one address that may be alive must be enough to doubt it."""
    failures = iter(codes)

    async def connect(_info, _protocol):
        code = next(failures)
        raise OSError(code, os.strerror(code))

    async def look_up(_target):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{host}", 1)) for host in (1, 2)]

    monkeypatch.setattr(connecting, "_look_up", look_up)
    monkeypatch.setattr(connecting, "_connect", connect)
    failure = await failure_of(Connector(5.0), "node2:7101")
    assert failure.kind is kind
    assert next(failures, None) is None, "every address is tried"


async def test_the_next_address_is_tried_when_one_refuses(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        async def look_up(_target):
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
                for host in ("127.0.0.2", "127.0.0.1")
            ]

        monkeypatch.setattr(connecting, "_look_up", look_up)
        connected = asyncio.get_running_loop().create_future()

        class Peer(asyncio.Protocol):
            def connection_made(self, transport):
                connected.set_result(transport)

        await Connector(5.0).connect("node2:1", Peer())
        (await connected).abort()
        await asyncio.sleep(0)


async def test_a_name_is_looked_up_anew_each_time_but_never_twice_at_once(monkeypatch):
    look_ups = []

    async def look_up(_target):
        look_ups.append(asyncio.get_running_loop().create_future())
        return await look_ups[-1]

    monkeypatch.setattr(connecting, "_look_up", look_up)
    connector = Connector(0.02)
    for _ in range(3):
        assert (await failure_of(connector, "node2:7101")).kind is DialFailureKind.TIMEOUT
    assert len(look_ups) == 1, "a stuck name server holds one thread of the loop, not one an attempt"
    look_ups[0].set_exception(socket.gaierror(socket.EAI_AGAIN, "at last"))
    await until(lambda: not connector._lookups)
    assert (await failure_of(connector, "node2:7101")).kind is DialFailureKind.TIMEOUT
    assert len(look_ups) == 2
    connector.close()
    await asyncio.sleep(0)


async def test_numbers_are_connected_to_without_a_look_up(monkeypatch):
    async def look_up(_target):
        pytest.fail("a look-up needs a thread, and may be stuck behind another one")

    monkeypatch.setattr(connecting, "_look_up", look_up)
    for address in ("127.0.0.1:1", "[::1]:1"):
        assert (await failure_of(Connector(5.0), address)).kind in {
            DialFailureKind.REFUSED,
            DialFailureKind.LOCAL,  # a machine without IPv6
        }
