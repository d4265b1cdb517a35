"""The list of nodes out of its two sources: the configuration, and what the cluster says of itself.

Both may change at any time, and either may be empty. A node of the configuration stays as it is written there,
whatever the cluster calls its address; only its zone is taken from the cluster where the configuration says none.
"""

from collections.abc import Iterable
from dataclasses import replace

from balancer.core.health import Patience
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import Pool


class NodeList:
    """Keeps the pool's nodes equal to both sources."""

    def __init__(self, pool: Pool, fixed: Iterable[NodeSpec], patience: Patience) -> None:
        self._pool = pool
        self._discovered: tuple[NodeSpec, ...] = ()
        self.set_fixed(fixed, patience)

    def set_fixed(self, specs: Iterable[NodeSpec], patience: Patience) -> None:
        """What the configuration says, now or after a reload."""
        self._fixed = tuple(specs)
        self._patience = patience
        self._apply()

    def set_discovered(self, specs: Iterable[NodeSpec]) -> None:
        """What the cluster says."""
        discovered = tuple(specs)
        if discovered != self._discovered:
            self._discovered = discovered
            self._apply()

    def _apply(self) -> None:
        discovered = {spec.name: spec for spec in self._discovered}
        specs = []
        for fixed in self._fixed:
            same = discovered.pop(fixed.name, None)
            specs.append(replace(fixed, zone=same.zone) if same is not None and not fixed.zone else fixed)
        self._pool.set_nodes([*specs, *discovered.values()], self._patience)
