"""What a node tells others about itself and its cluster: the bodies of `/v1/cluster` and of health.

Readers take what they know and ignore the rest, so that a newer node can say more.
"""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import Any


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
            MemberView(**{**_known(row), "state": MemberState(row["state"])}) for row in body["members"]
        )
        return cls(body["cluster"], body["node"], body["quorum"], members)


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a member's row; those with a default may be missing."""
    needed = (each.name for each in fields(MemberView) if each.default is MISSING)
    optional = (each.name for each in fields(MemberView) if each.default is not MISSING)
    return {name: row[name] for name in needed} | {name: row[name] for name in optional if name in row}


@dataclass(frozen=True, slots=True)
class HealthView:
    """The body of a node's health answer. `load`: 0.0 idle to 1.0 and above, busy."""

    node: str
    state: MemberState
    primaries: int
    backups: int
    load: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "HealthView":
        """Raises KeyError, TypeError or ValueError on a body that is not a health view."""
        return cls(
            str(body["node"]),
            MemberState(body["state"]),
            int(body["primaries"]),
            int(body["backups"]),
            float(body["load"]),
        )
