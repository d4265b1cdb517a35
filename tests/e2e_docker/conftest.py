"""One engine and one base image for the whole run, and a cluster for each compose that this machine has.

A machine that cannot provide them fails the run; only one of the two compose programs may be missing.
"""

import signal
import sys
from collections.abc import Iterator, Mapping

import pytest

from tests.e2e_docker.base_image import base_image
from tests.e2e_docker.cluster import Cluster, running_cluster
from tests.e2e_docker.commands import EngineError, succeeds
from tests.e2e_docker.engine import running_engine

COMPOSE_V1 = ("docker-compose",)
COMPOSE_V2 = ("docker", "compose")


@pytest.fixture(scope="session")
def engine() -> Iterator[Mapping[str, str]]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: take everything down first
    with running_engine() as environment:
        yield environment


@pytest.fixture(scope="session")
def base(engine: Mapping[str, str]) -> str:
    return base_image(engine)


@pytest.fixture(params=[COMPOSE_V1, COMPOSE_V2], ids=" ".join)
def cluster(request: pytest.FixtureRequest, engine: Mapping[str, str], base: str) -> Iterator[Cluster]:
    if not succeeds([*request.param, "version"], engine):
        if not any(succeeds([*compose, "version"], engine) for compose in (COMPOSE_V1, COMPOSE_V2)):
            raise EngineError("there is neither docker-compose nor the compose plugin of docker: install one")
        pytest.skip(f"`{' '.join(request.param)}` is not installed")
    failed_before = request.session.testsfailed
    with running_cluster(request.param, base, engine) as cluster:
        yield cluster
        if request.session.testsfailed > failed_before:
            sys.stderr.write(cluster.compose("logs", "--no-color"))
