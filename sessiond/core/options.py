"""The cluster rules' numbers, as the core needs them; `sessiond.settings` explains how to choose each."""

from dataclasses import dataclass

from sessiond.contract.placement import NodeRole, Scheme

SNAPSHOT_CHUNK = 250
"""Locations in one message, of which a few may come at once: each is packed and merged within a millisecond."""

TOUCH_CHUNK = 1000
"""Sessions in one TOUCH message."""

ATTRIBUTES_MAX = 4000
"""Attribute names of a session, deleted ones too: two forks of it, merged, still fit into a frame (`codec`)."""

WRITE_IDS_KEPT = 8
"""Forwarded writes a copy remembers, so that one repeated after a takeover applies once."""

CLAIM_REPEAT_S = 0.06
"""A CLAIM that got no answer is sent again after this."""

LOOKUP_ROUND_S = 0.1
"""A round of looking for a session is started anew after this: an answer was lost, or the cluster changed."""

RECALL_AGAIN_S = 1.0
"""A record that could not be read is asked for again after this, if somebody still waits for it."""

RECALL_VALID_S = 1.0
"""So long what was read of a session is taken for what is stored; far shorter than the rest of one that is put away."""

LOCATION_BATCH_S = 0.005
"""Locations are broadcast together when the oldest one has waited so long: far below a human's pace."""

DIGEST_INTERVAL_S = 2.0
"""How often a node compares its directory with a random member's: what an announcement missed is missing so long."""

CONFIRM_INTERVAL_S = 300.0
"""How often a backup asks the owners of its copies whether they still count, beside each time a link opens."""

QUERY_CONFIRM_INTERVAL_S = 60.0
"""The same where nothing is broadcast: no digest shows there what a lost message left behind, only this question does.
100,000 copies ask 1,700 times a second then, spread over the members that own them."""

LOOKUPS_LIMITED_LOG_S = 10.0
"""How often it is logged that look-ups have to wait."""

UPKEEP_INTERVAL_S = 0.05
"""How often sessions that wait for something (an ack, a backup, an answer) are looked at without a message."""

PROBE_WAIT_S = 1.0
"""A member whose name a newcomer claims gets so long to show that it lives."""

DEAD_SHOWN_S = 600.0
"""How long a dead member is still listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Numbers of one node's core. Durations in seconds, sizes in bytes; fields named as in `Settings`."""

    quorum: str = "any"
    expect: int = 0
    lease_s: float = 1.0
    placement: Scheme = "backup"
    role: NodeRole = "app"
    copies: int = 1
    location: str = "broadcast"
    ack: str = "sync"
    flush_s: float = 0.0
    """Interval of flushes; 0: every write is sent at once."""

    store_kind: str = ""
    """Whether there is a store: "" none, "shared" one that all nodes see, "own" one of this node alone."""

    store_write: str = "through"
    store_timeout_s: float = 1.0
    ack_timeout_s: float = 0.3
    probe_interval_s: float = 0.25
    probe_timeout_s: float = 0.1
    silence_timeout_s: float = 2.0
    awareness_max: int = 8
    reconnect_backoff_max_s: float = 1.0
    reprotect_delay_s: float = 1.0
    reprotect_rate_max: int = 5000
    lookup_rate_max: int = 2000
    rebalance_rate_max: int = 500
    rebalance_after_s: float = 10.0
    rotate_grace_s: float = 10.0
    request_wait_s: float = 5.0
    handoff_wait_s: float = 2.0
    tenure_min_s: float = 0.05
    touch_interval_s: float = 5.0
    tombstone_ttl_s: float = 600.0
    idle_timeout_s: float = 1800.0
    absolute_timeout_s: float = 43200.0
    attribute_bytes_max: int = 262_144
    session_bytes_max: int = 1_048_576
    memory_bytes_max: int = 1_073_741_824
