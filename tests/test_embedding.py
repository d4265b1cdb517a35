"""A node inside a program of one's own, by the names that the design promises."""

import subprocess
import sys

from sessiond import Node, Settings


async def test_an_embedded_node_starts_joins_alone_stores_a_session_and_stops():
    node = Node(Settings(name="solo", cluster="127.0.0.1:0"))
    await node.start()
    try:
        await node.joined()
        committed = await node.commit(b"k" * 16, {"n": b"1"}, create=True)
        assert (committed.version, committed.protected) == (1, False)
        checkout = await node.open(b"k" * 16)
        assert checkout.read("n") == b"1"
        checkout.release()
    finally:
        await node.stop()


def test_the_core_of_a_node_has_every_number_as_it_was_set():
    given = {"copies": 2, "placement": "pair", "ack": "async", "store_write": "behind", "idle_timeout_s": 7.0}
    options = Node(Settings(cluster="127.0.0.1:0", flush="500", **given))._machine.options
    assert options.flush_s == 0.5
    assert {name: getattr(options, name) for name in given} == given


def test_importing_what_the_balancer_needs_does_not_load_a_node():
    code = "import sys, sessiond.contract.names; sys.exit('sessiond.node' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
