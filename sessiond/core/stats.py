"""What the core counts: plain integers that the driver reads whenever somebody asks for metrics."""

from dataclasses import dataclass, field
from typing import Any


def _counter(help_text: str) -> Any:
    return field(default=0, metadata={"help": help_text})


@dataclass(slots=True)
class Stats:
    """Counters since the start of the process; `metadata["help"]` of a field says what."""

    sessions_created: int = _counter("Sessions created here.")
    writes: int = _counter("Session writes committed here as primary.")
    writes_unprotected: int = _counter("Writes answered though no other node could take a copy.")
    writes_forwarded: int = _counter("Late commits sent to the session's new primary.")
    flushes: int = _counter("Flushes: writes of one session that were kept back and left together.")
    applied: int = _counter("Puts and patches applied here as backup.")
    gaps: int = _counter("Patches refused here because the copy they build on was missing.")
    fenced: int = _counter("Times this node, a stale primary, was told so and stepped back.")
    takeovers: int = _counter(
        "Times this node became the primary of a session that was there: after a death, by a handoff, out of doubt."
    )
    handoffs: int = _counter("Sessions handed to another live node.")
    grants: int = _counter("Terms granted here to other nodes.")
    backups_added: int = _counter("Backups chosen to replace one that died, lagged or left.")
    slow_backups: int = _counter(
        "Times a member owed an ack for longer than ack_timeout_s and was passed over."
    )
    rebalanced: int = _counter("Backups moved to where placement wants them.")
    rotated: int = _counter("Sessions that went on under a new token.")
    quarantined: int = _counter("Copies set aside because they may be out of date.")
    merged: int = _counter("Quarantined copies whose news a primary merged: a fork that healed.")
    discarded: int = _counter(
        "Quarantined copies dropped: not used for so long that nobody may know of their end any more."
    )
    expired: int = _counter("Sessions ended by a time-out.")
    invalidated: int = _counter("Sessions ended by the application.")
    lookups: int = _counter("Rounds of asking every member for a session.")
    lookups_refused: int = _counter("Requests refused because look-ups had to wait for lookup_rate_max.")
    digests_compared: int = _counter("Comparisons of the directory with another member's.")
    locations_repaired: int = _counter("Locations learnt by comparing directories, not by announcement.")
    entries_forgotten: int = _counter(
        "Directory entries dropped because no member holds the session any more."
    )
    stored: int = _counter("Records that the store took from here.")
    store_batches: int = _counter("Batches that the store took from here.")
    store_failures: int = _counter("Writes and reads that the store did not answer as it should.")
    stores_refused: int = _counter("Records that the store refused because it has a higher stamp.")
    writes_unstored: int = _counter(
        "Answers that went out without the store though store_write is through: it was down, or behind."
    )
    loaded: int = _counter("Sessions read back from the store.")
    rested: int = _counter("Sessions put away: they lie in the store alone.")
    records_unreadable: int = _counter("Stored records that are damaged, or of a newer release.")
    deaths: int = _counter("Members found dead.")
    stalls: int = _counter("Times this node stood still for longer than a lease.")
    rejoins: int = _counter("Times this node was declared dead while it lived, and came back.")
