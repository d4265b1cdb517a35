"""Session ids that authenticate themselves, and the keys that stand for them inside the cluster.

A cookie value is ``<token>.<node>``. The token is 16 random bytes and 5 bytes of keyed MAC, in URL-safe
base64: 28 characters. A forged or adopted token fails `Keyring.key_of` locally, before any look-up. The
suffix is a hint where to route, never an address and never trusted.

Inside the cluster, in logs and in stores a session is named by its *key*, a keyed hash of the token's
random part: who reads a log or a store cannot become anybody's session.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

from sessiond.contract.names import NODE_NAME

RANDOM_BYTES = 16
MAC_BYTES = 5
KEY_BYTES = 16
TOKEN_CHARS = 28

Key = bytes
"""16 bytes that name a session inside the cluster."""


class SessionId(NamedTuple):
    """A cookie value taken apart; nothing about it is verified yet."""

    token: str
    route: str


def split(cookie_value: str) -> SessionId | None:
    """Take ``<token>.<node>`` apart; None if it does not have that shape."""
    if len(cookie_value) < TOKEN_CHARS + 2 or cookie_value[TOKEN_CHARS] != ".":
        return None
    route = cookie_value[TOKEN_CHARS + 1 :]
    if NODE_NAME.fullmatch(route) is None:
        return None
    return SessionId(cookie_value[:TOKEN_CHARS], route)


def join(token: str, node: str) -> str:
    """The cookie value that routes `token` to `node`."""
    return f"{token}.{node}"


def derive(secret: bytes, label: str) -> bytes:
    """A 32-byte key for one purpose: HMAC-SHA256 of the label under the secret (RFC 5869's expand step)."""
    return hmac.digest(secret, b"sessiond/1 " + label.encode(), "sha256")


class Keyring:
    """Makes, verifies and hashes tokens.

    `secrets`: the cluster's secrets, the signing one first; every one verifies, and a token keeps the key
    of the secret that signed it, so that a change of secret (new one first, old one second, then the old
    one removed) ends no session before its time. An empty sequence derives from `cluster_name` instead:
    anybody could then forge a token, which is for trying things out on one machine only.
    """

    def __init__(self, secrets: Sequence[bytes], cluster_name: str) -> None:
        roots = list(secrets) or [derive(b"insecure", cluster_name)]
        self._keys = [(derive(root, "token mac"), derive(root, "key hash")) for root in roots]

    def new_token(self, random_bytes: bytes) -> str:
        """The token made of 16 `random_bytes` from a cryptographic source."""
        if len(random_bytes) != RANDOM_BYTES:
            raise ValueError(f"a token takes {RANDOM_BYTES} random bytes, not {len(random_bytes)}")
        mac_key, _ = self._keys[0]
        mac = hashlib.blake2b(random_bytes, key=mac_key, digest_size=MAC_BYTES).digest()
        return base64.urlsafe_b64encode(random_bytes + mac).decode("ascii")

    def key_of(self, token: str) -> Key | None:
        """The key of a token that this cluster made; None for anything else."""
        if len(token) != TOKEN_CHARS:
            return None
        try:
            raw = base64.b64decode(token.encode("ascii"), b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        random_bytes, mac = raw[:RANDOM_BYTES], raw[RANDOM_BYTES:]
        for mac_key, hash_key in self._keys:
            expected = hashlib.blake2b(random_bytes, key=mac_key, digest_size=MAC_BYTES).digest()
            if hmac.compare_digest(mac, expected):
                return hashlib.blake2b(random_bytes, key=hash_key, digest_size=KEY_BYTES).digest()
        return None
