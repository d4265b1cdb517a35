"""A place of each kind, and the servers that some kinds need: started once, ended by pid.

They do not wait for the disk: what a killed process has written stays with the system, and no power fails here.
"""

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
        services.running(services.Redis(directory, appendfsync="everysec")) as server,
    ):
        yield server


KINDS = [
    pytest.param("fake"),
    pytest.param("file"),
    pytest.param("sqlite"),
    pytest.param("postgresql", marks=pytest.mark.servers),
    pytest.param("redis", marks=pytest.mark.servers),
]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind in turn."""
    makers: dict[str, Callable[[], Place]] = {
        "fake": FakePlace,
        "file": lambda: FilePlace(tmp_path),
        "sqlite": lambda: SqlitePlace(tmp_path),
        "postgresql": lambda: PostgresqlPlace(request.getfixturevalue("postgresql_server")),
        "redis": lambda: RedisPlace(request.getfixturevalue("redis_server")),
    }
    return makers[request.param]()
