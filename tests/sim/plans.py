"""What the seeds are run with: one table of plans. A seed without a plan's name takes its turn through them."""

from dataclasses import dataclass, field, replace
from math import inf

from sessiond.core.options import QUERY_CONFIRM_INTERVAL_S, Options

FAST = Options(
    tenure_min_s=0.01,
    request_wait_s=3.0,
    reprotect_delay_s=0.15,
    ack_timeout_s=0.06,
    silence_timeout_s=1.0,
    lease_s=0.5,
    probe_interval_s=0.15,
    probe_timeout_s=0.06,
    handoff_wait_s=0.3,
    touch_interval_s=0.3,
    reconnect_backoff_max_s=0.2,
)
"""Timers of the size of delays, so that they meet."""

STORED = replace(FAST, store_kind="shared", store_timeout_s=0.3)
"""A store that all nodes see; its time-out is shorter than its outages."""

ONE_NODE = ("crash", "crash", "restart", "restart", "drain", "pause", "slow", "jump")


WITH_STORE = (*ONE_NODE, "crash all", "crash all", "outage", "outage")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is made of."""

    faults: tuple[str, ...] = ONE_NODE
    """Names of faults, drawn evenly; the next one comes when the last one's window has closed."""

    weather_s: float = 1.0
    """Mean seconds between broken, half-open and stalled links, which no promise may depend on; infinite: none, and
    estimates must be kept."""

    strict: bool = True
    """Whether every answer must be right; if not, what the cluster comes to when it is healed."""

    linearizable: bool = False
    """Whether the answers about each session must have one order."""

    nodes: int = 5
    state_nodes: int = 0
    """So many of them, the last ones, are of role state. Requests go to the others; and they are never gone for long, as
    two of them must not be gone at a time."""

    down_max: int = 2
    """So many nodes may be gone at a time. Under `majority` one that restarts needs three others with memory."""

    sessions: int = 5
    clients: int = 3
    """For each session: two behind balancers, the rest pinned to nodes."""

    faults_min: int = 5
    operations_min: int = 500
    lasts_s: float = 60.0
    haste: float = 0.75
    """Chance that a client clicks again within milliseconds."""

    pause_s: float = 3.0
    ending: float = 0.01
    """Chance that a request ends its session."""

    settles_s: float = 20.0
    """Within this a healed cluster is as it should be. Where nothing is broadcast a backup may have to ask first."""

    options: Options = field(default_factory=lambda: FAST)


QUERY_SETTLES_S = QUERY_CONFIRM_INTERVAL_S + 20.0

PLANS = {
    "any": Plan(),
    "usual-timers": Plan(
        options=Options(reprotect_delay_s=0.5, request_wait_s=4.0, touch_interval_s=1.0), weather_s=3.0
    ),
    "calm": Plan(
        weather_s=inf, faults=("crash", "restart"), sessions=12, options=Options(reprotect_delay_s=0.3)
    ),
    "two-backups": Plan(options=replace(FAST, copies=2)),
    "storm": Plan(weather_s=0.15, faults=("reset", "crash", "restart")),
    "endings": Plan(ending=0.15, options=replace(FAST, idle_timeout_s=1.2), pause_s=1.0, haste=0.8),
    "absences": Plan(
        ending=0.1,
        faults=("absence", "absence", "absence", "crash"),
        options=replace(FAST, tombstone_ttl_s=3.0),
    ),
    "async": Plan(strict=False, options=replace(FAST, ack="async")),
    "majority": Plan(
        options=replace(FAST, quorum="majority", expect=5),
        faults=(*ONE_NODE, "part", "part", "part one way"),
        down_max=1,
        linearizable=True,
    ),
    "absences-majority": Plan(
        options=replace(FAST, quorum="majority", expect=5, tombstone_ttl_s=3.0),
        faults=("absence", "absence", "part", "part", "part one way"),
        ending=0.1,
        down_max=1,
        linearizable=True,
    ),
    "query": Plan(options=replace(FAST, location="query", copies=2), settles_s=QUERY_SETTLES_S),
    "partitions": Plan(strict=False, faults=("part", "part", "part one way", "crash", "pause"), clients=2),
    "query-partitions": Plan(
        strict=False,
        faults=("part", "part one way"),
        clients=2,
        settles_s=QUERY_SETTLES_S,
        options=replace(FAST, location="query"),
    ),
    "flush": Plan(strict=False, options=replace(FAST, flush_s=0.2)),
    "pair": Plan(options=replace(FAST, placement="pair", rebalance_after_s=1.0)),
    "all": Plan(options=replace(FAST, placement="all", rebalance_after_s=1.0)),
    "central": Plan(state_nodes=2, options=replace(FAST, placement="central", rebalance_after_s=1.0)),
    "none": Plan(faults=("drain", "slow", "jump"), options=replace(FAST, placement="none")),
    "store": Plan(options=STORED, faults=WITH_STORE),
    "store-alone": Plan(options=replace(STORED, copies=0), faults=WITH_STORE),
}
