"""What deploy/ has for Prometheus and Grafana asks only for what the programs really say."""

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.processes import REPOSITORY

pytestmark = pytest.mark.process

DEPLOY = REPOSITORY / "deploy"
FILES = [*sorted(DEPLOY.glob("prometheus/*.yml")), *sorted(DEPLOY.glob("grafana/*.json"))]
METRIC = re.compile(r"\b(?:balancer|sessiond|process)_[a-z0-9_]+\b")


async def test_every_metric_that_deploy_names_is_exported(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=2)
    (await cluster.browser().get("/api/session")).good()
    pages = [(await cluster.browser_to(cluster.admin).get("/metrics")).body.decode()]
    pages += ["\n".join(await cluster.metrics(name)) for name in cluster.nodes]
    exported = set(re.findall(r"^(\w+)[{ ]", "\n".join(pages), re.MULTILINE))
    named = {name for path in FILES for name in METRIC.findall(path.read_text())}
    assert len(named) > 10
    assert named <= exported


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("grafana/*.json")), ids=lambda path: path.name)
def test_panels_of_a_dashboard_have_a_place_and_a_query_each(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24, "Grafana's grid has 24 columns"
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        assert all(target["expr"] for target in panel["targets"])
    assert len({panel["id"] for panel in panels}) == len(panels)
