"""The settings of the balancer: one frozen value, made by the command line or by an embedding program.

Every field is an option of `balancer run` (``--connect-timeout-s``), an environment variable
(``BALANCER_CONNECT_TIMEOUT_S``) and a TOML key (``connect_timeout_s``). Units stand last in a name.
"""

from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, get_type_hints

from balancer.errors import ConfigurationError
from sessiond.contract import address
from sessiond.contract.address import Address
from sessiond.contract.names import COOKIE_NAME, HEALTH_PATH, NODE_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the balancer runs. Checked by `balancer.settings.validated`."""

    listen: str = "127.0.0.1:8080"
    """Address for browsers, HOST:PORT; 0.0.0.0:8080 for every interface. Port 0 takes a free one."""

    admin: str = "127.0.0.1:8090"
    """Address of dashboard, API and metrics, HOST:PORT. Off loopback it needs `admin_token_file`."""

    node: tuple[str, ...] = ()
    """The nodes, NAME=HOST:PORT each. NAME is the node's own name, the suffix of its session ids."""

    cookie_name: str = COOKIE_NAME
    """Name of the session cookie, the same as the nodes'. Also looked for as a path parameter."""

    admin_token_file: Path | None = None
    """File with the bearer token that the admin port asks for when it is reached from off loopback."""

    insecure: bool = False
    """Allow an admin port off loopback without a token: for networks in which everybody may drain nodes."""

    trusted_network: tuple[str, ...] = ()
    """Networks (10.0.0.0/8) whose X-Forwarded-* are believed: those of proxies in front of this one, no others."""

    request_head_bytes_max: int = 32_768
    """Largest request line with header fields; beyond it 414 or 431. Cookies make heads large; 8 KiB is rarely enough."""

    line_bytes_max: int = 16_384
    """Longest request line (414) or header field (431). All cookies are one field; nodes often take 8 KiB only."""

    response_head_bytes_max: int = 65_536
    """Largest head of a node's answer; beyond it 502. Larger than `request_head_bytes_max`: nodes are trusted more."""

    header_count_max: int = 100
    """Most header fields of a message; each costs time to look at."""

    body_bytes_max: int = 1_073_741_824
    """Largest request body; beyond it 413. Bodies are streamed, so this protects the nodes, not our memory."""

    connect_timeout_s: float = 0.5
    """A connect to a node, its name's look-up included, is given up after this. A vanished container hangs."""

    request_head_timeout_s: float = 10.0
    """A client has so long from the first byte of a request head to its last (408). Against slow heads."""

    body_idle_timeout_s: float = 30.0
    """A client that sends nothing of its body, or reads nothing of its answer, for so long is cut off."""

    body_rate_min: int = 500
    """A body that comes more slowly, in bytes per second once `body_idle_timeout_s` has passed, is cut off (408): a byte
    now and then would hold a connection for ever. 0 for clients that trickle for hours on purpose."""

    response_head_timeout_s: float = 60.0
    """A node has so long to begin its answer after it has the request (504). Longer than the slowest page."""

    response_idle_timeout_s: float = 300.0
    """A node that falls silent within an answer for so long is cut off. Event streams should ping more often."""

    tunnel_idle_timeout_s: float = 3600.0
    """A WebSocket on which neither side sends anything for so long is closed."""

    client_keepalive_timeout_s: float = 60.0
    """An idle client connection is kept so long. Longer saves handshakes, shorter saves descriptors."""

    node_keepalive_timeout_s: float = 30.0
    """An idle connection to a node is kept so long: well below the node's own limit, or requests race its closing."""

    half_close_timeout_s: float = 2.0
    """A client that closed its side gets an answer that comes within this; then it counts as gone."""

    node_idle_connections_max: int = 256
    """Idle connections kept to one node; more are closed when their request is done."""

    health_path: str = HEALTH_PATH
    """What a node is asked to see whether it is fit. Any 2xx or 3xx counts, so ``/`` does for other servers."""

    health_interval_s: float = 0.5
    """Time between checks of a node. `rise` of them bring a node back, so this decides how soon."""

    health_timeout_s: float = 0.75
    """A check not answered in this time has failed. A node that falls silent is down after one `health_interval_s` and
    `health_fall` of these: longer than a busy node's pauses, and about as long as the cluster needs to bury it."""

    health_rise: int = 1
    """Checks in a row that must pass before a node that was down is used. More if it starts up unsteadily."""

    health_fall: int = 3
    """Checks in a row that must fail before a node is down. An address that refuses is down at once."""

    request_fall: int = 10
    """Requests in a row that must fail (cut off, timed out, malformed) before a node is down."""

    retry_share: float = 0.2
    """Retries per request, in the long run. 0 leaves only the `retry_reserve`."""

    retry_reserve: int = 1000
    """Retries saved up for a node's death: at least the requests in flight at one node."""

    replay_bytes_max: int = 65_536
    """A request body up to this is kept until the answer begins, so that the request can be sent elsewhere."""

    drain_timeout_s: float = 8.0
    """On SIGTERM, requests in flight get so long. Below the supervisor's kill (Docker: 10)."""

    access_log: bool = False
    """Log every request, with an id that is passed to the node as X-Request-Id. Costs as much as balancing it."""

    log_format: Literal["auto", "console", "json"] = "auto"
    """console for people, json for machines; auto: console on a terminal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""


MAY_BE_ZERO = frozenset(
    {
        "body_rate_min",
        "retry_share",
        "retry_reserve",
        "replay_bytes_max",
        "drain_timeout_s",
        "node_idle_connections_max",
    }
)


def validated(settings: Settings) -> Settings:
    """The same settings, if they make sense. Raises `ConfigurationError`."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if get_type_hints(Settings)[field.name] in (int, float):
            least = "0 or more" if field.name in MAY_BE_ZERO else "more than 0"
            if value < 0 or (value == 0 and field.name not in MAY_BE_ZERO):
                raise ConfigurationError(f"{field.name} must be {least}, not {value}")
    listen_address(settings.listen, "listen")
    admin = listen_address(settings.admin, "admin")
    nodes(settings)
    trusted_networks(settings)
    admin_token(settings)
    if not admin.is_loopback and settings.admin_token_file is None and not settings.insecure:
        raise ConfigurationError(
            f"admin {settings.admin} can be reached from other machines, and whoever reaches it may drain nodes: "
            "set admin_token_file, listen on 127.0.0.1, or set insecure"
        )
    if (
        not settings.health_path.startswith("/")
        or not settings.health_path.isascii()
        or " " in settings.health_path
    ):
        raise ConfigurationError(f"health_path {settings.health_path!r} must be a path, like {HEALTH_PATH}")
    if (
        not settings.cookie_name.isascii()
        or not settings.cookie_name
        or set(settings.cookie_name) & set(' ;,="\t')
    ):
        raise ConfigurationError(f"cookie_name {settings.cookie_name!r} cannot be the name of a cookie")
    return settings


def listen_address(text: str, option: str) -> Address:
    """Where to listen. Raises `ConfigurationError` naming the option."""
    try:
        return address.parse(text, may_listen=True)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def nodes(settings: Settings) -> dict[str, Address]:
    """The nodes by name. Raises `ConfigurationError`."""
    found: dict[str, Address] = {}
    for text in settings.node:
        name, equals, where = text.partition("=")
        if not equals or NODE_NAME.fullmatch(name) is None:
            raise ConfigurationError(f"node: {text!r} is not NAME=HOST:PORT, like node1=127.0.0.1:8101")
        if name in found:
            raise ConfigurationError(f"node: two nodes are called {name}; a name stands for one address")
        try:
            found[name] = address.parse(where)
        except ValueError as error:
            raise ConfigurationError(f"node {name}: {error}") from None
    if not found:
        raise ConfigurationError("node: name at least one node, like --node node1=127.0.0.1:8101")
    return found


def trusted_networks(settings: Settings) -> tuple[IPv4Network | IPv6Network, ...]:
    """Raises `ConfigurationError`."""
    try:
        return tuple(ip_network(text) for text in settings.trusted_network)
    except ValueError as error:
        raise ConfigurationError(f"trusted_network: {error}; write it like 10.0.0.0/8") from None


def admin_token(settings: Settings) -> str | None:
    """The token of the admin port, if there is one. Raises `ConfigurationError`."""
    path = settings.admin_token_file
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"admin_token_file {path} cannot be read: {error}") from None
    if not token:
        raise ConfigurationError(f"admin_token_file {path} is empty; write the token into it")
    return token
