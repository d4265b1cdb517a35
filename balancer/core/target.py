"""The request target: what form it has, what travels on, and whether it means the nodes' own paths.

`/_sessiond/…` of a node's application port is for the balancer. A target is refused if *any* reading of it that
a server behind us might make ends up there: percent-encoding undone once or many times, repeated slashes (which an
authority may follow, as in a URL without a scheme), backslashes, dot segments resolved or not, any case. Too much is
refused rather than too little.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from balancer.core.framing import Refused
from sessiond.contract.names import INTERNAL_PREFIX

_INTERNAL = INTERNAL_PREFIX.strip("/").encode()
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(/[^?]*)?(\?.*)?", re.IGNORECASE)
HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
"""RFC 3986's host and port without the comma, with which some write two hosts. May be empty."""

DECODINGS_MAX = 4
"""Layers of percent-encoding that are looked through; a target with more is refused."""


class Target(NamedTuple):
    """`forwarded`: origin form or ``*``. `host`: the authority of an absolute form, which replaces Host."""

    forwarded: bytes
    host: bytes | None


def interpret(method: bytes, target: bytes) -> Target:
    """Raises `Refused` on a form that does not go with the method."""
    if target.startswith(b"/"):
        return Target(target, None)
    if target == b"*":
        if method != b"OPTIONS":
            raise Refused(400, "target * is for OPTIONS")
        return Target(target, None)
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Refused(400, "malformed request target")
    host, path, query = match.groups()
    if not host or HOST.fullmatch(host) is None:
        raise Refused(400, "malformed authority in the request target")
    if path is None and query is None and method == b"OPTIONS":
        return Target(b"*", host)
    return Target((path or b"/") + (query or b""), host)


def is_internal(target: bytes) -> bool:
    """Whether some server could take the target (origin form) for a path below `/_sessiond`."""
    if b"%" not in target and _INTERNAL not in target.lower():
        return False
    path = target.partition(b"?")[0]
    for _ in range(DECODINGS_MAX):
        if _reaches_internal(path):
            return True
        decoded = unquote_to_bytes(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _reaches_internal(path: bytes) -> bool:
    path = path.replace(b"\\", b"/").lower()
    if path.startswith(b"//") and _begins_internal(path.lstrip(b"/").partition(b"/")[2]):
        return True
    return _begins_internal(path)


def _begins_internal(path: bytes) -> bool:
    resolved: list[bytes] = []
    plain: list[bytes] = []
    for segment in path.split(b"/"):
        name = segment.partition(b";")[0]  # path parameters are no part of the name for some servers
        if name in (b"", b"."):
            continue
        plain.append(name)
        if name != b"..":
            resolved.append(name)
        elif resolved:
            resolved.pop()
    return plain[:1] == [_INTERNAL] or resolved[:1] == [_INTERNAL]
