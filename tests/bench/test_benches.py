"""A bench refuses a contender that does not do the job it is compared for."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import jinja2
import pytest

from sessiond.contract.names import COOKIE_NAME
from tests.bench import proxies, report, sessions
from tests.bench.errors import BenchError
from tests.bench.measure import Group, Plan, compare
from tests.bench.test_measure import a_contender, a_turn


@pytest.fixture
def always_node1() -> Iterator[int]:
    """A proxy that sends everything to node1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Node", "node1")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_proxy_that_ignores_the_cookies_suffix_is_refused(always_node1: int) -> None:
    with pytest.raises(BenchError, match="lazy sent a request for node2 to node1"):
        proxies.verify_stickiness("lazy", always_node1)


class CountingOrigin(proxies.Origin):
    def connections(self) -> int:
        return 1000


def test_a_proxy_that_opens_a_connection_for_each_request_is_refused() -> None:
    origin = CountingOrigin(0, 0, 0)
    proxies.verify_reuse("frugal", origin, connections_before=990, requests=1000)
    with pytest.raises(BenchError, match="wasteful opened 1000 connections for 1000 requests"):
        proxies.verify_reuse("wasteful", origin, connections_before=0, requests=1000)


@pytest.mark.parametrize("name", [peer.name for peer in proxies.PEERS])
def test_a_peers_configuration_names_both_nodes_and_the_cookie(name: str, tmp_path: Path) -> None:
    text = proxies.write_config(name, tmp_path, port=1111, node1=2222, node2=3333).read_text()
    assert all(part in text for part in ("127.0.0.1:1111", "127.0.0.1:2222", "127.0.0.1:3333", COOKIE_NAME))


def test_a_value_that_a_configuration_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="node2"):
        proxies.write_config("haproxy", tmp_path, port=1, node1=2)


def test_sessions_must_count_every_request_that_was_answered() -> None:
    reads = sessions.SESSIONS
    sessions.verify_counts(before=100, after=100 + reads + 5000, requests=5000)
    sessions.verify_counts(before=100, after=100 + reads + 5032, requests=5000)
    with pytest.raises(BenchError, match="5000 requests were answered, but the sessions count 4999 writes"):
        sessions.verify_counts(before=100, after=100 + reads + 4999, requests=5000)
    with pytest.raises(BenchError, match="5065 writes"):
        sessions.verify_counts(before=100, after=100 + reads + 5065, requests=5000)


def test_table_and_json_show_median_lowest_and_highest() -> None:
    group = Group("g", "Some job", (a_contender("base"), a_contender("ours")))
    cpu_s = {"base": iter([0.010, 0.010, 0.010]), "ours": iter([0.013, 0.011, 0.012])}
    results = compare(group, 3, lambda contender: a_turn(next(cpu_s[contender.name])), lambda _line: None)
    text = report.table(group, Plan(rounds=3, warm_up_s=1, measure_s=2), results)
    assert text.startswith("Some job: median (lowest–highest) of 3 interleaved rounds, 2 s each")
    assert "12.0 (11.0–13.0)" in text
    assert "1.20 (1.10–1.30)" in text
    figures = json.loads(json.dumps(report.as_json(group, results)))["contenders"][1]["figures"]
    assert figures["ratio"] == pytest.approx({"median": 1.2, "low": 1.1, "high": 1.3})
