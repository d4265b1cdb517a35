"""Where llhttp's tests come from: they ship in aiohttp's source distribution, fetched here and never kept in git."""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "3.14.5"
SHA256 = "5558a7f5a05af9ecf744af91e5baefc436f93c9333e656c27ec253f9a6bbe178"

DIRECTORY = Path(__file__).parents[3] / ".run" / "conformance"
_WITHIN = f"aiohttp-{VERSION}/vendor/llhttp/test/"
FETCH_TIMEOUT_S = 240.0


def archive() -> Path:
    """The source distribution, fetched if it is not here yet. Raises `RuntimeError` if it cannot be had."""
    path = DIRECTORY / f"aiohttp-{VERSION}.tar.gz"
    if not path.exists():
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        wanted = ("--no-deps", "--no-binary", "aiohttp", "--dest", str(DIRECTORY), f"aiohttp=={VERSION}")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted],
            capture_output=True,
            text=True,
            check=False,
            timeout=FETCH_TIMEOUT_S,
        )
        if done.returncode:
            raise RuntimeError(f"aiohttp's source distribution cannot be fetched:\n{done.stderr}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise RuntimeError(
            f"{path} is not the one that this was written for: its SHA-256 is {found}. Remove it"
        )
    return path


def documents() -> dict[str, str]:
    """llhttp's tests of requests and answers: Markdown by file name, like request/method.md."""
    with tarfile.open(archive()) as source:
        found: dict[str, str] = {}
        for member in source.getmembers():
            name = member.name.removeprefix(_WITHIN)
            if name.startswith(("request/", "response/")) and name.endswith(".md"):
                file = source.extractfile(member)
                if file is None:
                    raise RuntimeError(f"{member.name} is no file")
                found[name] = file.read().decode()
    return found
