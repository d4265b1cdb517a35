"""A cluster of real `sessiond run` processes in one scheme, for benches inside a network of their own (`wire`).

Invariant: whoever leaves the block of `Fleet` leaves no process behind, killed and restarted ones included.
"""

import json
import re
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from sessiond.contract.cluster_view import ClusterView, MemberState
from tests.bench.processes import Process, answers, get, running
from tests.bench.schemes import Scheme
from tests.bench.wire import API_PORTS, CLUSTER_PORTS, HTTP_PORTS

_LINK_SAMPLE = re.compile(r"^sessiond_link_(frames|bytes)_sent_total\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Payload:
    """What the nodes' own links have sent, before framing and TCP."""

    bytes: float
    frames: float

    def __sub__(self, other: "Payload") -> "Payload":
        return Payload(self.bytes - other.bytes, self.frames - other.frames)


class Node:
    """One node; `number` counts from 1."""

    def __init__(self, number: int, *, serves: bool) -> None:
        self.name = f"node{number}"
        self.serves = serves
        self.http, self.cluster, self.api = HTTP_PORTS[number], CLUSTER_PORTS[number], API_PORTS[number]
        self.process: Process | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.child.poll() is None


class Fleet:
    """`size` nodes, all of the same scheme; `options` go to each in addition."""

    def __init__(
        self,
        scheme: Scheme,
        size: int,
        directory: Path,
        *options: str,
        app: str = "tests.bench.apps:form",
        store: str = "",
        others: tuple[int, ...] = (),
    ) -> None:
        """`others`: further processes that do part of the work, a store's server."""
        self.scheme = scheme
        self._others = others
        self._directory = directory
        self._options = options
        self._app = app
        self._store = store
        serving = scheme.application_nodes(size)
        self.nodes = [Node(number, serves=number <= serving) for number in range(1, size + 1)]
        self._processes = ExitStack()

    @property
    def serving(self) -> list[Node]:
        """The nodes that take users."""
        return [node for node in self.nodes if node.serves]

    @property
    def ports(self) -> list[int]:
        """Where users go."""
        return [node.http for node in self.serving]

    @property
    def pids(self) -> list[int]:
        nodes = [node.process.pid for node in self.nodes if node.process is not None and node.is_running]
        return [*nodes, *self._others]

    def __enter__(self) -> Self:
        try:
            self.start(self.nodes)
        except BaseException:
            self._processes.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.close()

    def start(self, nodes: Iterable[Node]) -> None:
        """Start nodes, or start them again, and wait until all that run have met."""
        for node in nodes:
            command = self._command(node)
            node.process = self._processes.enter_context(running(node.name, command, None, self._directory))
        alive = {node.name for node in self.nodes if node.is_running}
        for node in self.nodes:
            if node.process is not None and node.is_running:
                node.process.wait_until(answers(node.api, "/readyz"), "ready")
                node.process.wait_until(
                    partial(self._sees, node, alive), f"one of {len(alive)} living members"
                )

    def kill(self, nodes: Iterable[Node]) -> None:
        """SIGKILL, one right after the other."""
        for node in nodes:
            assert node.process is not None
            node.process.child.kill()
        for node in nodes:
            node.process.child.wait()

    def payload(self) -> Payload:
        """Sums of all links of all nodes, so far. Links that have ended are not counted any more."""
        sums = {"bytes": 0.0, "frames": 0.0}
        for node in self.nodes:
            for kind, value in _LINK_SAMPLE.findall(get(node.api, "/metrics").body.decode()):
                sums[kind] += float(value)
        return Payload(**sums)

    def _sees(self, node: Node, names: set[str]) -> bool:
        view = ClusterView.from_json(json.loads(get(node.api, "/v1/cluster").body))
        return {member.name for member in view.members if member.state is MemberState.ALIVE} == names

    def _command(self, node: Node) -> list[str]:
        own = self._directory / f"{node.name}.d"
        own.mkdir(exist_ok=True)
        values = {"directory": own, "store": self._store}
        seeds = ",".join(f"127.0.0.1:{other.cluster}" for other in self.nodes)
        zone = [f"--zone=zone{self.nodes.index(node) % 2}"] if self.scheme.is_zoned else []
        role = [] if node.serves else ["--role=state"]
        return [
            *(sys.executable, "-m", "sessiond", "run", self._app, f"--name={node.name}"),
            *(f"--http=127.0.0.1:{node.http}", f"--cluster=127.0.0.1:{node.cluster}"),
            *(f"--api=127.0.0.1:{node.api}", f"--join={seeds}", "--log-format=json"),
            *(option.format(**values) for option in (*self.scheme.options, *self._options)),
            *zone,
            *role,
        ]
