"""A node's numbers for `/metrics`, read from the core and the links whenever somebody asks."""

from collections.abc import Iterator
from dataclasses import fields

from sessiond.core.copies import Role
from sessiond.core.machine import Machine
from sessiond.core.stats import Stats
from sessiond.core.storing import StoreState
from sessiond.net.hub import Hub
from sessiond.ports import Sample
from sessiond.store_driver import StoreDriver

ROLE_NAMES = {Role.PRIMARY: "primary", Role.BACKUP: "backup", Role.QUARANTINED: "quarantined"}


def samples_of(machine: Machine, hub: Hub, store: StoreDriver | None) -> Iterator[Sample]:
    """Every number of a node, as it is now."""
    for counter in fields(Stats):
        name = f"sessiond_{counter.name}_total"
        yield Sample(name, "counter", counter.metadata["help"], getattr(machine.stats, counter.name), {})
    for role, label in ROLE_NAMES.items():
        count = machine.copies.counts[role]
        yield Sample("sessiond_copies", "gauge", "Copies of sessions on this node.", count, {"role": label})
    gauges = (
        ("copies_bytes", "Encoded bytes of all copies on this node.", machine.copies.bytes),
        (
            "unprotected",
            "Sessions here with fewer backups in step than configured, or waiting to be taken over.",
            machine.unprotected,
        ),
        (
            "reprotect_seconds_left",
            "Estimate until every session here has its copies again; +Inf if no node can take one.",
            machine.reprotection.seconds_left,
        ),
        (
            "rebalance_backlog",
            "Sessions whose placement a rebalancing has yet to look at.",
            machine.rebalancing.backlog,
        ),
        (
            "repair_backlog",
            "Sessions queued for takeover or for another backup.",
            machine.reprotection.backlog,
        ),
        ("directory_entries", "Sessions whose location this node knows.", len(machine.directory)),
        ("members_alive", "Living members, this node included.", len(machine.membership.alive()) + 1),
    )
    for name, text, value in gauges:
        yield Sample(f"sessiond_{name}", "gauge", text, value, {})
    storing = machine.storing
    if storing is not None and store is not None:
        yield Sample(
            "sessiond_store_backlog",
            "gauge",
            "Sessions, and ends of sessions, that the store does not have as they are.",
            storing.backlog,
            {},
        )
        for state in StoreState:
            text = "1 for the state of the store: up, behind (it answers and catches up), down."
            is_so = int(storing.state is state)
            yield Sample("sessiond_store_state", "gauge", text, is_so, {"state": str(state)})
        for name, seconds in (("write", store.write_seconds), ("read", store.read_seconds)):
            text = "Seconds that calls of the store took, all together."
            yield Sample("sessiond_store_seconds_total", "counter", text, seconds, {"call": name})
    for link in hub.links():
        peer = {"peer": link.peer.life.name}
        counters = (
            ("frames_sent", "Frames sent over the present link to a member.", link.frames_out),
            ("frames_received", "Frames received over the present link from a member.", link.frames_in),
            ("bytes_sent", "Payload bytes sent over the present link.", link.bytes_out),
            ("bytes_received", "Payload bytes received over the present link.", link.bytes_in),
            (
                "writes",
                "Writes to the socket of the present link: below frames_sent, frames shared one.",
                link.writes,
            ),
        )
        for name, text, value in counters:
            yield Sample(f"sessiond_link_{name}_total", "counter", text, value, peer)
