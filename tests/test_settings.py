"""What a node refuses to run with, before it opens anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from sessiond.errors import ConfigurationError
from sessiond.settings import SESSION_BYTES_CEILING, Settings, api_token, cluster_secrets, validated

SECRET = "correct horse battery"


def test_the_defaults_can_run() -> None:
    assert validated(Settings()) == Settings()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "node.1"}, ["--name 'node.1'", "letters, digits"]),
        ({"name": ""}, ["--name ''"]),
        ({"name": "a" * 64}, ["--name", "at most 63"]),
        ({"cluster_name": ""}, ["--cluster-name is empty"]),
        ({"zone": "z" * 256}, ["--zone is longer than 255 bytes"]),
        ({"http": "8101"}, ["--http '8101' is not HOST:PORT"]),
        ({"cluster": "127.0.0.1:99999"}, ["--cluster", "'99999' is not a port"]),
        ({"api": "::1:9101"}, ["--api", "[ADDRESS]:PORT"]),
        ({"advertise_http": "node1:0"}, ["--advertise-http", "port 0"]),
        ({"join": ("127.0.0.1:7101", "node2")}, ["--join 'node2' is not HOST:PORT"]),
        ({"cookie_name": "my cookie"}, ["--cookie-name 'my cookie'"]),
        ({"cookie_name": "__Host-SID"}, ["--cookie-name __Host-SID", "--cookie-secure"]),
        ({"copies": 0}, ["--copies must be more than 0, not 0"]),
        ({"idle_timeout_s": -1.0}, ["--idle-timeout-s must be more than 0"]),
        ({"drain_timeout_s": -1.0}, ["--drain-timeout-s must be 0 or more, not -1.0"]),
        ({"probe_interval_s": 0.6}, ["--silence-timeout-s 2.0", "4 times --probe-interval-s 0.6"]),
        ({"lease_s": 1.5}, ["--silence-timeout-s 2.0", "2 times --lease-s 1.5"]),
        ({"lease_s": 0.4}, ["--lease-s 0.4", "2 times --probe-interval-s 0.25"]),
        ({"ack_timeout_s": 1.5}, ["--silence-timeout-s 2.0", "2 times --ack-timeout-s 1.5"]),
        ({"tombstone_ttl_s": 1.0}, ["--tombstone-ttl-s 1.0", "--silence-timeout-s 2.0"]),
        ({"attribute_bytes_max": 2_000_000}, ["--session-bytes-max", "--attribute-bytes-max 2000000"]),
        ({"memory_bytes_max": 1000}, ["--memory-bytes-max 1000", "--session-bytes-max"]),
        ({"link_queue_bytes_max": 1000}, ["--link-queue-bytes-max 1000", "--session-bytes-max"]),
        (
            {"session_bytes_max": SESSION_BYTES_CEILING + 1},
            ["--session-bytes-max must not be over", "one frame"],
        ),
    ],
)
def test_what_cannot_work_is_refused_by_option(change: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        validated(replace(Settings(), **change))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ack": "Sync"}, "--ack must be one of sync, async, not 'Sync'"),
        (
            {"placement": "backups"},
            "--placement must be one of backup, pair, all, central, none, not 'backups'",
        ),
        ({"store_write": "trough"}, "--store-write must be one of through, behind, not 'trough'"),
        ({"log_level": None}, "--log-level must be one of debug, info, warning, error, not None"),
        ({"copies": 1.5}, "--copies must be a whole number, not 1.5"),
        ({"copies": True}, "--copies must be a whole number, not True"),
        ({"expect": "3"}, "--expect must be a whole number, not '3'"),
        ({"idle_timeout_s": float("nan")}, "--idle-timeout-s must be a number, not nan"),
        ({"drain_timeout_s": float("inf")}, "--drain-timeout-s must be a number, not inf"),
        ({"lease_s": "1"}, "--lease-s must be a number, not '1'"),
        ({"lease_s": True}, "--lease-s must be a number, not True"),
        ({"cookie_secure": "no"}, "--cookie-secure must be True or False, not 'no'"),
        ({"insecure": 1}, "--insecure must be True or False, not 1"),
        ({"flush": 500}, "--flush must be a text, not a value of type int"),
    ],
)
def test_a_program_that_embeds_a_node_cannot_misspell_a_choice_or_mistake_a_type(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        validated(replace(Settings(), **change))
    assert str(refusal.value) == words


def test_whole_seconds_are_seconds_too() -> None:
    validated(Settings(idle_timeout_s=60, drain_timeout_s=0))


def test_a_secret_of_the_wrong_type_is_refused_without_showing_it() -> None:
    with pytest.raises(
        ConfigurationError, match="--secret must be a text, not a value of type bytes"
    ) as refusal:
        validated(replace(Settings(), secret=SECRET.encode()))
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("cluster", ["0.0.0.0:7101", "[::]:7101", "10.0.0.1:7101", "node1:7101"])
def test_links_off_loopback_need_a_secret_or_an_explicit_waiver(cluster: str) -> None:
    settings = Settings(cluster=cluster, advertise_cluster="node1:7101")
    with pytest.raises(ConfigurationError) as refusal:
        validated(settings)
    for option in ("--cluster", "--secret-file", "SESSIOND_SECRET", "--insecure"):
        assert option in str(refusal.value)
    for way_out in ({"secret": SECRET}, {"secret_file": Path("/run/secret")}, {"insecure": True}):
        validated(replace(settings, **way_out))


def test_a_state_node_without_a_central_placement_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match="--role state needs --placement central, not backup"):
        validated(Settings(role="state"))
    validated(Settings(role="state", placement="central"))


def test_the_api_off_loopback_needs_a_token_or_an_explicit_waiver() -> None:
    settings = Settings(api="0.0.0.0:9101", secret=SECRET)
    with pytest.raises(ConfigurationError) as refusal:
        validated(settings)
    for option in ("--api", "--api-token-file", "--insecure"):
        assert option in str(refusal.value)
    validated(replace(settings, api_token_file=Path("/run/token")))
    validated(replace(settings, insecure=True))


def test_every_interface_must_be_advertised_by_an_address() -> None:
    settings = Settings(cluster="0.0.0.0:7101", insecure=True)
    with pytest.raises(ConfigurationError, match="--advertise-cluster HOST:7101"):
        validated(settings)
    validated(replace(settings, advertise_cluster="node1:7101"))


def test_a_secret_from_two_places_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="SESSIOND_SECRET and --secret-file") as refusal:
        validated(Settings(secret=SECRET, secret_file=Path("/run/secret")))
    assert SECRET not in str(refusal.value)


def test_the_secret_is_not_part_of_the_settings_text() -> None:
    assert SECRET not in repr(Settings(secret=SECRET))


@pytest.mark.parametrize(
    "store",
    [
        "redis://shop:open-sesame@host/0",
        "redis://:open-sesame#1@host/0",
        "postgresql://shop:open-sesame/1@host/db",
        "postgresql://host/db?password=open-sesame",
        "open-sesame",
    ],
)
def test_the_password_of_the_store_is_not_part_of_the_settings_text(store: str) -> None:
    assert "open-sesame" not in repr(Settings(store=store))


def test_the_settings_text_shows_the_rest() -> None:
    text = repr(Settings(name="node7", store="redis://host/0"))
    assert text.startswith("Settings(name='node7', http='127.0.0.1:8101', ")
    assert "store='redis://…', store_write='through'" in text
    assert "store=''" in repr(Settings())


def test_a_secret_file_has_one_secret_a_line(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("the new secret 0001\n\n  the old secret 0001  \n")
    assert cluster_secrets(Settings(secret_file=path)) == (b"the new secret 0001", b"the old secret 0001")


def test_a_secret_may_come_as_text_or_not_at_all() -> None:
    assert cluster_secrets(Settings(secret=SECRET)) == (SECRET.encode(),)
    assert cluster_secrets(Settings()) == ()


@pytest.mark.parametrize(("content", "reason"), [("", "holds no secret"), ("\n \n", "holds no secret")])
def test_an_empty_secret_file_is_refused_by_name(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    with pytest.raises(ConfigurationError) as refusal:
        cluster_secrets(Settings(secret_file=path))
    assert f"--secret-file {path} {reason}" in str(refusal.value)


def test_a_secret_that_could_be_guessed_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\nhunter2\n")
    for settings, source in (
        (Settings(secret_file=path), f"--secret-file {path}"),
        (Settings(secret="hunter2"), "SESSIOND_SECRET"),
    ):
        with pytest.raises(ConfigurationError, match="fewer than 16 characters") as refusal:
            cluster_secrets(settings)
        assert source in str(refusal.value)
        assert "hunter2" not in str(refusal.value)


def test_files_that_cannot_be_read_are_refused_by_option_and_name(tmp_path: Path) -> None:
    absent, binary = tmp_path / "absent", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe" * 20)
    for path, reason in ((absent, "No such file"), (tmp_path, "Is a directory"), (binary, "is not UTF-8")):
        with pytest.raises(ConfigurationError, match=reason) as refusal:
            cluster_secrets(Settings(secret_file=path))
        assert f"--secret-file {path}" in str(refusal.value)
        with pytest.raises(ConfigurationError, match=reason) as refusal:
            api_token(path)
        assert f"--api-token-file {path}" in str(refusal.value)


def test_an_api_token_is_one_line_fit_for_a_header(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("0123456789abcdef\n")
    assert api_token(path) == "0123456789abcdef"
    assert api_token(None) is None
    for content in ("", "short", "two lines 0123456\n0123456789abcdef", "sixteen chars é é é"):
        path.write_text(content)
        with pytest.raises(ConfigurationError, match="must hold one line") as refusal:
            api_token(path)
        assert f"--api-token-file {path}" in str(refusal.value)


@pytest.mark.parametrize(("flush", "seconds"), [("request", 0.0), ("500", 0.5), ("1", 0.001)])
def test_flushes_come_with_each_request_or_every_so_many_milliseconds(flush, seconds):
    assert validated(Settings(flush=flush)).flush_s == seconds


@pytest.mark.parametrize("flush", ["", "0", "-5", "0.5", "500ms", "never", "٥"])
def test_a_flush_that_is_no_interval_is_refused_with_the_way_out(flush):
    with pytest.raises(ConfigurationError, match=r"--flush .* must be 'request' or a whole number of milli"):
        validated(Settings(flush=flush))
