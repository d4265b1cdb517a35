"""The members of a cluster as its nodes report them, one view after another from whoever answered.

Adding is quick and taking out is slow, because one view may be wrong: that of a node which was cut off, or which has
just started alone, lacks all the others. So a member is taken out only if our own checks do not find it up, and then

- at once if a node says that it has left: that is a farewell, no suspicion;
- else when no view has called it living for `forget_s`.

Until then it stays in the list, where checks find out by themselves whether it is dead.

Members of role ``state`` hold copies for the others and serve nobody: they are never in the list.
"""

from collections.abc import Callable
from dataclasses import dataclass

from balancer.core.node_spec import NodeSpec, parse_zone
from sessiond.contract import address
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import ClusterView, MemberState, MemberView
from sessiond.contract.names import NODE_NAME

LIVING = frozenset({MemberState.JOINING, MemberState.ALIVE, MemberState.SUSPECT, MemberState.DRAINING})


class WrongCluster(Exception):
    """A view of another cluster than the first one; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Member:
    """`api`: where it can be asked for the members in its turn; None if it does not say."""

    spec: NodeSpec
    incarnation: int
    state: MemberState
    api: Address | None
    living_at: float


class Members:
    """`is_up(name)`: whether our own checks find the node up. `forget_s` may change at any time."""

    def __init__(self, forget_s: float, is_up: Callable[[str], bool]) -> None:
        self.forget_s = forget_s
        self._is_up = is_up
        self._members: dict[str, Member] = {}
        self._cluster: str | None = None

    @property
    def specs(self) -> list[NodeSpec]:
        """The list of nodes, by name."""
        return [member.spec for _, member in sorted(self._members.items())]

    @property
    def apis(self) -> list[Address]:
        """Who can be asked next."""
        return [member.api for _, member in sorted(self._members.items()) if member.api is not None]

    @property
    def draining(self) -> list[str]:
        return [name for name, member in self._members.items() if member.state is MemberState.DRAINING]

    def heard(self, view: ClusterView, now: float) -> list[str]:
        """Take a view in. Returns what of it could not be used, as texts. Raises `WrongCluster`."""
        if self._cluster is None:
            self._cluster = view.cluster
        elif view.cluster != self._cluster:
            raise WrongCluster(f"{view.node} is of cluster {view.cluster}, the others are of {self._cluster}")
        problems = []
        for row in view.members:
            if NODE_NAME.fullmatch(row.name) is None:
                problems.append(f"{row.name!a:.80}: no node can have this name")
                continue
            try:
                self._take(row, now)
            except ValueError as error:
                problems.append(f"{row.name}: {error}")
        for name, member in tuple(self._members.items()):
            is_over = member.state is MemberState.LEFT or now - member.living_at >= self.forget_s
            if is_over and not self._is_up(name):
                del self._members[name]
        return problems

    def _take(self, row: MemberView, now: float) -> None:
        known = self._members.get(row.name)
        if row.role == "state":
            self._members.pop(row.name, None)
            return
        if known is not None and row.incarnation < known.incarnation and self._is_up(row.name):
            return  # of its life before this one
        if row.state in LIVING:
            zone = parse_zone(row.zone) if row.zone else ""
            spec = NodeSpec(row.name, address.parse(row.http), zone=zone)
            if spec.address.is_unspecified:
                raise ValueError(f"nobody can connect to {spec.address}: give the node --advertise-http")
            api = address.parse(row.api) if row.api else None
            self._members[row.name] = Member(spec, row.incarnation, row.state, api, now)
        elif known is not None:
            self._members[row.name] = Member(
                known.spec, row.incarnation, row.state, known.api, known.living_at
            )
