"""Stores: places outside the nodes' memory where copies of sessions lie.

`interface` says what every store does; `store_for` makes the one that a URL names.
"""

from sessiond.stores.choosing import store_for
from sessiond.stores.interface import Record, Store

__all__ = ["Record", "Store", "store_for"]
