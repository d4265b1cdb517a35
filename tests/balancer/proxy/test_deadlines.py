"""One sweep for all time-outs: whoever is due expires, and nobody else."""

import asyncio

from balancer.proxy.deadlines import Deadlines


class Companion:
    """Something that, when it expires, moves others on, as a node that is given up does with its requests."""

    def __init__(self, deadline: float, all_of_them: list["Companion"]) -> None:
        self.deadline = deadline
        self.expiries = 0
        self._all = all_of_them
        all_of_them.append(self)

    def expired(self) -> None:
        self.expiries += 1
        for each in self._all:
            each.deadline += 60


async def test_who_was_moved_on_within_a_sweep_does_not_expire_in_it() -> None:
    deadlines = Deadlines(asyncio.get_running_loop())
    companions: list[Companion] = []
    for _ in range(2):
        deadlines.watch(Companion(deadlines.now, companions))
    deadlines._sweep()
    deadlines.stop()
    assert sum(each.expiries for each in companions) == 1
