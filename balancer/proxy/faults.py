"""Whose fault it is that a connection to a node could not be made."""

import errno
import socket

OUR_OWN_FAULTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EADDRNOTAVAIL}
)
"""Why a connect can fail before anything was sent: no descriptors, memory or ports left here."""

NAME_IS_GONE = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})
"""What a resolver that works says; other errors of a look-up are its own trouble."""


def is_our_own(error: OSError) -> bool:
    """Whether it says something about this machine or its resolver, and nothing about the node."""
    if isinstance(error, socket.gaierror):
        return error.errno not in NAME_IS_GONE
    return error.errno in OUR_OWN_FAULTS
