"""When a wounded cluster is whole again: what the promise calls the end of a re-protection window."""

import asyncio
import re
from collections.abc import Collection, Mapping

from sessiond.contract.cluster_view import ClusterView, MemberState
from tests.e2e.cluster import Cluster, Node
from tests.e2e.waiting import DEADLINE_S, wait_until

GONE = frozenset({MemberState.DEAD, MemberState.LEFT})

POLL_INTERVAL_S = 0.02

_SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


async def metrics(node: Node) -> dict[str, float]:
    """Its samples by name with labels, as written in /metrics; empty if it does not answer."""
    answer = await node.ask("/metrics")
    if answer is None or answer.status != 200:
        return {}
    return {name: float(value) for name, value in _SAMPLE.findall(answer.body.decode())}


async def totals(cluster: Cluster, *names: str) -> dict[str, float]:
    """Sums of these samples over all nodes that run."""
    found = await asyncio.gather(*(metrics(node) for node in cluster.running().values()))
    return {name: sum(samples.get(name, 0.0) for samples in found) for name in names}


async def seen_dead(cluster: Cluster, name: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until every other running node knows that this one is dead."""

    async def is_seen() -> bool:
        others = [other for other in cluster.running() if other != name]
        states = await asyncio.gather(*(cluster.states(other) for other in others))
        return all(seen.get(name) in {"dead", "left"} for seen in states)

    await wait_until(is_seen, f"the others see {name} dead", deadline_s)


async def whole(cluster: Cluster, deadline_s: float = DEADLINE_S) -> None:
    """Wait until the nodes that run agree on who lives, and no session waits for a backup or is in doubt."""

    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while found := await wounds(cluster, cluster.running()):
        assert loop.time() < deadline, f"not whole within {deadline_s:.0f} s: {'; '.join(found)}"
        await asyncio.sleep(POLL_INTERVAL_S)


async def wounds(cluster: Cluster, nodes: Mapping[str, Node]) -> list[str]:
    """What these nodes lack: empty when they are whole."""
    views = await asyncio.gather(*(cluster.view(name) for name in nodes))
    found: list[str] = []
    lives: dict[str, int] = {}
    for name, view in zip(nodes, views, strict=True):
        if view is None:
            return [f"{name} does not answer"]
        own = next(member for member in view.members if member.name == name)
        lives[name] = own.incarnation
        if own.state is not MemberState.ALIVE:
            found.append(f"{name} is {own.state}")
    for name, view in zip(nodes, views, strict=True):
        if view is not None:
            found.extend(f"{name} {disagreement}" for disagreement in _disagreements(view, lives))
    if found:
        return found
    for name, node in nodes.items():
        samples = await metrics(node)
        found.extend(
            f"{name} has {what} {samples.get(what)}"
            for what in (
                "sessiond_unprotected",
                "sessiond_repair_backlog",
                'sessiond_copies{role="quarantined"}',
            )
            if samples.get(what) != 0
        )
    return found


def _disagreements(view: ClusterView, lives: Mapping[str, int]) -> Collection[str]:
    seen = {member.name: member for member in view.members}
    found = []
    for name, incarnation in lives.items():
        member = seen.get(name)
        if member is None or member.incarnation != incarnation or member.state is not MemberState.ALIVE:
            found.append(f"does not see {name} alive")
    found.extend(
        f"does not know that {name} is gone"
        for name, member in seen.items()
        if name not in lives and member.state not in GONE
    )
    return found
