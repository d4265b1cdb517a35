"""The network between processes: links that behave like TCP, on virtual time.

A link has two ends. Each direction delivers in order, after a delay; bursts of delay come now and then. What
was sent before a connection ended arrives up to some point, then the end of the stream. A cut direction keeps
what is sent (TCP repeats it) until it is mended; nobody is told. A half-open link has lost one end, and the
other one does not know. Nothing is lost or repeated on a link that lives.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Final

from sessiond.core.identity import Identity
from tests.sim.book import Book
from tests.sim.timeline import Timeline

if TYPE_CHECKING:
    from tests.sim.handshakes import Dial
    from tests.sim.process import Process

DELAY_MIN_S, DELAY_MAX_S = 0.0002, 0.003
BURST_CHANCE = 0.02
BURST_MAX_S = 0.08
"""Longest extra delay of a burst; the cluster's silence time-out is far above."""

RESENT_WITHIN_S = 0.2
"""What a cut direction has kept arrives so long after it was mended."""

WELCOME: Final = "welcome"
END_OF_STREAM: Final = "end of stream"
Item = bytes | str
"""A frame, the handshake's last word, or the end of the stream."""


@dataclass(eq=False, slots=True)
class End:
    """One process's end of a link. `dial`: how it came to be, if this process dialed."""

    owner: "Process"
    peer: Identity
    dial: "Dial | None"
    other: "End | None" = None
    is_open: bool = True
    is_known_to_other: bool = True
    """False: the other side does not notice what happens here (half-open)."""

    outbox: list[bytes] = field(default_factory=list)
    queue: deque[tuple[float, list[Item]]] = field(default_factory=deque)
    """On its way to this end, with the times of arrival."""

    last_arrival: float = 0.0
    is_held: bool = False

    @property
    def initiated_by_us(self) -> bool:
        return self.dial is not None


class Network:
    def __init__(self, timeline: Timeline, rng: Random, book: Book) -> None:
        self.timeline = timeline
        self.rng = rng
        self.book = book
        self.hosts: dict[str, Process] = {}
        """Living processes by address."""

        self.cut: dict[tuple[str, str], None] = {}
        """Directions, as pairs of hosts, in which nothing passes."""

        self._stalled: dict[tuple[str, str], float] = {}
        self._held: list[End] = []
        self._links: list[End] = []

    def delay(self) -> float:
        rng = self.rng
        chance = rng.random()
        if chance < BURST_CHANCE:
            return rng.uniform(DELAY_MAX_S, BURST_MAX_S)
        return DELAY_MIN_S + (DELAY_MAX_S - DELAY_MIN_S) * chance

    # --- links --------------------------------------------------------------------------------------

    def join(self, acceptor: "Process", of_dialer: Identity, dialer: "Process", dial: "Dial") -> End:
        """Make a link; the acceptor's end, which is open. The dialer's opens when its welcome arrives."""
        end = End(acceptor, of_dialer, None)
        other = End(dialer, acceptor.machine.identity, dial)
        end.other, other.other = other, end
        self._links = [link for link in self._links if link.is_open or (link.other and link.other.is_open)]
        self._links.append(end)
        self.send(end, [WELCOME])
        return end

    def links(self) -> list[End]:
        """One end of each link that both ends take for open."""
        return [end for end in self._links if end.is_open and end.other and end.other.is_open]

    def send(self, end: End, items: list[Item]) -> None:
        """Items leave one end, all at once; whether they ever arrive is another question."""
        to = end.other
        assert to is not None, "a link has two ends"
        if not to.is_open or not end.is_known_to_other:
            return
        arrival = self.timeline.now + self.delay()
        stalled = self._stalled.get((end.owner.name, to.owner.name))
        arrival = max(arrival, to.last_arrival, stalled or 0.0)
        to.last_arrival = arrival
        to.queue.append((arrival, items))
        if len(to.queue) == 1 and not to.is_held:
            self.timeline.at(arrival, self._arrive, to)

    def _arrive(self, end: End) -> None:
        queue = end.queue
        if not queue or not end.is_open or end.is_held:
            return
        assert end.other is not None, "a link has two ends"
        if (end.other.owner.name, end.owner.name) in self.cut:
            end.is_held = True
            self._held.append(end)
            return
        now = self.timeline.now
        items: list[Item] = []
        while queue and queue[0][0] <= now:
            items += queue.popleft()[1]
        if queue:
            self.timeline.at(queue[0][0], self._arrive, end)
        if items:
            end.owner.read(end, items)

    def close(self, end: End, *, in_order: bool = False) -> None:
        """The owner closes its end, or dies: what it sent arrives up to some point, or all of it (`in_order`),
        then the end of the stream."""
        if not end.is_open:
            return
        end.is_open = False
        end.outbox.clear()
        end.queue.clear()
        other = end.other
        assert other is not None, "a link has two ends"
        if other.is_open and end.is_known_to_other:
            if not in_order:
                self._truncate(other)
            self.send(end, [END_OF_STREAM])

    def _truncate(self, end: End) -> None:
        """The last of what is under way to this end is lost with the connection."""
        for _ in range(self.rng.randint(0, len(end.queue)) if self.rng.random() < 0.5 else 0):
            if len(end.queue) > 1:  # what is planned arrives, if only as nothing
                end.queue.pop()

    def reset(self, end: End) -> None:
        """The connection breaks, and both processes read so."""
        other = end.other
        assert other is not None, "a link has two ends"
        self._truncate(end)
        self._truncate(other)
        self.send(end, [END_OF_STREAM])
        self.send(other, [END_OF_STREAM])

    def half_open(self, end: End, until: float) -> None:
        """The owner of this end reads the connection's end; the other side learns of it much later, if ever."""
        other = end.other
        assert other is not None, "a link has two ends"
        self.send(other, [END_OF_STREAM])
        other.is_known_to_other = end.is_known_to_other = False
        self.timeline.at(until, self._found_broken, other)

    def _found_broken(self, end: End) -> None:
        if end.is_open:
            end.queue.clear()
            end.owner.read(end, [END_OF_STREAM])

    # --- weather ------------------------------------------------------------------------------------

    def is_cut(self, source: str, target: str) -> bool:
        return (source, target) in self.cut

    def is_cut_off(self, one: str, other: str) -> bool:
        """Whether a connection between the two could not be made: one direction is enough."""
        return (one, other) in self.cut or (other, one) in self.cut

    def stall(self, source: str, target: str, seconds: float) -> None:
        """Nothing passes in one direction for a while; it arrives later."""
        self._stalled[source, target] = self.timeline.now + seconds

    def part(self, some: list[str], others: list[str], *, both_ways: bool = True) -> None:
        for pair in product(some, others):
            self.cut[pair] = None
            if both_ways:
                self.cut[pair[::-1]] = None

    def heal(self) -> None:
        """All directions carry again: what was kept arrives, or the connection turns out to be broken."""
        self.cut.clear()
        held, self._held = self._held, []
        for end in held:
            end.is_held = False
            if not end.is_open:
                continue
            if self.rng.random() < 0.3:
                self.reset(end)
            wait = self.timeline.now + self.rng.uniform(0.0, RESENT_WITHIN_S)
            end.queue = deque((max(arrival, wait), items) for arrival, items in end.queue)
            end.last_arrival = max(end.last_arrival, wait)
            self.timeline.at(end.queue[0][0], self._arrive, end)
