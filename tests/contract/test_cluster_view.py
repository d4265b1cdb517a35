"""What nodes tell about the cluster can be read again, by older and newer readers."""

import json
from dataclasses import replace

import pytest

from sessiond.contract.cluster_view import (
    FULL_IN_FLIGHT,
    FULL_LAG_MS,
    REASON_CHARS_MAX,
    ClusterView,
    HealthView,
    Load,
    MemberState,
    MemberView,
)

ALIVE = MemberView("node1", 17, MemberState.ALIVE, "h:1", "h:2", "h:3", "a", 5, 6, 0)
DEAD = MemberView("node2", 3, MemberState.DEAD, "", "h:2", "", "", None, None, None)
VIEW = ClusterView("shop", "node1", "any", (ALIVE, DEAD))
HEALTH = HealthView("node1", MemberState.DRAINING, 1, 2, Load(3, 1.5, 0.25))


def test_a_view_survives_the_way_over_http() -> None:
    assert ClusterView.from_json(json.loads(json.dumps(VIEW.to_json()))) == VIEW


def test_a_view_has_the_names_that_others_rely_on() -> None:
    body = json.loads(json.dumps(VIEW.to_json()))
    assert list(body) == ["cluster", "node", "quorum", "members"]
    assert body["members"][0] == {
        "name": "node1",
        "incarnation": 17,
        "state": "alive",
        "http": "h:1",
        "cluster": "h:2",
        "api": "h:3",
        "zone": "a",
        "primaries": 5,
        "backups": 6,
        "unprotected": 0,
        "reprotect_seconds": None,
        "role": "app",
        "store": None,
        "unstored": None,
    }
    assert body["members"][1]["state"] == "dead"
    assert body["members"][1]["primaries"] is None


def test_health_survives_the_way_over_http_under_the_names_that_balancers_rely_on() -> None:
    body = json.loads(json.dumps(HEALTH.to_json()))
    load = {"in_flight": 3, "loop_lag_ms": 1.5, "cpu": 0.25}
    assert body == {
        "node": "node1",
        "state": "draining",
        "primaries": 1,
        "backups": 2,
        "load": load,
        "role": "app",
        "reason": "",
    }
    assert HealthView.from_json(body) == HEALTH


def test_who_says_nothing_of_a_role_serves_users() -> None:
    body = VIEW.to_json()
    body["members"] = [{k: v for k, v in row.items() if k != "role"} for row in body["members"]]
    assert ClusterView.from_json(body) == VIEW
    health = HEALTH.to_json()
    del health["role"]
    assert HealthView.from_json(health).role == "app"


def test_health_says_why_no_session_begins_there_in_not_too_many_words() -> None:
    told = replace(HEALTH, reason="is draining")
    assert HealthView.from_json(told.to_json()) == told
    assert HealthView.from_json({**HEALTH.to_json(), "reason": "x" * 10_000}).reason == "x" * REASON_CHARS_MAX
    health = HEALTH.to_json()
    del health["reason"]
    assert HealthView.from_json(health).reason == ""


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("has \ud800 and \udcff", "has ? and ?"),
        ("is\r\nX-Evil: 1\x1b[2J", "is??X-Evil: 1?[2J"),
        ("wartet auf Müllers Segen – 猫", "wartet auf Müllers Segen – 猫"),
    ],
)
def test_a_nodes_words_are_one_line_that_can_be_shown_whatever_it_says(told: str, shown: str) -> None:
    health = HealthView.from_json(json.loads(json.dumps({**HEALTH.to_json(), "node": told, "reason": told})))
    assert (health.node, health.reason) == (shown, shown)


def test_a_state_node_is_told_from_the_others() -> None:
    row = replace(ALIVE, role="state")
    assert ClusterView.from_json(replace(VIEW, members=(row,)).to_json()).members[0].role == "state"
    assert HealthView.from_json(replace(HEALTH, role="state").to_json()).role == "state"


def test_what_a_newer_node_says_besides_is_ignored() -> None:
    body = VIEW.to_json()
    body["news"] = 1
    body["members"] = [{**row, "news": 1} for row in body["members"]]
    assert ClusterView.from_json(body) == VIEW
    assert HealthView.from_json({**HEALTH.to_json(), "news": 1}) == HEALTH


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cluster": "c", "node": "n", "quorum": "any"},
        {"cluster": "c", "node": "n", "quorum": "any", "members": 1},
        {"cluster": "c", "node": "n", "quorum": "any", "members": [1]},
        {"cluster": "c", "node": "n", "quorum": "any", "members": [{}]},
        *(
            {**VIEW.to_json(), "members": [{**VIEW.to_json()["members"][0], **change}]}
            for change in (
                {"state": "well"},
                {"name": ["x"]},
                {"name": 5},
                {"http": None},
                {"incarnation": "1"},
            )
        ),
        {**VIEW.to_json(), "node": ["x"]},
    ],
)
def test_a_body_that_is_no_view_is_one_of_the_errors_that_readers_expect(body: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        ClusterView.from_json(body)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "well"},
        {"primaries": "many"},
        {"primaries": -1},
        {"backups": 2**64},  # more than some formats have room for
        {"load": None},
        {"load": {}},
        {"load": -1},
        {"load": "nan"},
        {"load": 1e308},
        {"load": {"in_flight": 10**400, "loop_lag_ms": 0, "cpu": 0}},
    ],
)
def test_a_body_that_is_no_health_is_one_of_the_errors_that_readers_expect(change: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        HealthView.from_json({**HEALTH.to_json(), **change})


@pytest.mark.parametrize("missing", ["node", "state", "primaries", "backups", "load"])
def test_health_without_one_of_its_fields_is_no_health(missing: str) -> None:
    body = {name: value for name, value in HEALTH.to_json().items() if name != missing}
    with pytest.raises(KeyError):
        HealthView.from_json(body)


def test_a_row_without_the_estimate_is_of_an_older_node() -> None:
    body = json.loads(json.dumps(VIEW.to_json()))
    for row in body["members"]:
        del row["reprotect_seconds"]
    assert {member.reprotect_seconds for member in ClusterView.from_json(body).members} == {None}


def test_waiting_requests_a_late_loop_and_processor_time_add_up_to_a_load() -> None:
    assert Load().figure == 0.0
    assert (
        Load(in_flight=FULL_IN_FLIGHT).figure
        == Load(loop_lag_ms=FULL_LAG_MS).figure
        == Load(cpu=1.0).figure
        == 1.0
    )
    assert Load(FULL_IN_FLIGHT, 2 * FULL_LAG_MS, 0.5).figure == 3.5


def test_a_plain_number_is_a_load_too() -> None:
    assert HealthView.from_json({**HEALTH.to_json(), "load": 0.5}).load == Load(cpu=0.5)
