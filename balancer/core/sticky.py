"""Which node a request asks for: the suffix of its session id, in the cookie or in the path.

A cookie is looked at first; of several of the name the first that has the shape of an id counts, because
a browser may hold an older one for another path or domain. The suffix is a hint, looked up among the known nodes.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from balancer.core.reader import REMEMBERED_BYTES_MAX
from sessiond.contract.session_id import SessionId, split

CACHED_COOKIES = 4096
"""Cookie fields whose route is remembered, unless they are longer than other parts of heads may be for that: a user's
next requests carry the same one."""


def session_finder(cookie_name: str) -> Callable[[bytes, bytes], SessionId | None]:
    """A function of (Cookie field, request target) that returns the session asked for, unverified, or None."""
    in_cookie, in_path = _patterns(cookie_name)

    def session_of(cookie: bytes, target: bytes) -> SessionId | None:
        return _first(in_cookie.findall(cookie)) or _first(in_path.findall(target.partition(b"?")[0]))

    return session_of


def route_finder(cookie_name: str) -> Callable[[bytes, bytes], str | None]:
    """The same for the name of the node only, which every request asks for."""
    in_cookie, in_path = _patterns(cookie_name)

    def read(cookie: bytes) -> str | None:
        session = _first(in_cookie.findall(cookie))
        return session.route if session is not None else None

    remembered = lru_cache(CACHED_COOKIES)(read)

    def route_of(cookie: bytes, target: bytes) -> str | None:
        route_of_cookie = remembered if len(cookie) <= REMEMBERED_BYTES_MAX else read
        route = route_of_cookie(cookie) if cookie else None
        if route is None and b";" in target:
            session = _first(in_path.findall(target.partition(b"?")[0]))
            return session.route if session is not None else None
        return route

    return route_of


def _patterns(cookie_name: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    name = re.escape(cookie_name.encode())
    in_cookie = re.compile(rb"(?:^|;)[ \t]*" + name + rb"[ \t]*=[ \t]*([^;, \t]*)")
    return in_cookie, re.compile(rb";" + name + rb"=([^;/?]*)")


def _first(candidates: list[bytes]) -> SessionId | None:
    for candidate in candidates:
        session_id = split(candidate.decode("latin-1"))
        if session_id is not None:
            return session_id
    return None
