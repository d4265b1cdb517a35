"""Settings that cannot work are refused with a text that names them."""

from pathlib import Path
from typing import Any

import pytest

from balancer.errors import ConfigurationError
from balancer.settings import Settings, nodes, validated

NODE = ("node1=127.0.0.1:8101",)


def test_the_defaults_need_only_a_node() -> None:
    settings = Settings(node=NODE)
    assert validated(settings) is settings
    assert [(spec.name, str(spec.address)) for spec in nodes(settings)] == [("node1", "127.0.0.1:8101")]


def test_a_node_may_have_a_weight_and_a_zone() -> None:
    plain, heavy, far = nodes(Settings(node=("a=h:1", "b=h:2;weight=3", "c=[::1]:3;zone=eu-1;weight=0")))
    assert [(spec.weight, spec.zone) for spec in (plain, heavy, far)] == [(1, ""), (3, ""), (0, "eu-1")]
    assert str(far.address) == "[::1]:3"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"node": ()}, "--node node1="),
        ({"node": ("127.0.0.1:8101",)}, "not NAME=HOST:PORT"),
        ({"node": ("no.de=127.0.0.1:1",)}, "not NAME=HOST:PORT"),
        ({"node": ("node1=127.0.0.1",)}, "node node1"),
        ({"node": ("node1=127.0.0.1:0",)}, "port 0"),
        ({"node": ("node1=h:1;weight=1.5",)}, "node node1: weight '1.5' is not a whole number"),
        ({"node": ("node1=h:1;weight=1001",)}, "node node1: a weight is a whole number from 0 to 1000"),
        ({"node": ("node1=h:1;zone=",)}, "node node1: zone '' is not a name"),
        ({"node": ("node1=h:1;colour=red",)}, "neither weight=NUMBER nor zone=NAME"),
        ({"node": (*NODE, *NODE)}, "two nodes are called node1"),
        ({"discover": ("node1",)}, "discover: 'node1' is not HOST:PORT"),
        ({"discover_token_file": Path("/nowhere/token")}, "discover_token_file /nowhere/token"),
        ({"discover_interval_s": 0.0}, "discover_interval_s must be more than 0"),
        ({"secret_file": Path("/nowhere/secret")}, "secret_file /nowhere/secret"),
        ({"secret": "short"}, "BALANCER_SECRET holds a secret of fewer than 16"),
        ({"secret": "x" * 16, "secret_file": Path("/nowhere")}, "keep one of them"),
        ({"health_status": ("20",)}, "health_status: '20' is neither a status"),
        ({"health_status": ("300-200",)}, "health_status: '300-200' is neither"),
        ({"health_status": ("200-",)}, "health_status: '200-' is neither"),
        ({"health_status": ()}, "health_status: name at least one"),
        ({"eject_share_max": 2.0}, "eject_share_max is a share"),
        ({"zone": "a b"}, "zone 'a b' is not a name"),
        ({"panic_threshold": 1.5}, "panic_threshold is a share, from 0 to 1"),
        ({"listen": "8080"}, "listen"),
        ({"admin": "127.0.0.1"}, "admin"),
        ({"admin": "0.0.0.0:8090"}, "admin_token_file"),
        ({"trusted_network": ("10.0.0.1/8",)}, "trusted_network"),
        ({"trusted_network": ("everybody",)}, "10.0.0.0/8"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s must be more than 0"),
        ({"retry_share": -1.0}, "retry_share must be 0 or more"),
        ({"header_count_max": 0}, "header_count_max"),
        ({"workers": 0}, "workers must be more than 0"),
        ({"workers": 257}, "workers must be 256 or fewer"),
        ({"health_path": "health"}, "health_path"),
        ({"health_path": "/a b"}, "health_path"),
        ({"health_path": "/a\r\nX: y"}, "health_path"),
        ({"cookie_name": "a b"}, "cookie_name"),
        ({"cookie_name": ""}, "cookie_name"),
        ({"admin_token_file": Path("/nowhere/token")}, "admin_token_file /nowhere/token"),
    ],
)
def test_what_cannot_work_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace(".", r"\.")):
        validated(Settings(**{"node": NODE, **fields}))


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(" \n")
    with pytest.raises(ConfigurationError, match="is empty"):
        validated(Settings(node=NODE, admin="0.0.0.0:8090", admin_token_file=token))


def test_a_cluster_to_ask_is_enough() -> None:
    validated(Settings(discover=("127.0.0.1:9101",)))


def test_an_open_admin_port_must_be_asked_for() -> None:
    validated(Settings(node=NODE, admin="0.0.0.0:8090", insecure=True))
