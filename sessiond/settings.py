"""The settings of a node: one frozen value, made by the command line or by an embedding program.

Every field is an option of `sessiond run` (``--idle-timeout-s``), an environment variable
(``SESSIOND_IDLE_TIMEOUT_S``) and a TOML key (``idle_timeout_s``). Units stand last in a name. The docstring
under a field is its documentation everywhere: say how to choose it and how it relates to others.

`validated` refuses what cannot work, before anything is opened; it reads no file and changes nothing.
`cluster_secrets` and `api_token` read the two files.
"""

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args, get_origin

from sessiond.contract import secrets
from sessiond.contract.address import Address, parse
from sessiond.contract.names import COOKIE_NAME, NODE_NAME
from sessiond.contract.secrets import SECRET_CHARS_MIN
from sessiond.core.codec import FRAME_BYTES_MAX, NAME_BYTES_MAX
from sessiond.errors import ConfigurationError

SESSION_BYTES_CEILING = FRAME_BYTES_MAX // 2
"""A session travels in one frame between nodes, beside names and stamps of its attributes."""

FLUSH_AT_REQUEST = "request"

_COOKIE_NAME = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one node runs. Checked by `sessiond.settings.validated`."""

    name: str = "node1"
    """Name of the node: the suffix of its session ids. Unique in the cluster; letters, digits, ``-``, ``_``."""

    http: str = "127.0.0.1:8101"
    """Address of the hosted application, HOST:PORT. Port 0 takes a free one."""

    cluster: str = "127.0.0.1:7101"
    """Address for links from other nodes, HOST:PORT. Off loopback it needs `secret_file` (or `insecure`)."""

    api: str = "127.0.0.1:9101"
    """Address of the API port, HOST:PORT. Off loopback it needs `api_token_file` (or `insecure`)."""

    advertise_http: str = ""
    """HOST:PORT at which the balancer reaches `http`; empty: the bound address."""

    advertise_cluster: str = ""
    """HOST:PORT at which other nodes reach `cluster`; empty: the bound address, unless that is every interface."""

    advertise_api: str = ""
    """HOST:PORT at which programs reach `api`; empty: the bound address."""

    join: tuple[str, ...] = ()
    """Cluster addresses of some members, HOST:PORT. May name this node. Nobody answers: start alone, go on trying."""

    cluster_name: str = "default"
    """Nodes of different clusters refuse each other, so that one wrong address does not merge two sites."""

    zone: str = ""
    """Failure domain (rack, data centre). Backups go to another zone first."""

    secret: str = field(default="", repr=False)
    """The cluster's secret as text, from the environment (SESSIOND_SECRET) or a file, never from the command line."""

    secret_file: Path | None = None
    """File with one secret a line: the first signs, all verify. The same on every node. Or set SESSIOND_SECRET."""

    api_token_file: Path | None = None
    """File with the bearer token of the API port."""

    insecure: bool = False
    """Allow `cluster` and `api` off loopback unprotected: for networks in which all may read and forge sessions."""

    quorum: Literal["any", "majority"] = "any"
    """Whose evidence ends a life. any: one member's; a partition leaves both sides serving, and what they wrote is merged
    when they meet. majority: most members'; the smaller side answers 503. For majority run three nodes or more."""

    expect: int = 0
    """With quorum majority: how many nodes the cluster starts with; none of them serves before so many have met. The same
    on every node; without it a node can join a running cluster only."""

    lease_s: float = 1.0
    """A node that stood still for longer asks whether it still counts before it serves anything. With quorum majority also:
    it may act for so long after a majority answered it. Longer than any stall of a healthy loop."""

    placement: Literal["backup", "pair", "all", "central", "none"] = "backup"
    """Where copies go. backup: each session's own choice, spread over all nodes. pair: all of a node's on the same partner.
    all: on every node; for few nodes. central: on nodes with `role` state. none: no copies. docs/schemes.md compares."""

    role: Literal["app", "state"] = "app"
    """app: serves users. state: holds copies for nodes with ``placement = "central"``, which it needs itself, and serves
    nobody; run two, so that they back each other up."""

    copies: int = 1
    """Backups of a session. 1 survives one death per re-protection window; each more costs one message a write. With
    ``placement = "all"``: so many in step are enough to call a session protected, and to let a slow node go."""

    location: Literal["broadcast", "query"] = "broadcast"
    """broadcast: every node knows where each session lives, about 130 bytes each. query: only its holders; others ask. For
    very many sessions on many nodes; the same on every node."""

    ack: Literal["sync", "async"] = "sync"
    """sync: an answer leaves when every backup has applied the write. async: at once; a kill may lose the last ms."""

    flush: str = "request"
    """When writes leave for the backups. request: each at once, before its answer if `ack` is sync. A number of
    milliseconds, as in ``500``: answers leave at once, and what a session wrote in that time leaves together; a kill loses
    at most so much. For sessions that are written far more often than they are missed. `save()` never waits for its turn."""

    granularity: Literal["session", "dirty", "attribute"] = "attribute"
    """What a write carries. attribute: the changed attributes. dirty: the whole session if something changed, in which an
    object that two attributes share stays one. session: the whole, after every request that has it, reads too. Forks are
    then merged by session, not by attribute. A rolling restart changes it: either form is read."""
    store: str = ""
    """URL of a store that keeps sessions beyond the nodes' memory: file, sqlite, postgresql, redis, rediss (docs/schemes.md, docs/storing.md);
    empty: none. All nodes of a cluster take the same one, or each a file of its own. Has it a password, put it into a
    file or SESSIOND_STORE: command lines can be read by everybody on a machine."""

    store_write: Literal["through", "behind"] = "through"
    """through: an answer leaves when the store has the write as well. behind: it is not waited for; what is lost when all
    copies die at once is what sessiond_store_backlog shows."""

    store_timeout_s: float = 1.0
    """A store that is slower counts as down: requests go on without it, and it catches up. Above its slowest healthy commit,
    below `request_wait_s`."""

    ack_timeout_s: float = 0.3
    """A backup that has not acked for so long is joined by another one and released. Far below `silence_timeout_s`."""

    probe_interval_s: float = 0.25
    """One member is probed in each. Shorter finds a silence sooner; `silence_timeout_s` should be eight of these."""

    probe_timeout_s: float = 0.1
    """A probe unanswered for so long goes through others. Above a busy node's loop lag, below half `probe_interval_s`."""

    silence_timeout_s: float = 2.0
    """A member that sends nothing for so long is dead. Longer than any pause of a healthy process."""

    awareness_max: int = 8
    """How far this node may doubt itself: with so many signs that it is starved or cut off (a late timer, a suspicion of it)
    it waits up to 1 + this times as long before it doubts others. 0 switches that off, for comparisons."""

    connect_timeout_s: float = 0.5
    """A connect to a member is given up after this: a vanished container hangs instead of refusing."""

    reconnect_backoff_max_s: float = 1.0
    """Longest pause between attempts to reach a member or seed."""

    reprotect_delay_s: float = 1.0
    """After a death its sessions are taken over without a request after this. Longer: fewer moves at a quick restart."""

    reprotect_rate_max: int = 5000
    """Sessions re-protected per second at most, so that the healthy users do not notice."""

    lookup_rate_max: int = 2000
    """Times a second at most that this node asks every other one for a session. Requests beyond it wait, and get a 503
    after `request_wait_s`. With ``location = "query"`` above the rate of requests that come to a wrong node."""

    rebalance_rate_max: int = 500
    """Backups moved per second at most to a node that joined. Below `reprotect_rate_max`: this is never urgent."""

    rebalance_after_s: float = 10.0
    """Backups move only after the members have been the same for so long. Longer than a restart, against churn."""

    rotate_grace_s: float = 10.0
    """After `rotate()` the old token answers for so long, for requests under way and other tabs. 0: not at all."""

    request_wait_s: float = 5.0
    """How long a request waits for its session (look-up, takeover, backups' acks) before it gets a 503."""

    handoff_wait_s: float = 2.0
    """How long a handoff waits for requests in flight; a later commit is forwarded to the new primary."""

    tenure_min_s: float = 0.05
    """A primary keeps a session at least so long, against ping-pong between nodes."""

    touch_interval_s: float = 5.0
    """How often backups learn the time of last access. After a death the idle time-out starts anew."""

    drain_timeout_s: float = 8.0
    """On SIGTERM, requests in flight and handoffs get so long. Below the supervisor's kill (Docker: 10)."""

    tombstone_ttl_s: float = 600.0
    """How long a node remembers that a session is gone: longer than news take to reach everybody. While a member is away
    that may come back with its memory nothing is forgotten, for one and a half `idle_timeout_s` at most."""

    idle_timeout_s: float = 1800.0
    """A session unused for so long expires."""

    absolute_timeout_s: float = 43200.0
    """A session older than this expires, used or not; 0 switches it off."""

    cookie_name: str = COOKIE_NAME
    """Name of the cookie. A ``__Host-`` prefix needs `cookie_secure`."""

    cookie_secure: bool = False
    """Set Secure on the cookie: on for every site that is reached by https."""

    cookie_max_age_s: int = 0
    """Max-Age of the cookie; 0: the browser forgets it when it closes."""

    attribute_bytes_max: int = 262_144
    """Largest encoded attribute; a larger one is refused at commit."""

    session_bytes_max: int = 1_048_576
    """Largest encoded session; a commit beyond it is refused."""

    memory_bytes_max: int = 1_073_741_824
    """Memory of all copies on this node, 1,000 bytes a session and 190 an attribute included; beyond it new data is
    refused, nothing is evicted. Well below the machine's memory: the application and the directory need theirs."""

    link_queue_bytes_max: int = 67_108_864
    """Bytes queued for one member; beyond it the link is closed and its state sent again when it is back."""

    log_format: Literal["auto", "console", "json"] = "auto"
    """console for people, json for machines; auto: console on a terminal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""

    def __repr__(self) -> str:
        """Without `secret`, and of the store its scheme alone: a URL holds a password in more places than can be told."""
        shown = {each.name: getattr(self, each.name) for each in fields(self) if each.repr}
        scheme, separator, _ = self.store.partition("://")
        shown["store"] = f"{scheme}://…" if separator else "…" if self.store else ""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def flush_s(self) -> float:
        """`flush` in seconds; 0: at every request. Of validated settings."""
        return 0.0 if self.flush == FLUSH_AT_REQUEST else int(self.flush) / 1000


MAY_BE_ZERO = frozenset(
    {
        "expect",
        "awareness_max",
        "reprotect_delay_s",
        "rebalance_after_s",
        "rotate_grace_s",
        "tenure_min_s",
        "drain_timeout_s",
        "absolute_timeout_s",
        "cookie_max_age_s",
    }
)

RELATIONS = (
    ("silence_timeout_s", 4, "probe_interval_s", "one lost probe must not look like a death"),
    ("probe_interval_s", 2, "probe_timeout_s", "relays must answer within the period"),
    ("silence_timeout_s", 2, "lease_s", "who is taken for dead must hold no lease any more"),
    ("lease_s", 2, "probe_interval_s", "a node must not take its own pauses for standstills"),
    ("silence_timeout_s", 2, "ack_timeout_s", "a slow backup is replaced before it counts as dead"),
    ("tombstone_ttl_s", 2, "silence_timeout_s", "a session that ended must not come back"),
    ("tombstone_ttl_s", 1, "rotate_grace_s", "a token that was rotated out must not come back"),
    ("request_wait_s", 1, "store_timeout_s", "a request must outlast a store that fails"),
    ("session_bytes_max", 1, "attribute_bytes_max", "an attribute is part of a session"),
    ("memory_bytes_max", 1, "session_bytes_max", "a session must fit into the memory"),
    ("link_queue_bytes_max", 1, "session_bytes_max", "a session must fit into a link's queue"),
)
"""The first is at least so many times the second, because …"""


def validated(settings: Settings) -> Settings:
    """`settings`, if a node can run with them. ConfigurationError names what is wrong and the way out."""
    _check_types(settings)
    _check_names(settings)
    _check_role(settings)
    _check_addresses(settings)
    _check_numbers(settings)
    return settings


def cluster_secrets(settings: Settings) -> tuple[bytes, ...]:
    """The cluster's secrets, the signing one first; empty without one. Raises ConfigurationError."""
    if settings.secret_file is None:
        source, text = "SESSIOND_SECRET", settings.secret
        if not text:
            return ()
    else:
        source, text = f"--secret-file {settings.secret_file}", _read(settings.secret_file, "--secret-file")
    try:
        return secrets.parse(text, source)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def api_token(path: Path | None) -> str | None:
    """The bearer token of the API port, from `api_token_file`; None without one. Raises ConfigurationError."""
    if path is None:
        return None
    token = _read(path, "--api-token-file").strip()
    if len(token) < SECRET_CHARS_MIN or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigurationError(
            f"--api-token-file {path} must hold one line of at least {SECRET_CHARS_MIN} ASCII characters without "
            "spaces; make one with: openssl rand -hex 32"
        )
    return token


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {option} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{option} {path} is not UTF-8 text") from error


def _check_types(settings: Settings) -> None:
    """What a command line has seen to, and a program that makes settings itself has not: a misspelt choice would be
    taken for some other one."""
    for each in fields(settings):
        value, option = getattr(settings, each.name), _option(each.name)
        choices = get_args(each.type) if get_origin(each.type) is Literal else ()
        if choices and value not in choices:
            raise ConfigurationError(f"{option} must be one of {', '.join(choices)}, not {value!r}")
        if each.type is bool and type(value) is not bool:
            raise ConfigurationError(f"{option} must be True or False, not {value!r}")
        if each.type is int and type(value) is not int:
            raise ConfigurationError(f"{option} must be a whole number, not {value!r}")
        if each.type is float and not (type(value) is int or (type(value) is float and math.isfinite(value))):
            raise ConfigurationError(f"{option} must be a number, not {value!r}")
        if each.type is str and not isinstance(value, str):  # which may be a secret
            raise ConfigurationError(f"{option} must be a text, not a value of type {type(value).__name__}")


def _check_names(settings: Settings) -> None:
    if NODE_NAME.fullmatch(settings.name) is None:
        raise ConfigurationError(
            f"--name {settings.name!r} is no node name: letters, digits, '-' and '_', the first a letter or digit, "
            "at most 63"
        )
    if not settings.cluster_name:
        raise ConfigurationError("--cluster-name is empty; leave it out for 'default'")
    for option, text in (("--cluster-name", settings.cluster_name), ("--zone", settings.zone)):
        if len(text.encode()) > NAME_BYTES_MAX:
            raise ConfigurationError(f"{option} is longer than {NAME_BYTES_MAX} bytes")
    if _COOKIE_NAME.fullmatch(settings.cookie_name) is None:
        raise ConfigurationError(
            f"--cookie-name {settings.cookie_name!r} is no cookie name (RFC 6265: a token)"
        )
    if settings.cookie_name.startswith(("__Host-", "__Secure-")) and not settings.cookie_secure:
        raise ConfigurationError(
            f"--cookie-name {settings.cookie_name} needs --cookie-secure: browsers drop such a cookie without it"
        )


def _check_role(settings: Settings) -> None:
    if settings.role == "state" and settings.placement != "central":
        raise ConfigurationError(
            f"--role state needs --placement central, not {settings.placement}: a state node holds copies for nodes that "
            "place centrally; give it, and the nodes that it is for, --placement central, or leave --role out"
        )


def _check_addresses(settings: Settings) -> None:
    _address("--http", settings.http, may_listen=True)
    cluster = _address("--cluster", settings.cluster, may_listen=True)
    api = _address("--api", settings.api, may_listen=True)
    for name in ("http", "cluster", "api"):
        if advertised := getattr(settings, f"advertise_{name}"):
            _address(f"--advertise-{name}", advertised)
    for seed in settings.join:
        _address("--join", seed)
    if settings.secret and settings.secret_file is not None:
        raise ConfigurationError("both SESSIOND_SECRET and --secret-file are given; keep one of them")
    has_secret = bool(settings.secret or settings.secret_file)
    if not (cluster.is_loopback or has_secret or settings.insecure):
        raise ConfigurationError(
            f"--cluster {settings.cluster} can be reached from other machines, and without a secret everybody there "
            "could read and forge sessions: give --secret-file FILE (or SESSIOND_SECRET), the same on every node, or "
            "--insecure if you trust that whole network"
        )
    if not (api.is_loopback or settings.api_token_file or settings.insecure):
        raise ConfigurationError(
            f"--api {settings.api} can be reached from other machines, and without a token everybody there could "
            "drain nodes: give --api-token-file FILE, or --insecure if you trust that whole network"
        )
    if cluster.is_unspecified and not settings.advertise_cluster:
        raise ConfigurationError(
            f"--cluster {settings.cluster} is every interface, not an address that other nodes can connect to: "
            f"name one with --advertise-cluster HOST:{cluster.port or 'PORT'}"
        )


def _address(option: str, text: str, *, may_listen: bool = False) -> Address:
    try:
        return parse(text, may_listen=may_listen)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}") from error


def _check_numbers(settings: Settings) -> None:
    for each in fields(settings):
        value = getattr(settings, each.name)
        if type(value) not in {int, float}:
            continue
        if value < 0 or (value == 0 and each.name not in MAY_BE_ZERO):
            least = "0 or more" if each.name in MAY_BE_ZERO else "more than 0"
            raise ConfigurationError(f"{_option(each.name)} must be {least}, not {value}")
    for larger, factor, smaller, reason in RELATIONS:
        if getattr(settings, larger) < factor * getattr(settings, smaller):
            times = f"{factor} times " if factor > 1 else ""
            raise ConfigurationError(
                f"{_option(larger)} {getattr(settings, larger)} must be at least {times}{_option(smaller)} "
                f"{getattr(settings, smaller)}: {reason}"
            )
    is_interval = settings.flush.isascii() and settings.flush.isdigit() and int(settings.flush) > 0
    if settings.flush != FLUSH_AT_REQUEST and not is_interval:
        raise ConfigurationError(
            f"--flush {settings.flush!r} must be 'request' or a whole number of milliseconds above 0, as in 500"
        )
    if settings.session_bytes_max > SESSION_BYTES_CEILING:
        raise ConfigurationError(
            f"--session-bytes-max must not be over {SESSION_BYTES_CEILING}, but is {settings.session_bytes_max}: "
            "a session travels between nodes in one frame"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
