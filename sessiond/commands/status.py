"""`sessiond status`: the cluster as a table for people, and whether every session has its copies."""

import json
import sys

from sessiond.commands.client import ApiClient, Asking
from sessiond.contract.cluster_view import ClusterView, MemberState

COLUMNS = ("node", "state", "http", "primaries", "backups", "unprotected", "zone", "role", "incarnation")
NUMBERS = frozenset({"primaries", "backups", "unprotected"})
UNKNOWN = "-"


async def show_status(asking: Asking, *, as_json: bool) -> None:
    """Write what the asked node knows. Raises CommandFailed, ConfigurationError."""
    async with ApiClient(asking) as client:
        view = await client.cluster()
    sys.stdout.write(json.dumps(view.to_json(), indent=2) + "\n" if as_json else report(view))


def report(view: ClusterView) -> str:
    """The table, and under it what it comes to."""
    rows: list[tuple[str, ...]] = [COLUMNS]
    for member in view.members:
        cells = (getattr(member, "name" if column == "node" else column) for column in COLUMNS)
        rows.append(tuple(UNKNOWN if cell in (None, "") else str(cell) for cell in cells))
    sums = {column: sum(getattr(member, column) or 0 for member in view.members) for column in NUMBERS}
    rows.append(("total", *(str(sums.get(column, "")) for column in COLUMNS[1:])))
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    lines = [f"cluster {view.cluster}, as {view.node} sees it (quorum {view.quorum})", ""]
    for row in rows:
        cells = (
            cell.rjust(width) if column in NUMBERS else cell.ljust(width)
            for column, cell, width in zip(COLUMNS, row, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", verdict(view), *store_lines(view), ""])


def store_lines(view: ClusterView) -> list[str]:
    """How the asked node's store does, if it has one."""
    (own,) = (member for member in view.members if member.name == view.node)
    if own.store is None:
        return []
    lacks = f"{own.unstored} session{'' if own.unstored == 1 else 's'} yet to be written"
    if own.store == "down":
        return [f"STORE DOWN: {own.name} goes on without it; {lacks}"]
    return [f"store {own.store}, as {own.name} sees it: {lacks}"]


def verdict(view: ClusterView) -> str:
    """Whether a node may die now without a session being lost, in one line."""
    living = [m for m in view.members if m.state not in (MemberState.DEAD, MemberState.LEFT)]
    unprotected = sum(member.unprotected or 0 for member in living)
    silent = [member.name for member in living if member.unprotected is None]
    if unprotected:
        sessions = "1 session has" if unprotected == 1 else f"{unprotected} sessions have"
        why = "; start another node" if len(living) == 1 else ""
        return f"NOT FULLY PROTECTED: {sessions} fewer backups than configured{why}"
    if silent:
        return f"NOT KNOWN TO BE PROTECTED: nothing is known of the sessions of {', '.join(silent)}"
    if any(member.primaries for member in living) and not any(member.backups for member in living):
        return "no session has a backup, and none is to have one (--placement none): each dies with its node"
    return "fully protected: every session has its backups"
