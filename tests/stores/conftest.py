"""A place of each kind, and the servers that some kinds need: started once, ended by pid.

Files lie in memory and PostgreSQL does not wait for the disk: what a killed process has written stays with the system,
and no power fails here.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stores.places import FakePlace, FilePlace, Place, PostgresqlPlace, RedisPlace, SqlitePlace
from tests.support import services


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[services.PostgreSQL]:
    if why := services.missing("initdb", "postgres"):
        pytest.skip(why)
    with (
        services.directory_for_servers("postgresql") as directory,
        services.running(services.PostgreSQL(directory, fsync="off")) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[services.Redis]:
    if why := services.missing("redis-server"):
        pytest.skip(why)
    with (
        services.directory_for_servers("redis") as directory,
        services.running(services.Redis(directory)) as server,
    ):
        yield server


@pytest.fixture
def directory() -> Iterator[Path]:
    """An empty one, in memory if it can be: an fsync costs nothing there."""
    memory = Path("/dev/shm")
    within = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="stores-", dir=within) as made:
        yield Path(made)


KINDS = [
    pytest.param("fake"),
    pytest.param("file"),
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.servers),
    pytest.param("redis", marks=pytest.mark.servers),
]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, directory: Path) -> Place:
    """An empty place of each kind in turn."""
    makers: dict[str, Callable[[], Place]] = {
        "fake": FakePlace,
        "file": lambda: FilePlace(directory),
        "sqlite": lambda: SqlitePlace(directory),
        "postgresql": lambda: PostgresqlPlace(request.getfixturevalue("postgresql_server")),
        "redis": lambda: RedisPlace(request.getfixturevalue("redis_server")),
    }
    return makers[request.param]()
