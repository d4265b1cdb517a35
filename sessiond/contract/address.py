"""HOST:PORT as people write it: parsed once, the same way by nodes and balancer.

Names are checked for shape only and never resolved here: whoever connects resolves anew each time.
"""

import ipaddress
import re
from typing import NamedTuple

HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
"""A host name's shape; the underscore is for container names."""

HOST_CHARS_MAX = 253
PORT_MAX = 65535


class Address(NamedTuple):
    """Where something listens, or is reached. An IPv6 `host` has no brackets here; `str()` adds them."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it. A name other than localhost counts as reachable: it may change."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".").lower() == "localhost"

    @property
    def is_unspecified(self) -> bool:
        """Every interface (0.0.0.0, ::): good to listen at, but nothing that anybody could connect to."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False


def parse(text: str, *, may_listen: bool = False) -> Address:
    """Take ``HOST:PORT`` or ``[IPv6]:PORT`` apart. Port 0, "any free one", only if it `may_listen`.

    Raises ValueError with a text that quotes what was given and says what is expected.
    """
    host, colon, digits = text.rpartition(":")
    if not colon or not host or "/" in text:
        raise ValueError(
            f"{text!r} is not HOST:PORT (127.0.0.1:8080, [::1]:8080, 0.0.0.0:8080 for every interface)"
        )
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed or ":" in host:
        host = host.removeprefix("[").removesuffix("]")
        if not bracketed or not _is_ipv6(host):
            raise ValueError(f"{text!r}: an IPv6 address is written [ADDRESS]:PORT, as in [::1]:8080")
    elif HOST_NAME.fullmatch(host) is None or len(host) > HOST_CHARS_MAX:
        raise ValueError(f"{text!r}: {host!r} is not a host name or an address")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5) or int(digits) > PORT_MAX:
        raise ValueError(f"{text!r}: {digits!r} is not a port, a number from 1 to {PORT_MAX}")
    port = int(digits)
    if port == 0 and not may_listen:
        raise ValueError(
            f"{text!r}: port 0 means any free port, which nobody could connect to; name the port"
        )
    return Address(host, port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
