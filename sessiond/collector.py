"""When the cyclic garbage collector runs in a node's process, and over what: the owner of that policy.

Python's own full collection looks at every object there is: 0.5 to 0.9 s at a million sessions, longer than a lease. Yet
sessions are no garbage that it could find: the core makes no cycles, so what it drops is freed at once. So once a node
holds much, what has survived the collections of a while is *tenured* (`gc.freeze`): no later one looks at it.

Python begins a young collection when so many more objects came than went. On a node that replaces old ones, as in
re-protection, that is never; the young become millions, and then all of them are looked at in one pass. So a large node
has a pass at every `LOOK_EVERY_S` as well, and what passes cost decides when it is time to tenure: the collection that
comes before that looks at the same objects once more, and so takes as long.

Invariant: every object is looked at twice at least while it is young, and on a node that holds little (`OBJECTS_MAX`) the
others are too, as Python does it. The price: a cycle that lived on a large node until it was tenured, and became garbage
later, is freed only when the node is small again. Nothing in sessiond is known to leave such cycles, closed connections
neither; an application that does grows by them.

Only `sessiond run` has this policy; a program that embeds a node keeps its own, or may start one of these.
"""

import asyncio
import gc
import time
from collections.abc import Callable

LOOK_EVERY_S = 0.1

OBJECTS_MAX = 20_000
"""Up to here a collection of everything takes some milliseconds, and Python decides when."""

TENURE_AFTER_S = 0.004
"""Of a core's time, spent on young passes. An idle node tenures every half a minute, one that is filled several times a
second."""

NEVER = 2**30


class Collector:
    """Watches the collections of this process, and takes over from Python while there are many objects.

    `objects`: about how many this node holds now for the sake of its sessions.
    """

    def __init__(self, objects: Callable[[], int]) -> None:
        self._objects = objects
        self._timer: asyncio.TimerHandle | None = None
        self._pass_began = 0.0
        self._spent_s = 0.0
        """On collections since something was tenured."""

        self._thresholds_before: tuple[int, int, int] | None = None
        """Python's, while it is this object that decides."""

    @property
    def is_tenuring(self) -> bool:
        return self._thresholds_before is not None

    def start(self) -> None:
        """Begin; in the loop's thread, which is the one whose pauses count."""
        gc.callbacks.append(self._collected)
        self._arm()

    def stop(self) -> None:
        """Leave it to Python, without a collection: most processes end now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._collected)
            if self.is_tenuring:
                self._give_back()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._fire)

    def _fire(self) -> None:
        self.look()
        self._arm()

    def _collected(self, phase: str, _info: object) -> None:
        """Python calls this around each collection, whoever began it."""
        if phase == "start":
            self._pass_began = time.thread_time()
        else:
            self._spent_s += time.thread_time() - self._pass_began

    def look(self) -> None:
        """Decide what to collect now, if anything."""
        objects = self._objects()
        if self.is_tenuring and objects <= OBJECTS_MAX // 2:
            self._give_back()
            self._tenure()
        elif self.is_tenuring:
            gc.collect(0)
            if self._spent_s > TENURE_AFTER_S:
                self._tenure()
        elif objects > OBJECTS_MAX:
            self._thresholds_before = gc.get_threshold()
            gc.set_threshold(self._thresholds_before[0], NEVER, NEVER)
            self._tenure()

    def _tenure(self) -> None:
        """Collect everything that is not tenured, and tenure what is left."""
        gc.collect()
        gc.freeze()
        self._spent_s = 0.0

    def _give_back(self) -> None:
        """Everything is Python's to collect again, when it sees fit."""
        assert self._thresholds_before is not None, "this object decides"  # noqa: S101 - an invariant
        gc.set_threshold(*self._thresholds_before)
        self._thresholds_before = None
        gc.unfreeze()
