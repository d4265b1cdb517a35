"""The session cookie on the wire: found in a request, verified, and written into a response.

Reading is tolerant, since other software shares the header: what is not ours is skipped. Writing costs
nothing on the responses that set no cookie, which are nearly all.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from sessiond.contract.session_id import Key, Keyring, join, split
from sessiond.settings import Settings

CANDIDATES_MAX = 10
"""Cookies of our name that are verified in one request; a browser sends more than one only by domain and path."""

HEADERS_KEPT_MAX = 4096
"""Cookie headers whose outcome is remembered: verifying a token costs as much as reading the whole session."""

HEADER_CHARS_KEPT_MAX = 512
"""A longer Cookie header is read anew each time, so that what is remembered stays small."""


class Presented(NamedTuple):
    """A cookie that this cluster made: its token, the node that it routes to, and the key it stands for."""

    token: str
    route: str
    key: Key


class SessionCookie:
    """The session cookie of one node, as its settings want it."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._name = settings.cookie_name
        self._node = settings.name
        self._keyring = keyring
        self._remembered = lru_cache(HEADERS_KEPT_MAX)(self._find)
        attributes = "; Path=/; HttpOnly; SameSite=Lax"
        if settings.cookie_secure:
            attributes += "; Secure"
        self._clear = f"{self._name}=; Max-Age=0{attributes}"
        if settings.cookie_max_age_s:
            attributes += f"; Max-Age={settings.cookie_max_age_s}"
        self._attributes = attributes

    def find(self, headers: Sequence[str]) -> Presented | None:
        """The first cookie of our name, in the values of all Cookie headers, that verifies."""
        if len(headers) == 1 and len(headers[0]) <= HEADER_CHARS_KEPT_MAX:
            return self._remembered(headers[0])
        return self._find("; ".join(headers))

    def _find(self, header: str) -> Presented | None:
        for value in islice(values_of(header, self._name), CANDIDATES_MAX):
            session_id = split(value)
            if session_id is None:
                continue
            key = self._keyring.key_of(session_id.token)
            if key is not None:
                return Presented(session_id.token, session_id.route, key)
        return None

    def answer(self, token: str | None, *, ended: bool) -> str | None:
        """The Set-Cookie header for a visitor whose cookie does not name this node, or None.

        `token`: of the session that the request leaves; `ended`: the request invalidated the one it came with.
        """
        if token is None:
            return self._clear if ended else None
        return f"{self._name}={join(token, self._node)}{self._attributes}"


def values_of(header: str, name: str) -> Iterator[str]:
    """The values of the cookies of a name in a Cookie header, in order; what is malformed is skipped."""
    if name not in header:
        return
    for pair in header.split(";"):
        found, equals, value = pair.partition("=")
        if equals and found.strip() == name:
            yield value.strip().strip('"')
