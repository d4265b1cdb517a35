"""The cluster's secrets as people write them: one a line, the first signs, all verify."""

SECRET_CHARS_MIN = 16
"""A shorter secret could be guessed from one captured handshake."""


def parse(text: str, source: str) -> tuple[bytes, ...]:
    """The secrets in `text`, the signing one first. Raises ValueError with a text that names the `source`."""
    secrets = [line.strip() for line in text.splitlines() if line.strip()]
    if not secrets:
        raise ValueError(f"{source} holds no secret; write one secret of random characters a line")
    if any(len(secret) < SECRET_CHARS_MIN for secret in secrets):
        raise ValueError(
            f"{source} holds a secret of fewer than {SECRET_CHARS_MIN} characters; "
            "make one with: openssl rand -hex 32"
        )
    return tuple(secret.encode() for secret in secrets)
