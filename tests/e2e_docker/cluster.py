"""The cluster of deploy/compose.yaml on an engine: started, killed container by container, taken down."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.processes import free_ports
from tests.e2e_docker.commands import run

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OVERLAY = Path(__file__).with_name("host-network-build.yaml")
PROJECT = "sessiond-e2e"
NODES = ("node1", "node2", "node3")
SERVICES = (*NODES, "balancer")
DEADLINE_S = 60.0
POLL_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running project. Services are known by their names in compose.yaml."""

    environment: Mapping[str, str]
    containers: Mapping[str, str]
    port: int
    admin_port: int
    compose: Callable[..., str]
    """Runs a compose command on the project and returns its output."""

    def docker(self, *arguments: str) -> str:
        return run(["docker", *arguments], self.environment)

    def kill(self, service: str) -> "subprocess.Popen[bytes]":
        """Begin `docker kill`; whoever waits for it learns whether it worked."""
        return subprocess.Popen(
            ["docker", "kill", self.containers[service]], env=self.environment, stdout=subprocess.DEVNULL
        )

    def state(self, service: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(
            self.docker("inspect", "--format", "{{json .State}}", self.containers[service])
        )
        return state

    def is_healthy(self, service: str) -> bool:
        return bool(self.state(service)["Health"]["Status"] == "healthy")


@contextmanager
def running_cluster(
    compose: Sequence[str], base_image: str, environment: Mapping[str, str]
) -> Iterator[Cluster]:
    """Build the image and start the project as docs/deploy.md says; take everything away in the end."""
    port, admin_port = free_ports(2)
    environment = {
        **environment,
        "BASE_IMAGE": base_image,
        "IMAGE": PROJECT,
        "PORT": str(port),
        "ADMIN_PORT": str(admin_port),
    }
    files = ("--file", str(DEPLOY / "compose.yaml"), "--file", str(OVERLAY))

    def do(*arguments: str) -> str:
        return run([*compose, "--project-name", PROJECT, *files, *arguments], environment)

    try:
        do("up", "--build", "--detach")
        containers = {service: do("ps", "--all", "--quiet", service).strip() for service in SERVICES}
        cluster = Cluster(environment, containers, port, admin_port, do)
        wait_until(lambda: all(map(cluster.is_healthy, SERVICES)), "the cluster is healthy")
        yield cluster
    except Exception:
        sys.stderr.write(do("logs", "--no-color"))
        raise
    finally:
        do("down", "--volumes", "--rmi", "all", "--timeout", "1")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(POLL_INTERVAL_S)
