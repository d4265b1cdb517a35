"""Where a session's backup most likely is, so that a dead node's user goes straight to the node that holds a copy.

The nodes place backups by a pure function of the session's key and the members (`sessiond.contract.placement`), and the
key is a hash of the token under the cluster's secret. Who knows both computes the same; what is not known here, such as a
member that was passed over because it was slow, makes the answer wrong, and the request takes one hop more.
"""

from collections.abc import Callable, Iterable, Mapping

from balancer.core.pool import Node
from sessiond.contract.placement import Candidate, Scheme, placement
from sessiond.contract.session_id import Key, SessionId

LikelyBackup = Callable[[bytes, bytes, Mapping[str, Node], Iterable[Node]], Node | None]
"""Of (Cookie field, request target, all nodes, candidates) the node that is likely to hold a copy of the session."""


def likely_backup(
    session_of: Callable[[bytes, bytes], SessionId | None],
    key_of: Callable[[str], Key | None],
    scheme: Scheme = "backup",
) -> LikelyBackup:
    """`session_of` finds the session that a request asks for, `key_of` its key, None for a forged token. `scheme`: the
    nodes' own. With `central` and `none` no node that we send requests to holds a copy, so none is likely."""

    def choose(
        cookie: bytes, target: bytes, nodes: Mapping[str, Node], candidates: Iterable[Node]
    ) -> Node | None:
        session = session_of(cookie, target)
        key = key_of(session.token) if session is not None else None
        if session is None or key is None:
            return None
        primary = nodes.get(session.route)
        zone = primary.zone if primary is not None else ""
        others = {node.name: node for node in candidates}
        members = [Candidate(node.name, node.zone) for node in others.values()]
        chosen = placement(key, Candidate(session.route, zone), members, 1, scheme)
        return others[chosen[0]] if chosen else None

    return choose
