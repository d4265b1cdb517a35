"""From a fresh process to a member that serves (protocol 1.3 and 1.7).

Under `any` one member's directory is enough, and with nobody to join a node is the first of its cluster. Under
`majority` a process without memory might speak for a life that voted, or held a lease, a moment ago: it needs the
directories and votes of so many members that every quorum has one among them; or everybody the cluster counts must
be here, and whoever has memory must have shared it. The start of a whole cluster is the latter case, with nobody
who has memory: `expect` says how many must be here for it.

It owns as well whom the cluster counts (`names`): every member that was met and has not left, dead ones too, so
that no minority can take the others for dead and itself for the whole.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sessiond.core.members import Member
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Joining:
    def __init__(self, machine: "Machine", seeds: tuple[str, ...]) -> None:
        self._machine = machine
        self._by_majority = machine.options.quorum == "majority"
        self.joined = False
        self.names = {machine.life.name}
        self._unheard_seeds = set(seeds)
        self._givers: set[str] = set()

    @property
    def size(self) -> int:
        """How many members the cluster counts: what a quorum is one of."""
        return max(self._machine.options.expect, len(self.names))

    def seed_answered(self, address: str) -> None:
        """Somebody, or certainly nobody, is at this address."""
        self._unheard_seeds.discard(address)

    def snapshot_received(self, life: Life) -> None:
        """A member's whole directory has been loaded."""
        self._givers.add(life.name)
        if not self._by_majority:
            self._join("took the directory of a member")
        self.settle()

    def settle(self) -> None:
        """Join if enough is known; else ask for more.

        Of several fresh nodes that see only each other, the one with the lowest name goes first: they must not
        wait for each other.
        """
        if self.joined:
            return
        members = self._machine.membership.members.values()
        peers = [member for member in members if member.linked and member.is_alive]
        ready = [peer for peer in peers if peer.status is not None and peer.status.joined]
        if ready:
            self._ask(ready)
        if self._by_majority:
            if self._knows_enough(peers):
                self._join("took the directories of a quorum" if self._givers else self._as_the_first(peers))
            return
        if ready or any(peer.status is None for peer in peers) or self._unheard_seeds:
            return
        if any(member.is_alive and not member.linked for member in members):
            return
        if self._is_lowest(peers):
            self._join(self._as_the_first(peers))

    def _ask(self, ready: list[Member]) -> None:
        """Load directories, one after the other: one under `any`, else of all that have one."""
        givers = [peer.life for peer in ready if peer.life.name not in self._givers]
        if givers:
            self._machine.snapshots.load(givers)

    def _knows_enough(self, peers: list[Member]) -> bool:
        quorum = self.size // 2 + 1
        if len(self._givers) >= self.size - quorum + 1:
            return True
        fresh = {peer.life.name for peer in peers if peer.status is not None and not peer.status.joined}
        everybody_is_here = self.names - {self._machine.life.name} <= self._givers | fresh
        is_start = not self._givers
        if not everybody_is_here or len(self.names) < self.size:
            return False
        return not is_start or (self._machine.options.expect > 0 and self._is_lowest(peers))

    def _is_lowest(self, peers: Iterable[Member]) -> bool:
        return all(peer.life.name > self._machine.life.name for peer in peers)

    @staticmethod
    def _as_the_first(peers: list[Member]) -> str:
        return f"nobody to join: first of its cluster, {len(peers)} more to come"

    def _join(self, how: str) -> None:
        self.joined = True
        self._machine.log("info", "node.joined", how=how, members=len(self._machine.membership.members) + 1)
        self._machine.joined()
