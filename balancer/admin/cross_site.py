"""Orders come from our own page or from programs, never from a foreign page in the operator's browser.

A browser sends what a foreign page asks for with whatever it knows (the password of basic authentication, a place on
loopback), but cannot hide where it came from: it adds Origin to everything that is no GET. And a page at a name that
was pointed at this machine afterwards has that name as its origin.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


def objection(headers: Mapping[str, str], *, has_token: bool) -> str | None:
    """Why an order with these header fields is refused; None if it is not.

    Without a token only an address or localhost is believed to be a page of ours: any other name could be anybody's.
    """
    origin = headers.get("Origin")
    if origin is None:
        return None  # no browser, or one that is asked by nobody's page
    try:
        site = urlsplit(origin)
        host = site.hostname or ""
    except ValueError:
        return f"an order from the page {origin!r} is not carried out"
    if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin" or site.netloc != headers.get("Host"):
        return (
            f"an order from a page of {origin} is not carried out; use the dashboard of the balancer itself"
        )
    if not has_token and host not in LOCAL_NAMES and not _is_address(host):
        return f"{host} may be anybody's name: open the dashboard at its address, or set admin_token_file"
    return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
