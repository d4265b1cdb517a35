"""What `/metrics` says after something happened, read as Prometheus reads it."""

import asyncio

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from balancer.admin.metrics import registry_of
from balancer.core.histogram import BOUNDS_S
from sessiond.contract.cluster_view import Load
from tests.balancer.proxy.stage import OK, Connection, ScriptedNode, Stage, cookie, get, until
from tests.docs_reference import metrics_page

Samples = dict[str, float]


def samples_of(stage: Stage) -> Samples:
    """By name and labels, as in the text."""
    text = generate_latest(registry_of(stage.pool, stage.service)).decode()
    families = text_string_to_metric_families(text)  # which insists on the format
    return {
        sample.name
        + "".join(f" {label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


async def test_a_request_is_counted_with_its_times_and_bytes() -> None:
    async with Stage(ScriptedNode("node1")) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await client.answer()
        samples = samples_of(stage)
        node = stage.scripted[0]
        assert samples["balancer_requests_total"] == 1
        assert samples["balancer_node_answers_total class=2xx node=node1"] == 1
        assert samples["balancer_node_sent_bytes_total node=node1"] == len(node.requests[0].head)
        assert samples["balancer_node_received_bytes_total node=node1"] == len(OK)
        for name in ("first_byte", "request", "connect"):
            assert samples[f"balancer_node_{name}_seconds_count node=node1"] == 1
            assert samples[f"balancer_node_{name}_seconds_bucket le=+Inf node=node1"] == 1
            assert samples[f"balancer_node_{name}_seconds_sum node=node1"] > 0
        assert samples["balancer_node_check_seconds_count node=node1"] == 0


async def test_buckets_are_cumulative_and_named_by_their_bounds() -> None:
    async with Stage(ScriptedNode("node1")) as stage:
        for seconds in (0.0001, 0.003, 0.003, 99.0):
            stage["node1"].counters.latency.observe(seconds)
        samples = samples_of(stage)
        buckets = [
            samples[f"balancer_node_first_byte_seconds_bucket le={bound} node=node1"] for bound in BOUNDS_S
        ]
        assert buckets == [1, 1, 1, *[3] * (len(BOUNDS_S) - 3)]
        assert samples["balancer_node_first_byte_seconds_bucket le=+Inf node=node1"] == 4


async def test_an_answer_in_two_parts_takes_longer_to_its_last_byte_than_to_its_first() -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
        await go_on.wait()
        await connection.say(b"i")

    async with Stage(ScriptedNode("node1", slow)) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await client.until(b"\r\n\r\nh")
        assert samples_of(stage)["balancer_node_first_byte_seconds_count node=node1"] == 1
        assert samples_of(stage)["balancer_node_request_seconds_count node=node1"] == 0
        go_on.set()
        await client.read(1)
        samples = samples_of(stage)
        assert samples["balancer_node_request_seconds_count node=node1"] == 1
        assert (
            samples["balancer_node_request_seconds_sum node=node1"]
            > samples["balancer_node_first_byte_seconds_sum node=node1"]
        )


async def test_an_exhausted_retry_budget_is_counted() -> None:
    async def hang_up(connection: Connection) -> None:
        await connection.request()

    nodes = [ScriptedNode(name, hang_up) for name in ("node1", "node2", "node3")]
    async with Stage(*nodes, retry_share=0.0, retry_reserve=1) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        assert (await client.answer())[0] == 502
        samples = samples_of(stage)
        assert samples["balancer_retries_total"] == 1
        assert samples["balancer_retry_budget"] == 0
        assert samples["balancer_retries_refused_total"] == 1


async def test_tunnels_are_counted_while_they_are_open() -> None:
    async def upgrade(connection: Connection) -> None:
        await connection.request()
        await connection.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        await connection.closed()

    async with Stage(ScriptedNode("node1", upgrade)) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1"), b"Connection: Upgrade\r\nUpgrade: echo\r\n"))
        await client.until(b"\r\n\r\n")
        assert samples_of(stage)["balancer_tunnels"] == 1
        client.close()
        await until(lambda: not samples_of(stage)["balancer_tunnels"])


async def test_every_metric_of_the_page_is_exported_and_none_is_missing_there() -> None:
    async with Stage(ScriptedNode("node1")) as stage:
        stage["node1"].sessions, stage["node1"].load = 3, Load(cpu=0.5)
        exported = {name.partition(" ")[0] for name in samples_of(stage)}
    ours = {name for name in exported if name.startswith("balancer_")}
    rows = [line.split("|") for line in metrics_page().splitlines() if line.startswith("| `balancer_")]
    told = set()
    for _, cell, kind, *_ in rows:
        name = cell.strip(" `")
        told |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if "histogram" in kind else {name}
    with_options = {  # --discover, --workers
        "balancer_discovery_failures_total", "balancer_workers", "balancer_worker_starts_total",
    }  # fmt: skip
    assert told == ours | with_options
