"""The schemes of a cluster as data: which settings make each, for benches that put one beside the other.

A scheme is one line of `SCHEMES`. Options are those of `sessiond run`; ``{directory}`` stands for the node's own
directory, ``{store}`` for the URL of the server that all nodes of a run share as their store.
"""

from dataclasses import dataclass

POSTGRESQL, REDIS = "postgresql", "redis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """`states`: how many of the nodes are state servers. `store`: the kind of server that its nodes share as a store, if any."""

    name: str
    options: tuple[str, ...] = ()
    states: int = 0
    store: str = ""
    is_zoned: bool = False
    """Every second node is in another zone."""

    is_traffic: bool = False
    """Whether it is one of those whose traffic by the size of the cluster is compared."""

    survives_kill: bool = True
    survives_pair: bool = False
    survives_restart: bool = False
    """Which kills may lose no session."""

    loses_writes: bool = False
    """Whether a kill may lose acknowledged writes of sessions that survive."""

    def application_nodes(self, size: int) -> int:
        """How many of `size` nodes serve users; of two nodes only one can be a state server."""
        return size - min(self.states, size - 1)


_FILE = "--store=file://{directory}/sessions"
_SQLITE = "--store=sqlite:///{directory}/sessions.db"


def _shared(name: str, store: str, *options: str) -> Scheme:
    """With a server that every node reads and writes."""
    return Scheme(
        name=name,
        options=("--store={store}", *options),
        store=store,
        survives_pair=True,
        survives_restart=True,
    )


_ALL = (
    Scheme(name="backup", is_traffic=True),
    Scheme(name="backup, zones", is_zoned=True),
    Scheme(name="backup, query", options=("--location=query",), is_traffic=True),
    Scheme(name="backup, async", options=("--ack=async",), loses_writes=True),
    Scheme(name="backup, flush interval", options=("--flush=500",), loses_writes=True),
    Scheme(name="backup, modified session", options=("--granularity=dirty",)),
    Scheme(name="backup, whole session", options=("--granularity=session",)),
    Scheme(name="pair", options=("--placement=pair",), is_traffic=True),
    Scheme(name="all", options=("--placement=all",), survives_pair=True, is_traffic=True),
    Scheme(name="central", options=("--placement=central",), states=2, is_traffic=True),
    Scheme(name="none", options=("--placement=none",), survives_kill=False),
    Scheme(name="backup, file", options=(_FILE,), survives_restart=True),
    Scheme(name="backup, SQLite", options=(_SQLITE,), survives_restart=True),
    _shared("backup, PostgreSQL", POSTGRESQL),
    _shared("backup, Redis", REDIS),
    _shared("backup, Redis, behind", REDIS, "--store-write=behind"),
    Scheme(
        name="none, file", options=("--placement=none", _FILE), survives_kill=False, survives_restart=True
    ),
    _shared("none, PostgreSQL", POSTGRESQL, "--placement=none"),
    _shared("none, Redis", REDIS, "--placement=none"),
)
SCHEMES = {scheme.name: scheme for scheme in _ALL}
