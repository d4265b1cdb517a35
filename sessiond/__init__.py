"""Web sessions that survive the death of a server, with no database to run.

    from sessiond import Node, Settings

The two are loaded when they are asked for: the balancer imports `sessiond.contract`, and must not pay for a
node that it does not run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessiond.node import Node
    from sessiond.settings import Settings

__all__ = ["Node", "Settings", "__version__"]

__version__ = "0.1.0"

_HOMES = {"Node": "sessiond.node", "Settings": "sessiond.settings"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sessiond' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
