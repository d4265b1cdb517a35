"""The network of the tests' own: who reaches whom, and that nothing of it stays."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.torture.netns import PREFIX, Network, missing

pytestmark = [pytest.mark.process, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]

TIMEOUT_S = 0.3


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(["one", "two"]) as network:
        yield network


def listening(network: Network, name: str) -> socket.socket:
    listener = network.places[name].socket()
    listener.bind((network.places[name].host, network.places[name].take()))
    listener.listen()
    return listener


def reaches(network: Network, name: str, listener: socket.socket) -> bool:
    with contextlib.closing(network.places[name].socket()) as client:
        client.settimeout(TIMEOUT_S)
        try:
            client.connect(listener.getsockname())
        except TimeoutError:
            return False
    return True


def test_places_reach_each_other_until_they_are_parted_and_again_when_healed(network):
    with listening(network, "one") as one, listening(network, "two") as two:
        assert reaches(network, "two", one)
        assert reaches(network, "one", two)
        network.part(["one"], ["two"])
        assert not reaches(network, "two", one)
        assert not reaches(network, "one", two)
        assert reaches(network, "one", one)
        network.heal()
        assert reaches(network, "two", one)


def test_one_direction_can_be_dropped_while_the_other_one_passes(network):
    place = network.places["one"]
    with listening(network, "two") as two, contextlib.closing(place.socket()) as client:
        client.connect(two.getsockname())
        server, _ = two.accept()
        with server:
            network.block(["one"], ["two"])
            client.settimeout(TIMEOUT_S)
            server.settimeout(TIMEOUT_S)
            server.sendall(b"hello")
            assert client.recv(5) == b"hello"
            client.sendall(b"hello")
            with pytest.raises(TimeoutError):
                server.recv(5)


def test_all_packets_lost_is_as_good_as_a_cut(network):
    with listening(network, "one") as one:
        network.lose("one", 1.0)
        assert not reaches(network, "two", one)


def test_nothing_is_left_behind_not_even_after_a_failure():
    before = namespaces()

    def fail() -> None:
        with Network(["one"]):
            assert len(namespaces()) == len(before) + 2
            raise RuntimeError("a failure")

    with pytest.raises(RuntimeError, match="a failure"):
        fail()
    assert namespaces() == before


def namespaces() -> list[str]:
    """Those of this process: others may be at work beside it."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith(f"{PREFIX}-{os.getpid()}-")]
