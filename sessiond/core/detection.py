"""The words between the failure detector and who uses it: how fast it is, and what it finds."""

from dataclasses import dataclass
from typing import NamedTuple

from sessiond.core.effects import Send
from sessiond.core.types import Life


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast to suspect. Durations in seconds; `docs/membership.md` explains how they go together."""

    probe_interval_s: float = 0.25
    """One member is probed in each. Shorter finds a silence sooner, and costs messages in proportion."""

    probe_timeout_s: float = 0.1
    """After this others are asked. Above the usual round trip with a busy peer, and well below half the interval."""

    silence_timeout_s: float = 2.0
    """Nobody is declared silent sooner. Longer than any pause of a healthy process."""

    awareness_max: int = 8
    """How far this node may doubt itself (see `awareness`); 0: it trusts its impressions even when it is starved."""


class Suspected(NamedTuple):
    """A suspicion begins; place nothing new there."""

    life: Life
    accusers: tuple[Life, ...]


class Refuted(NamedTuple):
    """A suspected life, or one that was declared silent, has been heard of."""

    life: Life


class Silent(NamedTuple):
    """No sign of this life for `silent_s`: reason to vote for its death."""

    life: Life
    silent_s: float
    accusers: tuple[Life, ...]


class Answered(NamedTuple):
    """This life has answered a PING that was sent at `asked_at`: a lease counts from there."""

    life: Life
    asked_at: float


Effect = Send | Suspected | Refuted | Silent | Answered
