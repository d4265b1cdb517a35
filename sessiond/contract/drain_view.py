"""How far a node is with leaving: the body of `/v1/drain`.

Readers take what they know and ignore the rest, so that a newer node can say more.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sessiond.contract.cluster_view import MemberState


@dataclass(frozen=True, slots=True)
class DrainView:
    """What is left on a node.

    `safe_to_stop`: the process may end in any way now, and no session and no request is lost. `quarantined`: copies whose news
    a primary has still to take. `requests`: those whose answer has not begun. `hindrance`: why the drain cannot
    come to its end by itself; empty while it can.
    """

    node: str
    state: MemberState
    primaries: int
    backups: int
    quarantined: int
    requests: int
    safe_to_stop: bool
    hindrance: str

    @property
    def copies(self) -> int:
        """Copies of sessions, whatever their role."""
        return self.primaries + self.backups + self.quarantined

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "DrainView":
        """Raises KeyError, TypeError or ValueError on a body that is not a drain view."""
        return cls(
            str(body["node"]),
            MemberState(body["state"]),
            int(body["primaries"]),
            int(body["backups"]),
            int(body["quarantined"]),
            int(body["requests"]),
            bool(body["safe_to_stop"]),
            str(body["hindrance"]),
        )
