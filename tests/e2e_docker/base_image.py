"""A base image without a registry: Debian, made by debootstrap from the mirror that this machine uses.

The bare system is kept as a tarball in the user's cache directory, since making it takes most of a minute.
On top of it come the certificate authorities and the package index that this machine trusts and uses, the way
docs/deploy.md tells those who build behind a proxy. An image named by BASE_IMAGE is taken as it is.
"""

import os
import platform
import shutil
import ssl
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.e2e_docker.commands import EngineError, needed, run

PACKAGES = ("python3", "python3-venv", "ca-certificates")
BARE = "sessiond-e2e-debian"
TRUSTING = "sessiond-e2e-base"


def base_image(environment: Mapping[str, str]) -> str:
    """Name of an image on the engine that deploy/Dockerfile can start from."""
    if given := os.environ.get("BASE_IMAGE"):
        return given
    run(["docker", "import", str(_bare_system(environment)), BARE], environment)
    with tempfile.TemporaryDirectory(prefix="base-image-") as context:
        instructions = [f"FROM {BARE}"]
        if bundle := os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile:
            shutil.copy(bundle, Path(context, "ca.crt"))
            instructions.append("COPY ca.crt /etc/ssl/certs/ca-certificates.crt")
        if index := _package_index(environment):
            Path(context, "pip.conf").write_text(f"[global]\nindex-url = {index}\n")
            instructions.append("COPY pip.conf /etc/pip.conf")
        Path(context, "Dockerfile").write_text("\n".join(instructions) + "\n")
        run(["docker", "build", "--quiet", "--tag", TRUSTING, context], environment)
    return TRUSTING


def _bare_system(environment: Mapping[str, str]) -> Path:
    """Tarball of a minimal Debian with Python, of the release that this machine runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "sessiond")
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    tarball = cache / f"{codename}-{'-'.join(PACKAGES)}.tar"
    if tarball.exists():
        return tarball
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as root:
        options = ("--variant=minbase", f"--include={','.join(PACKAGES)}")
        run([needed("debootstrap"), *options, codename, root, _mirror(codename, environment)], environment)
        unfinished = tarball.with_suffix(f".{os.getpid()}")
        run(["tar", "--create", "--file", str(unfinished), "--directory", root, "."], environment)
        unfinished.rename(tarball)
    return tarball


def _mirror(codename: str, environment: Mapping[str, str]) -> str:
    """Where apt gets the release's main archive from."""
    columns = "$(CODENAME) $(COMPONENT) $(REPO_URI)"
    targets = run(
        [needed("apt-get"), "indextargets", "--format", columns, "Created-By: Packages"], environment
    )
    for target in targets.splitlines():
        if target.startswith(f"{codename} main "):
            return target.split()[-1]
    raise EngineError(
        f"apt's sources name no archive of {codename!r} to make a base image from: set BASE_IMAGE"
    )


def _package_index(environment: Mapping[str, str]) -> str:
    """The index that pip is told to use on this machine, empty if it uses its own default."""
    told = run([sys.executable, "-m", "pip", "config", "list"], environment)
    settings = dict(line.split("=", 1) for line in told.splitlines())
    places = (":env:", "site", "user", "global")  # strongest first
    return next(
        (settings[f"{place}.index-url"].strip("'") for place in places if f"{place}.index-url" in settings),
        "",
    )
