"""What both programs say when they cannot listen at an address: which option it is, why, and the way out."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listening(option: str, address: str, refusal: type[Exception]) -> Iterator[None]:
    """Around the opening of a port: its OSError becomes a `refusal` that names `option` and `address`."""
    try:
        yield
    except OSError as error:
        raise refusal(f"cannot listen at {option} {address}: {_reason(error, address)}") from error


def _reason(error: OSError, address: str) -> str:
    host, _, port = address.rpartition(":")
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known here; give an address of this machine"
    match error.errno:
        case errno.EADDRINUSE:
            return f"it is in use; stop the program there (ss -ltnp 'sport = :{port}' shows it) or take another port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; 0.0.0.0 listens on every interface"
        case errno.EACCES:
            return f"port {port} needs privileges; take one above 1023 or grant CAP_NET_BIND_SERVICE"
        case _:
            return error.strerror or str(error)
