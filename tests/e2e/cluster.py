"""A cluster of real processes on loopback: nodes, and the balancer in front of them.

    async with Cluster(directory, nodes=3) as cluster: …

Inside, every node sees every other one alive, and the balancer sends visitors to each. Afterwards no process and
no connection is left; `close`, which ends the processes, needs no event loop and may be called again.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sessiond.contract.cluster_view import ClusterView, MemberState
from tests.e2e.client import Answer, Browser, Cookie, NotAnswered
from tests.e2e.processes import HOST, Ports, Process, python
from tests.e2e.processes import Place as Site
from tests.e2e.waiting import wait_until

SECRET = "a secret of these tests, 32 chars"

Setting = str | int | float


@dataclass(frozen=True, slots=True)
class Place:
    """What `/v1/locate` says of a session."""

    primary: str
    backups: tuple[str, ...]
    epoch: int

    @property
    def nodes(self) -> tuple[str, tuple[str, ...]]:
        return self.primary, self.backups


class Node(Process):
    """One `sessiond run`."""

    def __init__(
        self, name: str, site: Site, app: str, directory: Path, settings: dict[str, Setting]
    ) -> None:
        self.http, self.cluster, self.api = site.take(), site.take(), site.take()
        self.site = site
        self.seed = f"{site.host}:{self.cluster}"
        """Where the others are to look for it."""
        self._app = app
        self._settings = settings
        super().__init__(name, [], directory)

    def advertise_cluster(self, address: str) -> None:
        """Where the others are to look for it instead; before `join`."""
        self.seed = address
        self._settings["advertise_cluster"] = address

    def configure(self, **settings: Setting) -> None:
        """Options of its own; before `join`."""
        self._settings.update(settings)

    def join(self, seeds: Iterable["Node"]) -> None:
        """What it is told about the cluster; before `start`."""
        settings: dict[str, Setting] = {
            "name": self.name,
            "http": f"{self.site.host}:{self.http}",
            "cluster": f"{self.site.host}:{self.cluster}",
            "api": f"{HOST}:{self.api}",
            "join": ",".join(node.seed for node in seeds),
            "log_format": "json",
            **self._settings,
        }
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        command = python("sessiond", "run", *([self._app] if self._app else []), *options)
        self.command = self.site.command(command)

    async def ask(self, path: str) -> Answer | None:
        """A GET at its API port; None if it does not answer."""
        return await _ask(self.site, self.api, path)


class Balancer(Process):
    """One `balancer run`, for clients in its own place; `options` as on its command line."""

    def __init__(self, name: str, site: Site, nodes: Iterable[Node], directory: Path, *options: str) -> None:
        self.port, self.admin = site.take(), site.take()
        self.site = site
        command = python(
            "balancer",
            "run",
            f"--listen={HOST}:{self.port}",
            f"--admin={HOST}:{self.admin}",
            *(f"--node={node.name}={node.site.host}:{node.http}" for node in nodes),
            "--log-format=json",
            *options,
        )
        super().__init__(name, site.command(command), directory)

    async def nodes(self) -> dict[str, dict[str, Any]]:
        """`/v1/nodes`, by name; empty until it serves."""
        if _good(await _ask(self.site, self.admin, "/readyz")) is None:
            return {}
        body = _good(await _ask(self.site, self.admin, "/v1/nodes"))
        return {row["name"]: row for row in body["nodes"]} if body is not None else {}

    async def sends_to(self, names: Iterable[str]) -> bool:
        rows = await self.nodes()
        return all(name in rows and rows[name]["state"] == "up" for name in names)


class Cluster:
    """`nodes` nodes named node1, node2, …; `settings` are options of each of them.

    `sites`: where a node of that name, or "balancer", runs, if not on loopback.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 3,
        app: str = "",
        sites: Mapping[str, Site] | None = None,
        **settings: Setting,
    ) -> None:
        self.directory = directory
        self.secret_file = directory / "secret"
        self.secret_file.write_text(SECRET + "\n")
        self.ports = Ports()
        self._app = app
        self._sites = sites or {}
        self._settings = settings
        self.nodes = {name: self._node(name) for name in (f"node{number}" for number in range(1, nodes + 1))}
        for node in self.nodes.values():
            node.join(self.nodes.values())
        self.balancer = Balancer("balancer", self._site("balancer"), self.nodes.values(), directory)
        self.port, self.admin = self.balancer.port, self.balancer.admin
        self.others: list[Process] = []
        """Further processes, which are ended and whose logs are shown with ours."""
        self._browsers: list[Browser] = []

    def _node(self, name: str, **settings: Setting) -> Node:
        own = {"secret_file": str(self.secret_file), **self._settings, **settings}
        return Node(name, self._site(name), self._app, self.directory, own)

    def _site(self, name: str) -> Site:
        return self._sites.get(name, self.ports)

    # --- life -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> "Cluster":
        for process in (*self.nodes.values(), self.balancer):
            process.start()
        await self.ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(browser.close() for browser in self._browsers))
        self.close()

    async def ready(self) -> None:
        """Wait until the nodes that run know of each other, and the balancer of them."""
        running = self.running()
        await asyncio.gather(*(self._has_met(node, running) for node in running.values()))
        if self.balancer.is_running:
            await wait_until(
                lambda: self.balancer_sends_to(running), f"the balancer uses {', '.join(running)}"
            )

    async def _has_met(self, node: Node, running: dict[str, Node]) -> None:
        async def has_met() -> bool:
            assert node.is_running, f"{node.name} ended with code {node.child.returncode}"
            return set(await self.alive(node.name)) == set(running)

        await wait_until(has_met, f"{node.name} sees {', '.join(running)} alive")

    def kill(self, name: str) -> None:
        """SIGKILL; afterwards the node's process is gone."""
        self.nodes[name].kill()

    async def restart(self, name: str) -> None:
        """Start a node that has ended, and wait until the others and the balancer use it."""
        self.nodes[name].start()
        await self.ready()

    def newcomer(self, label: str, name: str, **settings: Setting) -> Node:
        """A further process that is to join, started; `label` is the name of its log."""
        node = self._node(name, **settings)
        node.join(self.nodes.values())
        node.log = self.directory / f"{label}.log"
        self.others.append(node)
        node.start()
        return node

    def close(self) -> None:
        for process in (*self.nodes.values(), self.balancer, *self.others):
            process.close()
        self.ports.close()

    def logs(self) -> list[tuple[str, str]]:
        """The end of what each process wrote, by its name."""
        processes = (*self.nodes.values(), self.balancer, *self.others)
        return [(process.log.name, process.log_tail()) for process in processes if process.log.exists()]

    def running(self) -> dict[str, Node]:
        return {name: node for name, node in self.nodes.items() if node.is_running}

    # --- what the programs say ------------------------------------------------------------------------------

    async def view(self, name: str) -> ClusterView | None:
        """`/v1/cluster` of a node; None if it does not answer."""
        body = _good(await self.nodes[name].ask("/v1/cluster"))
        return ClusterView.from_json(body) if body is not None else None

    async def metrics(self, name: str) -> list[str]:
        """The lines of a node's `/metrics`; none if it does not answer."""
        browser = Browser(self.nodes[name].api)
        try:
            answer = await browser.get("/metrics")
        except NotAnswered:
            return []
        finally:
            await browser.close()
        return answer.body.decode().splitlines()

    async def alive(self, name: str) -> list[str]:
        """The nodes that this one sees alive."""
        view = await self.view(name)
        members = view.members if view is not None else ()
        return [member.name for member in members if member.state is MemberState.ALIVE]

    async def states(self, name: str) -> dict[str, str]:
        """State of every node as this one sees it."""
        view = await self.view(name)
        return {member.name: member.state.value for member in view.members} if view is not None else {}

    async def locate(self, name: str, session_id: str) -> Place | None:
        """`/v1/locate/{id}` of a node; None if it knows no such session."""
        body = _good(await self.nodes[name].ask(f"/v1/locate/{session_id}"))
        if body is None:
            return None
        return Place(body["primary"], tuple(body["backups"]), body["epoch"])

    async def agreed_place(self, session_id: str) -> Place:
        """Where the session is, once all running nodes say the same."""

        async def agreed() -> Place | None:
            places = await asyncio.gather(*(self.locate(name, session_id) for name in self.running()))
            first = places[0]
            if first is None or any(place is None or place.nodes != first.nodes for place in places):
                return None
            return first

        return await wait_until(agreed, f"all nodes agree on the place of the session of {session_id[29:]}")

    async def balancer_nodes(self) -> dict[str, dict[str, Any]]:
        """The balancer's `/v1/nodes`, by name; empty until it serves."""
        return await self.balancer.nodes()

    async def balancer_sends_to(self, names: Iterable[str]) -> bool:
        return await self.balancer.sends_to(names)

    # --- visitors -------------------------------------------------------------------------------------------

    def browser(self, cookie: Cookie | None = None) -> Browser:
        """Somebody at the balancer."""
        return self.browser_through(self.balancer, cookie)

    def browser_through(self, balancer: Balancer, cookie: Cookie | None = None) -> Browser:
        """Somebody at this balancer."""
        return self._opened(Browser(balancer.port, cookie, make_socket=balancer.site.socket))

    def browser_at(self, name: str, cookie: Cookie | None = None) -> Browser:
        """Somebody at the application port of a node, with no proxy between."""
        node = self.nodes[name]
        return self._opened(Browser(node.http, cookie, node.site.host, node.site.socket))

    def browser_to(self, port: int, cookie: Cookie | None = None) -> Browser:
        """Somebody at any port of loopback."""
        return self._opened(Browser(port, cookie))

    def _opened(self, browser: Browser) -> Browser:
        """Closed with the cluster, or earlier."""
        self._browsers.append(browser)
        return browser


async def _ask(site: Site, port: int, path: str) -> Answer | None:
    """What a port of loopback in that place answers to a GET; None if nothing."""
    browser = Browser(port, make_socket=site.socket)
    try:
        return await browser.get(path)
    except NotAnswered:
        return None
    finally:
        await browser.close()


def _good(answer: Answer | None) -> Any:
    """The JSON of a 200 answer; None for any other, or none."""
    return answer.json() if answer is not None and answer.status == 200 else None


@asynccontextmanager
async def at_work(cluster: Cluster) -> AsyncIterator[Cluster]:
    """The cluster, started, and ended however the block ends. If it fails, the ends of all logs go to stderr."""
    try:
        async with cluster:
            yield cluster
    except BaseException:
        show_logs(cluster)
        raise
    finally:
        cluster.close()


def show_logs(cluster: Cluster) -> None:
    """The ends of all logs, on stderr."""
    for name, text in cluster.logs():
        sys.stderr.write(f"--- {name}\n{text}\n")
