"""Certificates for tests, made once a run by an authority of their own."""

import ssl
from functools import cache
from pathlib import Path

import trustme


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_context() -> ssl.SSLContext:
    """For a server at 127.0.0.1 or localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@cache
def client_context() -> ssl.SSLContext:
    """For a client that believes the authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def write(directory: Path, *names: str) -> tuple[Path, Path]:
    """A new certificate for the names (127.0.0.1 if none) and its key, as files."""
    issued = authority().issue_cert(*(names or ("127.0.0.1",)))
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    issued.private_key_pem.write_to_path(key)
    with certificate.open("wb") as file:
        for blob in issued.cert_chain_pems:
            file.write(blob.bytes())
    return certificate, key


def write_authority(directory: Path) -> Path:
    """The authority's own certificate as a file."""
    path = directory / "authority.pem"
    authority().cert_pem.write_to_path(path)
    return path
