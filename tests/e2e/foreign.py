"""nginx, HAProxy and Apache in front of a cluster's nodes, configured as deploy/ says: failover needs no proxy of ours.

The configurations are those that people copy. Only addresses are replaced; what a daemon of a test needs besides
(where its pid goes, as whom it runs) stands around them here.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.install import APACHE, HAPROXY, NGINX, Package
from tests.e2e.client import NotAnswered
from tests.e2e.cluster import Cluster
from tests.e2e.processes import HOST, REPOSITORY, Process
from tests.e2e.waiting import wait_until

NODES = 3
"""So many have a place in the configurations."""

STOP_DEADLINE_S = 10
OUR_NAMES = "/_sessiond/health"
HIDDEN = frozenset({403, 404})
"""What a proxy may say of the nodes' own pages."""

NGINX_MAIN = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  include {site};
}}
"""

APACHE_MODULES = (
    *("mpm_event", "authz_core", "slotmem_shm", "headers"),
    *("proxy", "proxy_http", "proxy_balancer", "proxy_hcheck", "lbmethod_byrequests"),
)

APACHE_MAIN = """\
ServerRoot {directory}
ServerName 127.0.0.1
PidFile {directory}/apache.pid
DefaultRuntimeDir {directory}
ErrorLog /dev/stderr
LogLevel warn
User nobody
Group nogroup
{modules}
ServerLimit 8
StartServers 2
ThreadsPerChild 64
MaxRequestWorkers 512
KeepAliveTimeout 60
MaxKeepAliveRequests 0
Include {site}
"""


class Daemon(Process):
    """A daemon with children of its own, which must not outlive it."""

    def close(self) -> None:
        if not self.is_running:
            return
        self.child.terminate()
        try:
            self.child.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


@dataclass(frozen=True, slots=True)
class Kind:
    """A proxy from Debian. `main`: the configuration around deploy's, if that is not a whole one."""

    name: str
    package: Package
    site: str
    main: str
    command: tuple[str, ...]
    take_out: "Callable[[Foreign, str], None]"
    """As docs/other-balancers.md tells people to take a node out."""


class Foreign:
    """A proxy that runs in front of the nodes of a cluster; it ends with the cluster."""

    def __init__(self, kind: Kind, cluster: Cluster) -> None:
        assert len(cluster.nodes) == NODES, f"deploy/{kind.site} is for {NODES} nodes"
        self.kind = kind
        self.directory = cluster.directory / kind.name
        self.directory.mkdir()
        self.port = cluster.ports.take()
        self.socket = self.directory / "admin.sock"
        self.site = self.directory / Path(kind.site).name
        self.cluster = cluster
        places = {f"{HOST}:8080": f"{HOST}:{self.port}", "/run/haproxy/admin.sock": str(self.socket)}
        for number, node in enumerate(cluster.nodes.values(), 1):
            places[f"{HOST}:{8100 + number}"] = f"{HOST}:{node.http}"
        text = (REPOSITORY / "deploy" / kind.site).read_text()
        for there, here in places.items():
            text = text.replace(there, here)
        self.site.write_text(text)
        main = self.directory / "main.conf"
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES
        )
        main.write_text(kind.main.format(directory=self.directory, site=self.site, modules=modules))
        command = [part.format(directory=self.directory, main=main, site=self.site) for part in kind.command]
        self.process = Daemon(kind.name, command, cluster.directory)

    async def start(self) -> None:
        """Returns when it serves."""
        self.cluster.others.append(self.process)
        self.process.start()
        visitor = self.cluster.browser_to(self.port)

        async def serves() -> bool:
            assert self.process.is_running, self.process.log_tail()
            try:
                return (await visitor.get(OUR_NAMES)).status in HIDDEN
            except NotAnswered:
                return False

        await wait_until(serves, f"{self.kind.name} serves")
        await visitor.close()

    def take_out(self, node: str) -> None:
        """Tell it to send no more requests to the node."""
        self.kind.take_out(self, node)

    def edit(self, change: Callable[[str], str], reload: signal.Signals) -> None:
        """Change deploy's part of the configuration and have it read again."""
        self.site.write_text(change(self.site.read_text()))
        self.process.signal(reload)

    def address_of(self, node: str) -> str:
        return f"{HOST}:{self.cluster.nodes[node].http}"


def _mark_down_in_nginx(proxy: Foreign, node: str) -> None:
    address = f"server {proxy.address_of(node)}"
    proxy.edit(lambda text: text.replace(address, f"{address} down"), signal.SIGHUP)


def _tell_haproxy(proxy: Foreign, node: str) -> None:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(proxy.socket))
        admin.sendall(f"set server nodes/{node} state maint\n".encode())
        assert admin.recv(1000).strip() == b"", "HAProxy says what is wrong with a command"


def _disable_in_apache(proxy: Foreign, node: str) -> None:
    route = f"route={node} "
    proxy.edit(lambda text: text.replace(route, f"{route}status=+D "), signal.SIGUSR1)


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "nginx", NGINX, "nginx/sessiond.conf", NGINX_MAIN,
            ("nginx", "-e", "stderr", "-p", "{directory}", "-c", "{main}"), _mark_down_in_nginx,
        ),
        Kind("haproxy", HAPROXY, "haproxy/haproxy.cfg", "", ("haproxy", "-db", "-f", "{site}"), _tell_haproxy),
        Kind(
            "apache", APACHE, "apache/sessiond.conf", APACHE_MAIN,
            ("apache2", "-DFOREGROUND", "-d", "{directory}", "-f", "{main}"), _disable_in_apache,
        ),
    )
}  # fmt: skip


def require(name: str) -> Kind:
    """The proxy of that name. Skips the test where its program is missing, but fails it under CI=true."""
    kind = KINDS[name]
    if kind.package.is_missing():
        missing = f"{name} is not installed (Debian: {kind.package.name}): failover through it goes unproven"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return kind


async def start_foreign(kind: Kind, cluster: Cluster) -> Foreign:
    proxy = Foreign(kind, cluster)
    await proxy.start()
    return proxy
