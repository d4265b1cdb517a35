"""`sessiond drain`: let a node hand over what it has, and say when it may be stopped.

"Safe to stop" is the node's own word, never a guess from numbers.
"""

import asyncio
import sys

from sessiond.commands.client import ApiClient, Asking, CommandFailed
from sessiond.contract.cluster_view import MemberState
from sessiond.contract.drain_view import DrainView

POLL_INTERVAL_S = 0.2

HINDERED_MAX_S = 5.0
"""With nobody there to take what is left, another node may be about to join: one that is being restarted, say."""

STALLED_MAX_S = 60.0
"""Nothing that moves sessions waits nearly as long."""


async def drain_node(name: str, asking: Asking, *, wait: bool, abort: bool) -> None:
    """Begin or abort the drain of a node, and tell how far it is. Raises CommandFailed, ConfigurationError."""
    async with ApiClient(asking) as client:
        address = await client.address_of(name)
        if abort:
            await client.drain("DELETE", address)
            _say(f"{name} serves again")
            return
        view = await client.drain("POST", address)
        _say(progress(view))
        if wait:
            await _until_safe(client, address, view)
        elif not view.safe_to_stop:
            _say(f"it goes on by itself; with --wait this command tells when {name} may be stopped")


async def _until_safe(client: ApiClient, address: str, view: DrainView) -> None:
    now = asyncio.get_running_loop().time
    changed_at = now()
    while not view.safe_to_stop:
        patience_s = HINDERED_MAX_S if view.hindrance else STALLED_MAX_S
        if now() - changed_at > patience_s:
            why = (
                view.hindrance
                or f"nothing has moved for {STALLED_MAX_S:.0f} s: {view.node}'s log may say why"
            )
            raise CommandFailed(
                f"{view.node} is not safe to stop: {why} (sessiond drain {view.node} --abort lets it serve again)"
            )
        await asyncio.sleep(POLL_INTERVAL_S)
        before, view = view, await client.drain("GET", address)
        if view.state not in (MemberState.DRAINING, MemberState.JOINING):
            raise CommandFailed(f"the drain of {view.node} was aborted by somebody else: it is {view.state}")
        if view != before:
            changed_at = now()
            _say(progress(view))


def progress(view: DrainView) -> str:
    """One line for people."""
    if view.safe_to_stop:
        return f"{view.node}: 0 copies: safe to stop"
    counts = {
        "primaries": view.primaries,
        "backups": view.backups,
        "quarantined copies": view.quarantined,
        "requests in flight": view.requests,
    }
    left = [f"{count} {what}" for what, count in counts.items() if count]
    line = f"{view.node} {view.state}: "
    line += (
        f"{', '.join(left)} left" if left else "0 copies, the last look-ups and the balancer's notice left"
    )
    return f"{line}; {view.hindrance}" if view.hindrance else line


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
