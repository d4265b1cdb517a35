"""When the cyclic garbage collector runs in a node's process, and over what: the owner of that policy.

Python's own full collection looks at every object there is: 0.5 to 0.9 s at a million sessions, longer than a lease. Yet
sessions are no garbage that it could find: the core makes no cycles, so what it drops is freed at once. So once a node
holds many copies, what has survived one collection of all that is young is *tenured* (`gc.freeze`): no later
collection looks at it. Each one then takes a few milliseconds, however much the node holds.

Invariant: every object is looked at while it is young, and on a node with few copies (`COPIES_MAX`) all the others are
too, as Python does it. The price: a cycle that lived on a large node until it was tenured, and became garbage later, is
freed only when the node is small again. Nothing in sessiond leaves such cycles, connections neither (`tests.proof.soak`);
an application that does grows by them.

Only `sessiond run` has this policy; a program that embeds a node keeps its own, or may start one of these.
"""

import asyncio
import gc
from collections.abc import Callable

COPIES_MAX = 5000
"""Up to here a collection of everything takes 20 ms at most, and Python decides when."""

PASSES_UNTIL_TENURE = 4
"""Passes over the young generation, each after so many new objects as the threshold says, before those that are still
there are tenured: with `process.YOUNG_OBJECTS_MAX` 40,000 objects, which takes 8 ms."""

NEVER = 2**30


class Collector:
    """Watches the collections of this process, and takes over from Python while there are many copies.

    `copies`: how many this node holds now.
    """

    def __init__(self, copies: Callable[[], int]) -> None:
        self._copies = copies
        self._loop: asyncio.AbstractEventLoop | None = None
        self._passes = 0
        self._thresholds_before: tuple[int, int, int] | None = None
        """Python's, while it is this object that decides."""

    @property
    def is_tenuring(self) -> bool:
        return self._thresholds_before is not None

    def start(self) -> None:
        """Begin; in the loop's thread, which is the one whose pauses count."""
        self._loop = asyncio.get_running_loop()
        gc.callbacks.append(self._collected)

    def stop(self) -> None:
        """Leave it to Python, without a collection: most processes end now."""
        if self._loop is not None:
            self._loop = None
            gc.callbacks.remove(self._collected)
            if self.is_tenuring:
                self._give_back()

    def _collected(self, phase: str, _info: object) -> None:
        """Python calls this around each of its collections, in the midst of anything: nothing is done here."""
        if phase == "stop" and self._loop is not None:
            self._passes += 1
            if self._passes == PASSES_UNTIL_TENURE:
                self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        if self._loop is None:
            return
        copies = self._copies()
        if copies > COPIES_MAX:
            if not self.is_tenuring:
                self._thresholds_before = gc.get_threshold()
                gc.set_threshold(self._thresholds_before[0], NEVER, NEVER)
            gc.collect()
            gc.freeze()
        elif self.is_tenuring and copies <= COPIES_MAX // 2:
            self._give_back()
            gc.collect()
            gc.freeze()
        self._passes = 0  # the collection above was one

    def _give_back(self) -> None:
        """Everything is Python's to collect again, when it sees fit."""
        assert self._thresholds_before is not None, "this object decides"  # noqa: S101 - an invariant
        gc.set_threshold(*self._thresholds_before)
        self._thresholds_before = None
        gc.unfreeze()
