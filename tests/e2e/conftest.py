"""Clusters that are ended whatever happens, and their logs in the failure's message."""

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster

CLUSTERS = pytest.StashKey[list[Cluster]]()


@pytest.fixture
def make_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """`Cluster(directory, …)` without the directory. However the test ends, no process of it runs on."""
    made: list[Cluster] = []
    request.node.stash[CLUSTERS] = made

    def make(*arguments: object, **settings: object) -> Cluster:
        directory = tmp_path / f"cluster{len(made)}"
        directory.mkdir()
        cluster = Cluster(directory, *arguments, **settings)  # type: ignore[arg-type]  # passed on as they came
        made.append(cluster)
        return cluster

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
async def start_cluster(
    make_cluster: Callable[..., Cluster],
) -> AsyncIterator[Callable[..., Awaitable[Cluster]]]:
    """The same, started; it ends with the test."""
    async with AsyncExitStack() as started:

        async def start(*arguments: object, **settings: object) -> Cluster:
            return await started.enter_async_context(make_cluster(*arguments, **settings))

        yield start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for cluster in item.stash.get(CLUSTERS, []):
            report.sections.extend(cluster.logs())
    return report
