"""Another node as this one sees it: its newest life, whether there is a link, what is known of its end."""

import math
from dataclasses import dataclass

from sessiond.contract.cluster_view import MemberState, MemberView
from sessiond.contract.placement import NodeRole
from sessiond.core import messages as m
from sessiond.core.identity import Identity
from sessiond.core.types import Life


@dataclass(slots=True)
class Member:
    """Another node, in its newest life that is known here.

    Accused, this node refuses it; dead, the cluster has counted it out. Under `any` the one follows from the other
    at once, under `majority` it takes other members' votes and the time of a lease.
    """

    life: Life
    address: str
    identity: Identity | None = None
    """What it said in its handshake; None while it is known by hearsay only."""

    former_boot_id: bytes = b""
    """Of the process that had the name's last life; if it is the same one, it remembers what it held."""

    heard_at: float = -math.inf
    """When the last message came from it."""

    linked: bool = False
    hung_up: bool = False
    """Its side or the network ended the last link: if nobody listens there either, its process is gone."""

    accused: bool = False
    dead_at: float | None = None
    left: bool = False
    suspected: bool = False
    status: m.Status | None = None

    @property
    def is_alive(self) -> bool:
        """Whether this node still deals with it."""
        return self.dead_at is None and not self.accused

    @property
    def stays(self) -> bool:
        """Whether it serves, and is not about to leave, by its own last word."""
        return self.status is not None and self.status.joined and not self.status.draining

    @property
    def has_returned(self) -> bool:
        """Whether the process is known from another life, its memory with it."""
        return self.identity is not None and self.identity.boot_id == self.former_boot_id

    @property
    def boot_id(self) -> bytes:
        """Of the last process that had this name; empty if it was never met."""
        return self.identity.boot_id if self.identity is not None else self.former_boot_id

    @property
    def role(self) -> NodeRole:
        """Taken for one that serves users until it has said otherwise."""
        return self.identity.role if self.identity is not None else "app"

    @property
    def state(self) -> MemberState:
        if self.left:
            return MemberState.LEFT
        if self.dead_at is not None:
            return MemberState.DEAD
        if self.suspected or self.accused:
            return MemberState.SUSPECT
        if self.status is None or not self.status.joined:
            return MemberState.JOINING
        return MemberState.DRAINING if self.status.draining else MemberState.ALIVE

    def row(self) -> MemberView:
        """As it is shown in the cluster view."""
        identity, status = self.identity, self.status if self.is_alive else None
        return MemberView(
            name=self.life.name,
            incarnation=self.life.incarnation,
            state=self.state,
            http=identity.http if identity else "",
            cluster=self.address,
            api=identity.api if identity else "",
            zone=identity.zone if identity else "",
            primaries=status.primaries if status else None,
            backups=status.backups if status else None,
            unprotected=status.unprotected if status else None,
            role=self.role,
        )
