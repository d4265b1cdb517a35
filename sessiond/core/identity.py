"""Who a node says it is, and how a member may answer: the contents of the handshake."""

from dataclasses import dataclass
from enum import StrEnum

from sessiond.contract.placement import NodeRole
from sessiond.core.types import Life


@dataclass(frozen=True, slots=True)
class Identity:
    """What a node tells every other one when a link is made.

    `boot_id`: 16 random bytes of this process, so that two processes with one name, or a node that dials
    itself, are told apart. Addresses are HOST:PORT as others reach them. `role`: whether it serves users, or holds
    copies for those who do. `quorum` and `location` are settings
    that the nodes of a cluster must have in common: with different ones they would keep different promises.
    """

    life: Life
    boot_id: bytes
    cluster_name: str
    http: str
    cluster: str
    api: str
    zone: str
    quorum: str = "any"
    location: str = "broadcast"
    role: NodeRole = "app"


class RefusalCode(StrEnum):
    """Why a handshake was refused. The first five are for good, as configured; the others pass."""

    PROTOCOL = "protocol"
    CLUSTER_NAME = "cluster_name"
    SECRET = "secret"  # noqa: S105 - the name of a reason, not a secret
    DUPLICATE_NAME = "duplicate_name"
    SETTINGS = "settings"
    SELF = "self"
    DEAD = "dead"
    REDUNDANT = "redundant"

    @property
    def is_final(self) -> bool:
        return self in FINAL_REFUSALS


FINAL_REFUSALS = frozenset(
    {
        RefusalCode.PROTOCOL,
        RefusalCode.CLUSTER_NAME,
        RefusalCode.SECRET,
        RefusalCode.DUPLICATE_NAME,
        RefusalCode.SETTINGS,
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A handshake's negative answer.

    With DEAD, `incarnation_floor` is the highest known for the name, and `members` how many the refusing node sees
    alive, itself included.
    """

    code: RefusalCode
    detail: str = ""
    incarnation_floor: int = 0
    members: int = 0
