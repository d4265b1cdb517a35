"""The API port: what it shows, to whom, and how it says no."""

import json
import socket
from collections.abc import Iterable

import pytest

from sessiond.contract.cluster_view import ClusterView, MemberState
from sessiond.contract.drain_view import DrainView
from sessiond.contract.session_id import Keyring
from sessiond.errors import ConfigurationError
from sessiond.ports import Sample
from sessiond.settings import Settings
from sessiond.web.api import Api
from tests.support.fake_backend import FakeNode
from tests.support.wire import fetch

TOKEN = "a-token-of-many-characters"


class FakeHost:
    """The application's port, as the API sees it."""

    def __init__(self, *samples: Sample) -> None:
        self.in_flight = 0
        self.is_noticed = True
        self.sample_list = samples

    def samples(self) -> Iterable[Sample]:
        return self.sample_list


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(Settings(api="127.0.0.1:0"))


@pytest.fixture
async def port(node):
    api = Api(node)
    await api.start()
    yield api.address.port
    await api.stop()


@pytest.fixture
async def guarded(tmp_path):
    """The port of an API that can be reached from other machines."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    api = Api(FakeNode(Settings(api="0.0.0.0:0", api_token_file=file)))
    await api.start()
    yield api.address.port
    await api.stop()


async def get_json(port: int, target: str, **headers: str) -> tuple[int, dict]:
    answer = await fetch(port, target, **headers)
    assert answer.header("Content-Type") == "application/json; charset=utf-8"
    return answer.status, json.loads(answer.body)


async def test_the_cluster_is_what_the_node_sees(port, node):
    status, body = await get_json(port, "/v1/cluster")
    assert status == 200
    assert ClusterView.from_json(body) == node.cluster_view()
    assert set(body) == {"cluster", "node", "quorum", "members"}
    assert set(body["members"][0]) == {
        *("name", "incarnation", "state", "http", "cluster", "api", "zone"),
        *("primaries", "backups", "unprotected", "reprotect_seconds", "role", "store", "unstored"),
    }
    assert body["members"][0]["unprotected"] is None


async def test_a_session_is_located_by_cookie_value_and_by_key(port, node):
    token, key = node.new_session()
    expected = {"key": key.hex(), "primary": "node1", "backups": ["node2"], "epoch": 3, "version": 1}
    for name in (f"{token}.node1", f"{token}.node9", key.hex(), key.hex().upper()):
        assert await get_json(port, f"/v1/locate/{name}") == (200, expected)


@pytest.mark.parametrize("name", ["x", "0" * 32, "0" * 31, "g" * 32, "forged", "a%2Fb", "%00"])
async def test_an_unknown_session_is_a_404_that_does_not_repeat_the_id(port, name):
    if name == "forged":
        name = Keyring([b"another secret of ours"], "default").new_token(b"a" * 16) + ".node1"
    status, body = await get_json(port, f"/v1/locate/{name}")
    assert (status, body["error"]) == (404, "not_found")
    assert "node1 knows no such session" in body["message"]


async def test_an_unknown_path_and_a_wrong_method_are_errors_in_json(port):
    status, body = await get_json(port, "/v2/cluster")
    assert (status, body) == (404, {"error": "not_found", "message": "Not Found: GET /v2/cluster"})
    answer = await fetch(port, "/v1/cluster", method="DELETE")
    assert (answer.status, json.loads(answer.body)["error"]) == (405, "method_not_allowed")
    assert answer.header("Allow") == "GET,HEAD"


async def test_a_fault_is_an_error_in_json_too(port, node, monkeypatch):
    def broken():
        raise ValueError("a bug")

    monkeypatch.setattr(node, "cluster_view", broken)
    status, body = await get_json(port, "/v1/cluster")
    assert (status, body) == (500, {"error": "internal_server_error", "message": "the log says why"})


async def test_probes_tell_a_running_loop_from_a_ready_node(port, node):
    assert (await fetch(port, "/readyz")).status == 200
    for state, serving in (
        (MemberState.DRAINING, True),
        (MemberState.JOINING, False),
        (MemberState.ALIVE, False),
    ):
        node.state, node.serving = state, serving
        answer = await fetch(port, "/readyz")
        assert (answer.status, answer.text) == (503, f"{state}\n")
        assert (await fetch(port, "/healthz")).status == 200


async def test_metrics_are_the_samples_of_node_and_host(node):
    node.sample_list = [
        Sample("sessiond_writes_total", "counter", "Writes.", 5, {}),
        Sample("sessiond_copies", "gauge", "Copies.", 2, {"role": "primary"}),
        Sample("sessiond_copies", "gauge", "Copies.", 3, {"role": "backup"}),
    ]
    host = FakeHost(Sample("sessiond_load", "gauge", "Load.", 0.25, {}))
    api = Api(node, host)
    await api.start()
    try:
        answer = await fetch(api.address.port, "/metrics")
        node.sample_list[0] = node.sample_list[0]._replace(value=6)
        again = await fetch(api.address.port, "/metrics")
    finally:
        await api.stop()
    assert answer.header("Content-Type").startswith("text/plain; version=")
    lines = answer.text.splitlines()
    assert "# TYPE sessiond_writes_total counter" in lines
    assert "sessiond_writes_total 5.0" in lines
    assert 'sessiond_copies{role="primary"} 2.0' in lines
    assert 'sessiond_copies{role="backup"} 3.0' in lines
    assert lines.count("# HELP sessiond_copies Copies.") == 1
    assert "sessiond_load 0.25" in lines
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)
    assert "sessiond_writes_total 6.0" in again.text.splitlines()


# --- leaving ------------------------------------------------------------------------------------------------


@pytest.fixture
async def draining(node):
    """Port of an API beside a host, and the host."""
    host = FakeHost()
    api = Api(node, host)
    await api.start()
    yield api.address.port, host
    await api.stop()


async def ask_drain(port: int, method: str) -> dict:
    answer = await fetch(port, "/v1/drain", method=method)
    assert answer.status == 200
    return json.loads(answer.body)


async def test_a_drain_is_begun_looked_at_and_aborted(port, node):
    node.new_session()
    assert (await ask_drain(port, "GET"))["state"] == "alive"
    begun = await ask_drain(port, "POST")
    assert begun == {
        "node": "node1",
        "state": "draining",
        "primaries": 1,
        "backups": 0,
        "safe_to_stop": False,
        "quarantined": 0,
        "requests": 0,
        "hindrance": "",
    }
    assert DrainView.from_json(begun) == node.drain_view()
    assert await ask_drain(port, "GET") == begun
    assert (await ask_drain(port, "DELETE"))["state"] == "alive"
    assert node.state is MemberState.ALIVE


async def test_a_node_without_copies_is_not_safe_to_stop_while_it_answers_somebody(draining, node):
    port, host = draining
    node.is_drained = True
    host.in_flight = 2
    view = await ask_drain(port, "POST")
    assert (view["safe_to_stop"], view["requests"]) == (False, 2)
    host.in_flight, host.is_noticed = 0, False
    assert not (await ask_drain(port, "GET"))["safe_to_stop"], "the balancer still sends new visitors"
    host.is_noticed = True
    assert (await ask_drain(port, "GET"))["safe_to_stop"]


async def test_the_drain_of_a_process_that_was_told_to_end_cannot_be_aborted(port, node):
    node.begin_drain()
    node.drains_for_good = True
    answer = await fetch(port, "/v1/drain", method="DELETE")
    assert (answer.status, json.loads(answer.body)["error"]) == (409, "conflict")
    assert node.state is MemberState.DRAINING


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_draining_needs_the_token_off_loopback(guarded, method):
    assert (await fetch(guarded, "/v1/drain", method=method)).status == 401


# --- who may ask --------------------------------------------------------------------------------------------


async def test_off_loopback_the_token_is_needed(guarded):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer é"},
    ):
        answer = await fetch(guarded, "/v1/cluster", **headers)
        assert answer.status == 401
        assert json.loads(answer.body)["error"] == "unauthorized"
        assert answer.header("WWW-Authenticate") == "Bearer"
    assert (await fetch(guarded, "/v1/cluster", Authorization=f"Bearer {TOKEN}")).status == 200


async def test_paths_that_do_not_exist_are_not_told_apart_without_the_token(guarded):
    assert (await fetch(guarded, "/v1/none")).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "https://evil.example"},  # an older browser
        {"Origin": "null"},  # a sandboxed frame, a file
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example:9101", "Host": "evil.example:9101", "Sec_Fetch_Site": "same-origin"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_no_page_in_a_browser_gives_a_node_orders(port, node, method, headers):
    if method == "DELETE":
        node.begin_drain()
    state = node.state
    answer = await fetch(port, "/v1/drain", method=method, **headers)
    assert answer.status == 403
    body = json.loads(answer.body)
    assert body["error"] == "forbidden"
    assert "sessiond drain" in body["message"]
    assert node.state is state


async def test_what_a_node_shows_can_be_opened_in_a_browser(port):
    assert (await fetch(port, "/v1/drain", Sec_Fetch_Site="none")).status == 200
    assert (await fetch(port, "/metrics", Sec_Fetch_Site="same-origin")).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
async def test_probes_need_no_token(guarded, path):
    assert (await fetch(guarded, path)).status == 200


def test_a_token_file_that_cannot_be_read_is_named(tmp_path):
    settings = Settings(api="0.0.0.0:0", api_token_file=tmp_path / "missing")
    with pytest.raises(ConfigurationError, match=r"--api-token-file .*missing"):
        Api(FakeNode(settings))


async def test_a_busy_port_is_named_with_its_option(node):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node.settings = Settings(api=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigurationError, match=r"--api 127\.0\.0\.1:\d+: .*in use"):
            await Api(node).start()
