"""nginx in front of a cluster's nodes: failover must not need a proxy of ours."""

import os
import shutil
from pathlib import Path

import jinja2
import pytest

from tests.bench.processes import search_path
from tests.e2e.client import NotAnswered
from tests.e2e.cluster import Cluster
from tests.e2e.processes import Process
from tests.e2e.waiting import wait_until

TEMPLATE = Path(__file__).with_name("nginx.conf")


def nginx_program() -> str:
    """Path of nginx. Skips the test where it is missing, but fails it under CI=true."""
    program = shutil.which("nginx", path=search_path())
    if program is None:
        missing = (
            "nginx is not installed (Debian: nginx-light): failover through a foreign proxy goes unproven"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return program


async def start_nginx(program: str, cluster: Cluster) -> int:
    """The port at which it serves; it ends with the cluster."""
    directory = cluster.directory / "nginx"
    directory.mkdir()
    port = cluster.ports.take()
    template = jinja2.Template(TEMPLATE.read_text(), trim_blocks=True)
    config = directory / "nginx.conf"
    config.write_text(template.render(nodes=list(cluster.nodes.values()), port=port))
    process = Process("nginx", [program, "-p", str(directory), "-c", str(config), "-e", "stderr"], directory)
    cluster.others.append(process)
    process.start()
    visitor = cluster.browser_to(port)

    async def serves() -> bool:
        try:
            return (await visitor.get("/_sessiond/health")).status == 404
        except NotAnswered:
            return False

    await wait_until(serves, "nginx serves")
    return port
