"""The settings of the balancer: one frozen value, made by the command line or by an embedding program.

Every field is an option of `balancer run` (``--connect-timeout-s``), an environment variable
(``BALANCER_CONNECT_TIMEOUT_S``) and a TOML key (``connect_timeout_s``). Units stand last in a name.
"""

import ssl
import sys
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, get_type_hints

from balancer import tls
from balancer.core import node_spec, statuses
from balancer.core.algorithms import AlgorithmName
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import Policy
from balancer.errors import ConfigurationError
from sessiond.contract import address, secrets
from sessiond.contract.address import Address
from sessiond.contract.names import COOKIE_NAME, HEALTH_PATH
from sessiond.contract.session_id import Keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the balancer runs. Checked by `balancer.settings.validated`."""

    listen: str = "127.0.0.1:8080"
    """Address for browsers, HOST:PORT; 0.0.0.0:8080 for every interface. Port 0 takes a free one."""

    admin: str = "127.0.0.1:8090"
    """Address of dashboard, API and metrics, HOST:PORT. Off loopback it needs `admin_token_file` (or `insecure`)."""

    workers: int = 1
    """Processes that share the listening port, one for each core that it may use. Limits hold for each of them."""

    node: tuple[str, ...] = ()
    """The nodes, NAME=HOST:PORT[;weight=N][;zone=ZONE] each. NAME is the node's own name, the suffix of its session ids;
    `weight` its share of new sessions beside the others' (default 1; 0: none). Quote it in a shell: ; ends commands."""

    discover: tuple[str, ...] = ()
    """Nodes' API ports, HOST:PORT each: the list of nodes is then the cluster's own, followed live. Several, in case one
    is down. May stand beside `node`: those always stay."""

    discover_token_file: Path | None = None
    """File with the nodes' API token (their ``--api-token-file``), which they ask for off loopback."""

    discover_interval_s: float = 1.0
    """Time between two looks at the cluster's members: a new node gets traffic after this and one health check."""

    discover_forget_s: float = 300.0
    """A member that nobody has called living for so long, and that is down, disappears. One that left does so at once."""

    algorithm: AlgorithmName = "round-robin"
    """Who gets new sessions. round-robin: in turn, by weight; weighted: at random, by weight; random: whatever the weight;
    least-connections: fewest requests for its weight; power-of-two: the less busy of two drawn; load: by reported load."""

    failover: Literal["random", "backup"] = "random"
    """Where a dead node's sessions go. random: to any live node, by weight. backup: to the one that should hold the copy,
    which saves the nodes a hop; it needs the cluster's secret (`secret_file`)."""

    placement: Literal["backup", "pair", "all", "central", "none"] = "backup"
    """The nodes' ``--placement``. Only ``failover=backup`` needs it; with central and none it finds nobody, and a dead
    node's sessions go to any live node."""

    secret: str = field(default="", repr=False)
    """The cluster's secret as text, from the environment (BALANCER_SECRET) or a file. Only ``failover=backup`` needs it."""

    secret_file: Path | None = None
    """File with the cluster's secrets, the same as the nodes' ``--secret-file``. Only ``failover=backup`` needs it."""

    cluster_name: str = "default"
    """The nodes' ``--cluster-name``. ``failover=backup`` needs it for a cluster that has no secret."""

    zone: str = ""
    """Our own zone: new sessions and those of dead nodes go to nodes in it while one is up there, else to all."""

    slow_start_s: float = 10.0
    """A node that comes back gets a tenth of its share of new sessions at first and all of it after this. 0: all at once."""

    panic_threshold: float = 0.0
    """Below this share of nodes up (0.5: half), health is not believed and all are tried. 0: never, right for a cluster
    that goes on with one node; raise it for many nodes of which a few could not carry all."""

    cookie_name: str = COOKIE_NAME
    """Name of the session cookie, the same as the nodes'. Also looked for as a path parameter."""

    admin_token_file: Path | None = None
    """File with the bearer token that the admin port asks for, on loopback too. Metrics and probes need none."""

    insecure: bool = False
    """Allow an admin port off loopback without a token: for networks in which everybody may drain nodes."""

    tls_certificate_file: Path | None = None
    """PEM file with the certificate that browsers are shown, and those that lead to its issuer. With it, `listen` speaks
    TLS (1.2, 1.3) only. Read again on SIGHUP."""

    tls_key_file: Path | None = None
    """PEM file with the certificate's private key, not encrypted. Not needed if it is in `tls_certificate_file`."""

    tls_handshake_timeout_s: float = 10.0
    """A client's TLS handshake, and closing it, may take so long. As `request_head_timeout_s`."""

    node_tls: bool = False
    """Speak TLS to the nodes. Their certificates must be for the host names or addresses that `node` gives."""

    node_tls_ca_file: Path | None = None
    """PEM file with the issuers of the nodes' certificates. Without it, those that the system trusts."""

    node_tls_certificate_file: Path | None = None
    """PEM file with the certificate that we show to nodes, if they ask for one."""

    node_tls_key_file: Path | None = None
    """Its private key. Not needed if it is in `node_tls_certificate_file`."""

    trusted_network: tuple[str, ...] = ()
    """Networks (10.0.0.0/8) whose X-Forwarded-* are believed: those of proxies in front of this one, no others."""

    proxy_protocol: bool = False
    """Every connection begins with a PROXY header (version 1 or 2) of a proxy in a `trusted_network`, as HAProxy's
    send-proxy and cloud load balancers send it: its client is ours. Connections without one are closed."""

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
    """A body that comes more slowly, in bytes per second once `body_idle_timeout_s` has passed, is cut off (408), and so is a
    client that reads its answer more slowly: a byte now and then would hold a connection for ever. 0 for clients that
    trickle for hours on purpose."""

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

    node_connections_max: int = 0
    """Requests and tunnels that one node may have at a time; more wait for it. What it can work at before it gets slower
    for all; tunnels count for as long as they last. 0: no limit."""

    node_queue_max: int = 100
    """Requests that wait for one node at its limit; more get 503 with Retry-After. About what the node answers in
    `node_queue_timeout_s`."""

    node_queue_timeout_s: float = 5.0
    """A request that has waited so long for a node at its limit gets 503 with Retry-After. As long as users would wait."""

    health_path: str = HEALTH_PATH
    """What a node is asked to see whether it is fit. ``/`` does for servers that are no nodes of ours."""

    health_status: tuple[str, ...] = ("200-399",)
    """Statuses of a fit node: 200, or ranges like 200-399. Nodes of ours say 200, and in words when they drain."""

    health_interval_s: float = 0.5
    """Time between checks of a node. `health_rise` of them bring a node back, so this decides how soon."""

    health_timeout_s: float = 0.75
    """A check not answered in this time has failed. A node that falls silent is down after one `health_interval_s` and
    `health_fall` of these: longer than a busy node's pauses, and about as long as the cluster needs to bury it."""

    health_rise: int = 1
    """Checks in a row that must pass before a node that was down is used. More if it starts up unsteadily."""

    health_fall: int = 3
    """Checks in a row that must fail before a node is down. An address that refuses is down at once."""

    request_fall: int = 10
    """Requests in a row that must fail (cut off, timed out, malformed) before a node is ejected: down, whatever its checks
    say."""

    eject_s: float = 10.0
    """An ejected node is kept out so long the first time, twice as long the second, and so on; then checks bring it back.
    One that nobody can connect to is dead, not ejected, and back as soon as it answers. 0: checks alone decide."""

    eject_max_s: float = 300.0
    """Longest ejection. A node that kept well for as long starts from the beginning."""

    eject_share_max: float = 0.5
    """Most of the nodes that are ejected at a time: if more fail, the fault is likelier elsewhere."""

    retry_share: float = 0.2
    """Retries per request, in the long run. 0 leaves only the `retry_reserve`."""

    retry_reserve: int = 1000
    """Retries saved up for a node's death: at least the requests in flight at one node."""

    replay_bytes_max: int = 65_536
    """A request body up to this is kept until the answer begins, so that the request can be sent elsewhere."""

    drain_timeout_s: float = 8.0
    """On SIGTERM, requests in flight get so long. Below the supervisor's kill (Docker: 10)."""

    forwarded: Literal["x-forwarded", "forwarded", "both"] = "x-forwarded"
    """How nodes are told of their clients: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239), or both. As the
    application reads it; what it reads and we do not set must come from nobody else."""

    request_id: bool = False
    """Give every request an id, which the node gets as X-Request-Id. That of a proxy in a `trusted_network` is kept."""

    request_id_in_answer: bool = False
    """Tell the client the id too, so that it can quote it: X-Request-Id of the answer. Needs `request_id` or `access_log`."""

    trace_context: Literal["pass", "create"] = "pass"
    """W3C trace context (traceparent, tracestate) is passed on as it came; create: a request without it gets a new trace."""

    access_log: bool = False
    """Log every request with its id, which the node gets too, and its trace. Costs as much as balancing it."""

    log_format: Literal["auto", "console", "json"] = "auto"
    """console for people, json for machines; auto: console on a terminal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""


WORKERS_MAX = 256
"""More than a machine has cores, so that a slip of the finger is found."""

MAY_BE_ZERO = frozenset(
    {
        "body_rate_min", "retry_share", "retry_reserve", "replay_bytes_max", "drain_timeout_s", "node_idle_connections_max",
        "slow_start_s", "panic_threshold", "node_connections_max", "node_queue_max",
        "eject_s", "eject_share_max",
    }
)  # fmt: skip

AT_MOST_ONE = frozenset({"panic_threshold", "eject_share_max"})
"""They are shares of something."""


def validated(settings: Settings) -> Settings:
    """The same settings, if they make sense. Raises `ConfigurationError`."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if get_type_hints(Settings)[each.name] in (int, float):
            least = "0 or more" if each.name in MAY_BE_ZERO else "more than 0"
            if value < 0 or (value == 0 and each.name not in MAY_BE_ZERO):
                raise ConfigurationError(f"{each.name} must be {least}, not {value}")
            if each.name in AT_MOST_ONE and value > 1:
                raise ConfigurationError(f"{each.name} is a share, from 0 to 1, not {value}")
    _zone(settings)
    keyring(settings)
    if settings.workers > WORKERS_MAX:
        raise ConfigurationError(f"workers must be {WORKERS_MAX} or fewer, not {settings.workers}")
    expected_statuses(settings)
    listen_address(settings.listen, "listen")
    admin = listen_address(settings.admin, "admin")
    nodes(settings)
    seeds(settings)
    discover_token(settings)
    if settings.proxy_protocol and not trusted_networks(settings):
        raise ConfigurationError(
            "proxy_protocol: name the proxies that are believed with trusted_network, as in 10.0.0.0/8"
        )
    if settings.request_id_in_answer and not (settings.request_id or settings.access_log):
        raise ConfigurationError("request_id_in_answer: there is an id only with request_id or access_log")
    trusted_networks(settings)
    admin_token(settings)
    client_tls(settings)
    node_tls(settings)
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


def _zone(settings: Settings) -> None:
    if settings.zone:
        try:
            node_spec.parse_zone(settings.zone)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None


def policy(settings: Settings) -> Policy:
    """The rules for all nodes together."""
    return Policy(
        zone=settings.zone,
        slow_start_s=settings.slow_start_s,
        panic_threshold=settings.panic_threshold,
        eject_s=settings.eject_s,
        eject_max_s=settings.eject_max_s,
        eject_share_max=settings.eject_share_max,
        active_max=settings.node_connections_max or sys.maxsize,
        queued_max=settings.node_queue_max,
    )


def expected_statuses(settings: Settings) -> frozenset[int]:
    """What a fit node answers to a health check. Raises `ConfigurationError`."""
    try:
        found = statuses.parse(settings.health_status)
    except ValueError as error:
        raise ConfigurationError(f"health_status: {error}") from None
    if not found:
        raise ConfigurationError("health_status: name at least one status, like 200-399")
    return found


def keyring(settings: Settings) -> Keyring:
    """What turns tokens into keys. Raises `ConfigurationError`."""
    if settings.secret and settings.secret_file is not None:
        raise ConfigurationError("both BALANCER_SECRET and secret_file are given; keep one of them")
    source, text = "BALANCER_SECRET", settings.secret
    if settings.secret_file is not None:
        source, text = f"secret_file {settings.secret_file}", _read(settings.secret_file, "secret_file")
    elif not text:
        return Keyring((), settings.cluster_name)
    try:
        return Keyring(secrets.parse(text, source), settings.cluster_name)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def listen_address(text: str, option: str) -> Address:
    """Where to listen. Raises `ConfigurationError` naming the option."""
    try:
        return address.parse(text, may_listen=True)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def nodes(settings: Settings) -> tuple[NodeSpec, ...]:
    """The nodes. Raises `ConfigurationError`."""
    found: dict[str, NodeSpec] = {}
    for text in settings.node:
        try:
            spec = node_spec.parse(text)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if spec.name in found:
            raise ConfigurationError(f"node: two nodes are called {spec.name}; a name stands for one address")
        found[spec.name] = spec
    if not found and not settings.discover:
        raise ConfigurationError(
            "node: name at least one node, like --node node1=127.0.0.1:8101, or a node's API port with "
            "--discover 127.0.0.1:9101"
        )
    return tuple(found.values())


def trusted_networks(settings: Settings) -> tuple[IPv4Network | IPv6Network, ...]:
    """Raises `ConfigurationError`."""
    try:
        return tuple(ip_network(text) for text in settings.trusted_network)
    except ValueError as error:
        raise ConfigurationError(f"trusted_network: {error}; write it like 10.0.0.0/8") from None


def seeds(settings: Settings) -> tuple[Address, ...]:
    """The API ports that are asked for the cluster's members. Raises `ConfigurationError`."""
    try:
        return tuple(address.parse(text) for text in settings.discover)
    except ValueError as error:
        raise ConfigurationError(f"discover: {error}") from None


def discover_token(settings: Settings) -> str | None:
    """The token of the nodes' API ports, if there is one. Raises `ConfigurationError`."""
    return _token(settings.discover_token_file, "discover_token_file")


def admin_token(settings: Settings) -> str | None:
    """The token of the admin port, if there is one. Raises `ConfigurationError`."""
    return _token(settings.admin_token_file, "admin_token_file")


def _token(path: Path | None, option: str) -> str | None:
    if path is None:
        return None
    token = _read(path, option).strip()
    if not token:
        raise ConfigurationError(f"{option} {path} is empty; write the token into it")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigurationError(f"{option} {path} must hold one line of ASCII characters without spaces")
    return token


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{option} {path} cannot be read: {error}") from None


def client_tls(settings: Settings) -> ssl.SSLContext | None:
    """The listener's TLS, if it speaks that. Raises `ConfigurationError`."""
    return tls.for_clients(settings.tls_certificate_file, settings.tls_key_file)


def node_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS towards the nodes, if they speak that. Raises `ConfigurationError`."""
    return tls.for_nodes(
        wanted=settings.node_tls,
        authorities=settings.node_tls_ca_file,
        certificate=settings.node_tls_certificate_file,
        key=settings.node_tls_key_file,
    )
