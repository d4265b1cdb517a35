"""The settings of a node: one frozen value, made by the command line or by an embedding program.

Every field is an option of `sessiond run` (``--idle-timeout-s``), an environment variable
(``SESSIOND_IDLE_TIMEOUT_S``) and a TOML key (``idle_timeout_s``). Units stand last in a name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sessiond.contract.names import COOKIE_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one node runs. Checked by `sessiond.settings.validated`."""

    name: str = "node1"
    """Name of the node: the suffix of its session ids. Unique in the cluster; letters, digits, ``-``, ``_``."""

    http: str = "127.0.0.1:8101"
    """Address of the hosted application, HOST:PORT. Port 0 takes a free one."""

    cluster: str = "127.0.0.1:7101"
    """Address for links from other nodes, HOST:PORT. Off loopback it needs a secret (or `insecure`)."""

    api: str = "127.0.0.1:9101"
    """Address of the API port, HOST:PORT. Off loopback it needs `api_token_file`."""

    advertise_http: str = ""
    """HOST:PORT at which the balancer reaches `http`; empty: the bound address."""

    advertise_cluster: str = ""
    """HOST:PORT at which other nodes reach `cluster`; empty: the bound address."""

    advertise_api: str = ""
    """HOST:PORT at which programs reach `api`; empty: the bound address."""

    join: tuple[str, ...] = ()
    """Cluster addresses of some members, HOST:PORT. May name this node. Nobody answers: start alone, go on trying."""

    cluster_name: str = "default"
    """Nodes of different clusters refuse each other, so that one wrong address does not merge two sites."""

    zone: str = ""
    """Failure domain (rack, data centre). Backups go to another zone first."""

    secret: str = ""
    """The cluster's secret, as text. Prefer `secret_file`, or the environment variable SESSIOND_SECRET."""

    secret_file: Path | None = None
    """File with one secret a line: the first signs, all verify. The same on every node (and the balancer)."""

    api_token_file: Path | None = None
    """File with the bearer token of the API port."""

    insecure: bool = False
    """Allow links off loopback without a secret: for networks in which everybody may read and forge sessions."""

    copies: int = 1
    """Backups of a session. 1 survives one death per re-protection window; each more costs one message a write."""

    ack: Literal["sync", "async"] = "sync"
    """sync: an answer leaves when every backup has applied the write. async: at once; a kill may lose the last ms."""

    ack_timeout_s: float = 0.3
    """A backup that has not acked for so long is joined by another one and released. Far below `silence_timeout_s`."""

    heartbeat_interval_s: float = 0.25
    """How often a member is probed. `silence_timeout_s` should be at least four of these."""

    silence_timeout_s: float = 2.0
    """A member that sends nothing for so long is dead. Longer than any pause of a healthy process."""

    connect_timeout_s: float = 0.5
    """A connect to a member is given up after this: a vanished container hangs instead of refusing."""

    reconnect_backoff_max_s: float = 1.0
    """Longest pause between attempts to reach a member or seed."""

    reprotect_delay_s: float = 1.0
    """After a death its sessions are taken over without a request after this. Longer: fewer moves at a quick restart."""

    reprotect_rate_max: int = 5000
    """Sessions re-protected per second at most, so that the healthy users do not notice."""

    request_wait_s: float = 5.0
    """How long a request waits for its session (look-up, takeover, backups' acks) before it gets a 503."""

    handoff_wait_s: float = 2.0
    """How long a handoff waits for requests in flight; a later commit is forwarded to the new primary."""

    tenure_min_s: float = 0.05
    """A primary keeps a session at least so long, against ping-pong between nodes."""

    touch_interval_s: float = 5.0
    """How often backups learn the time of last access. A successor adds it to the idle time-out as grace."""

    drain_timeout_s: float = 8.0
    """On SIGTERM, requests in flight and handoffs get so long. Below the supervisor's kill (Docker: 10)."""

    tombstone_ttl_s: float = 600.0
    """How long a node remembers that a session is gone. Longer than any node is paused or cut off."""

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
    """Encoded bytes of all copies on this node; beyond it new data is refused, nothing is evicted."""

    link_queue_bytes_max: int = 67_108_864
    """Bytes queued for one member; beyond it the link is closed and its state sent again when it is back."""

    log_format: Literal["auto", "console", "json"] = "auto"
    """console for people, json for machines; auto: console on a terminal."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log line that is written."""
