"""TLS for both sides, with the standard library's contexts: who we are to clients, and whom we believe to be a node.

TLS 1.2 and 1.3 with forward secrecy and authenticated encryption only; HTTP/1.1 is all that ALPN offers. Python's TLS
cannot be closed on one side only: the end that a peer announces is the end of the connection.
"""

import ssl
from pathlib import Path
from typing import NoReturn

from balancer.errors import ConfigurationError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2. Those of 1.3 are all good."""

PROTOCOLS = ["http/1.1"]


def for_clients(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The listener's context, None if it speaks plain TCP. Raises `ConfigurationError`."""
    if certificate is None:
        if key is not None:
            raise ConfigurationError("tls_key_file is of no use without tls_certificate_file")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    show(context, certificate, key)
    return context


def show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Have the listener's handshakes from now on show this certificate. Raises `ConfigurationError`."""
    _load(context, ("tls_certificate_file", certificate), ("tls_key_file", key))


def for_nodes(
    *, wanted: bool, authorities: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext | None:
    """The context for connections to nodes, None if they are plain. Raises `ConfigurationError`."""
    if not wanted:
        given = {
            "node_tls_ca_file": authorities,
            "node_tls_certificate_file": certificate,
            "node_tls_key_file": key,
        }
        for option, path in given.items():
            if path is not None:
                raise ConfigurationError(f"{option} is of no use without node_tls")
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authorities)
    except OSError as error:
        raise ConfigurationError(f"node_tls_ca_file {authorities} cannot be used: {_words(error)}") from None
    _harden(context)
    if certificate is not None:
        _load(context, ("node_tls_certificate_file", certificate), ("node_tls_key_file", key))
    elif key is not None:
        raise ConfigurationError("node_tls_key_file is of no use without node_tls_certificate_file")
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(PROTOCOLS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load(context: ssl.SSLContext, certificate: tuple[str, Path], key: tuple[str, Path | None]) -> None:
    (option, path), (key_option, key_path) = certificate, key
    for name, each in (certificate, key):
        try:
            if each is not None:
                each.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{name} {each} cannot be read: {_words(error)}") from None
    try:
        context.load_cert_chain(str(path), None if key_path is None else str(key_path), _refuse_to_ask)
    except (ssl.SSLError, ValueError) as error:
        where = f"{option} {path}" + (f" with {key_option} {key_path}" if key_path is not None else "")
        hint = "" if key_path is not None else f"; give {key_option} if the private key is in another file"
        raise ConfigurationError(f"{where} cannot be used: {_words(error)}{hint}") from None


def _refuse_to_ask() -> NoReturn:
    raise ValueError(
        "its private key is encrypted, and nobody is there to ask for the pass phrase; store it decrypted"
    )


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
