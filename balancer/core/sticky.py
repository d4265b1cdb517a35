"""Which node a request asks for: the suffix of its session id, in the cookie or in the path.

A cookie is looked at first; of several of the name the first that has the shape of an id counts, because
a browser may hold an older one for another path or domain. The suffix is a hint, looked up among the known nodes.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from sessiond.contract.session_id import split

CACHED_COOKIES = 4096
"""Cookie fields whose route is remembered: a user's next requests carry the same one."""


def route_finder(cookie_name: str) -> Callable[[bytes, bytes], str | None]:
    """A function of (Cookie field, request target) that returns the name of the node asked for, or None."""
    name = re.escape(cookie_name.encode())
    in_cookie = re.compile(rb"(?:^|;)[ \t]*" + name + rb"[ \t]*=[ \t]*([^;, \t]*)")
    in_path = re.compile(rb";" + name + rb"=([^;/?]*)")

    def first(candidates: list[bytes]) -> str | None:
        for candidate in candidates:
            session_id = split(candidate.decode("latin-1"))
            if session_id is not None:
                return session_id.route
        return None

    @lru_cache(CACHED_COOKIES)
    def route_of_cookie(cookie: bytes) -> str | None:
        return first(in_cookie.findall(cookie))

    def route_of(cookie: bytes, target: bytes) -> str | None:
        route = route_of_cookie(cookie) if cookie else None
        if route is None and b";" in target:
            return first(in_path.findall(target.partition(b"?")[0]))
        return route

    return route_of
