"""What a node tells others about itself and its cluster: the bodies of `/v1/cluster` and of health.

Readers take what they know and ignore the rest, so that a newer node can say more.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from sessiond.contract.placement import NodeRole


class MemberState(StrEnum):
    """States of a node, as seen by one member."""

    JOINING = "joining"
    ALIVE = "alive"
    SUSPECT = "suspect"
    DEAD = "dead"
    DRAINING = "draining"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class MemberView:
    """One row of the cluster's member list; counts are None where they are not known."""

    name: str
    incarnation: int
    state: MemberState
    http: str
    cluster: str
    api: str
    zone: str
    primaries: int | None
    backups: int | None
    unprotected: int | None
    reprotect_seconds: float | None = None
    """Estimate until all its sessions have their copies again. Known of the node itself only; None also if never."""
    role: NodeRole = "app"
    """state: it holds copies for the others and serves no users."""

    store: str | None = None
    """How its store does: up, behind or down. Known of the node itself only; None also without a store."""

    unstored: int | None = None
    """Sessions that its store lacks something of; known as `store` is."""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster as `node` sees it; `members` are ordered by name."""

    cluster: str
    node: str
    quorum: str
    members: tuple[MemberView, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "ClusterView":
        """Raises KeyError, TypeError or ValueError on a body that is not a cluster view."""
        members = tuple(
            MemberView(**{**_known(row), "state": MemberState(row["state"]), "role": _role(row)})
            for row in body["members"]
        )
        return cls(_text(body, "cluster"), _text(body, "node"), _text(body, "quorum"), members)


def _role(body: Mapping[str, Any]) -> NodeRole:
    """Who says nothing of it serves users."""
    return "state" if body.get("role") == "state" else "app"


def _text(body: Mapping[str, Any], name: str) -> str:
    text = body[name]
    if not isinstance(text, str):
        raise TypeError(f"{name} must be text")
    return text


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a member's row; those with a default may be missing. What lists of nodes are made of has its type."""
    for name in ("name", "http", "cluster", "api", "zone"):
        _text(row, name)
    if not isinstance(row["incarnation"], int):
        raise TypeError("incarnation must be a whole number")
    needed = (each.name for each in fields(MemberView) if each.default is MISSING)
    optional = (each.name for each in fields(MemberView) if each.default is not MISSING)
    return {name: row[name] for name in needed} | {name: row[name] for name in optional if name in row}


FULL_IN_FLIGHT = 100
"""So many requests waiting for an answer count as a load of 1."""

FULL_LAG_MS = 100.0
"""An event loop that comes so late to its timers counts as a load of 1."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a node is. `in_flight`: requests whose answer has not begun. `cpu`: the share of one core that it used.

    Requests in flight show waiting, the loop's lag shows work that holds others up, CPU shows work before it does.
    """

    in_flight: int = 0
    loop_lag_ms: float = 0.0
    cpu: float = 0.0

    @property
    def figure(self) -> float:
        """All in one number: 0.0 idle, 1.0 and above busy. Thousandths are noise."""
        return round(self.in_flight / FULL_IN_FLIGHT + self.loop_lag_ms / FULL_LAG_MS + self.cpu, 3)

    @classmethod
    def from_json(cls, body: Any) -> "Load":
        """A plain number, from a stand-in for a node of ours, is taken for `cpu`. Raises KeyError, TypeError, ValueError."""
        if not isinstance(body, Mapping):
            return cls(cpu=_amount(body))
        return cls(_count(body["in_flight"]), _amount(body["loop_lag_ms"]), _amount(body["cpu"]))


AMOUNT_MAX = 2**53
"""More than this of anything is nonsense. So much fits into every format that it may travel in, and so do sums of it."""


def _amount(value: Any) -> float:
    number = float(value)
    if not 0.0 <= number <= AMOUNT_MAX:
        raise ValueError(f"{value!r} is no amount")
    return number


def _count(value: Any) -> int:
    number = int(value)
    if not 0 <= number <= AMOUNT_MAX:
        raise ValueError("out of all bounds for a count")
    return number


REASON_CHARS_MAX = 200
"""So much of a node's words is kept: they are shown in tables and logs."""


def _words(value: Any) -> str:
    """One line that can be encoded, whatever it was: half a surrogate pair, which JSON can hold, cannot, and control
    characters write lines of their own into a log."""
    return "".join(each if each.isprintable() else "?" for each in str(value)[:REASON_CHARS_MAX])


@dataclass(frozen=True, slots=True)
class HealthView:
    """The body of a node's health answer."""

    node: str
    state: MemberState
    primaries: int
    backups: int
    load: Load
    role: NodeRole = "app"
    """state: healthy or not, it serves no users, so its health is never 200."""

    reason: str = ""
    """Why no session can begin there, in words that go on after its name; empty if one can, or if it does not say."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "HealthView":
        """Raises KeyError, TypeError or ValueError on a body that is not a health view."""
        return cls(
            _words(body["node"]),
            MemberState(body["state"]),
            _count(body["primaries"]),
            _count(body["backups"]),
            Load.from_json(body["load"]),
            _role(body),
            _words(body.get("reason", "")),
        )
