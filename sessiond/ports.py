"""What the web side asks of the node it runs on, beyond the session operations of `backend`.

`node.Node` is the real one. The session adapters need `SessionNode`, the host and the API port `WebNode`.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

from sessiond.backend import Backend
from sessiond.contract.cluster_view import ClusterView, HealthView
from sessiond.contract.drain_view import DrainView
from sessiond.contract.session_id import Keyring
from sessiond.settings import Settings


class Sample(NamedTuple):
    """One number for `/metrics`. A counter only rises, and its name ends in ``_total``."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: Mapping[str, str]


class SessionNode(Backend, Protocol):
    """What an adapter needs to give an application its sessions."""

    @property
    def settings(self) -> Settings: ...

    @property
    def keyring(self) -> Keyring: ...

    def is_serving(self) -> bool:
        """Whether sessions can be opened here: False while joining, and in the minority."""

    def accepts_new_sessions(self) -> bool:
        """Whether visitors without a session are welcome here: False as well while draining."""

    def why_closed(self) -> str:
        """Why not, in words that go on after the node's name; empty if they are."""

    def heir(self) -> str | None:
        """The name of a node that such visitors can be sent to; None if this one knows of none."""


class WebNode(SessionNode, Protocol):
    """What the host and the API port show of a node."""

    def health(self) -> HealthView:
        """State and copies; its `load` is replaced by what the host measures."""

    def cluster_view(self) -> ClusterView: ...

    def drain_view(self) -> DrainView:
        """What is left here; its `requests` is replaced by what the host counts."""

    def begin_drain(self) -> None:
        """Take no new sessions, and hand those that are here over."""

    def abort_drain(self) -> bool:
        """Serve again; False if the process is about to end."""

    def samples(self) -> Iterable[Sample]:
        """The node's metrics as they are now."""

    def watch(self) -> AsyncIterator[ClusterView]:
        """A fresh view now and after every change of membership; ends when the node stops."""
