"""A small disk that can be full: a tmpfs, which needs root."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND_TIMEOUT_S = 20


def missing() -> str:
    """Why no disk can be made here; empty if one can."""
    return "" if os.geteuid() == 0 else "mounting a small disk needs root"


@contextmanager
def small_disk(path: Path, size: str, owner: str = "root") -> Iterator[Path]:
    """Mount an empty disk at a directory, which is made."""
    path.mkdir()
    user = pwd.getpwnam(owner)
    options = f"size={size},mode=0700,uid={user.pw_uid},gid={user.pw_gid}"
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
    try:
        yield path
    finally:
        _run("umount", "--lazy", str(path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_TIMEOUT_S)
