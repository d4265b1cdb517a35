"""What is said when a port cannot be had."""

import errno
import socket

import pytest

from sessiond.contract.listening import listening


class Refused(Exception):
    """Stands for a program's own error."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EADDRINUSE, "in use"),
            "it is in use; stop the program there (ss -ltnp 'sport = :80' shows it)",
        ),
        (
            OSError(errno.EADDRNOTAVAIL, "?"),
            "10.0.0.1 is no address of this machine; 0.0.0.0 listens on every",
        ),
        (OSError(errno.EACCES, "denied"), "port 80 needs privileges; take one above 1023"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "the name 10.0.0.1 is not known here"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_the_option_the_address_and_the_way_out_are_named(error: OSError, words: str) -> None:
    with pytest.raises(Refused) as refusal, listening("--http", "10.0.0.1:80", Refused):
        raise error
    assert str(refusal.value).startswith("cannot listen at --http 10.0.0.1:80: ")
    assert words in str(refusal.value)
    assert refusal.value.__cause__ is error


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="as it was"), listening("--http", "127.0.0.1:80", Refused):
        raise ValueError("as it was")
