"""The store that a URL names, made by the backend of its scheme.

A backend's libraries are an extra of the package, so a backend is imported when it is asked for, not before.
"""

import importlib
from dataclasses import dataclass
from typing import cast

from sessiond.errors import ConfigurationError
from sessiond.stores.interface import Store
from sessiond.stores.url import StoreUrl


@dataclass(frozen=True, slots=True)
class Backend:
    """Where the class of a kind of store is, and what must be installed for it."""

    module: str
    name: str
    extra: str
    libraries: tuple[str, ...]


BACKENDS = {
    "file": Backend("sessiond.stores.file", "FileStore", "file", ("lmdb",)),
    "sqlite": Backend("sessiond.stores.sqlite", "SqliteStore", "sqlite", ("sqlalchemy", "aiosqlite")),
    "postgresql": Backend(
        "sessiond.stores.postgresql", "PostgresqlStore", "postgres", ("sqlalchemy", "asyncpg")
    ),
    "redis": Backend("sessiond.stores.redis", "RedisStore", "redis", ("redis",)),
    "rediss": Backend("sessiond.stores.redis", "RedisStore", "redis", ("redis",)),
}

EXAMPLES = (
    "file:///var/lib/sessiond, sqlite:////var/lib/sessiond.db, postgresql://user@host/db, redis://host/0"
)


def store_for(url: str, *, cluster_name: str = "default") -> Store:
    """A store, not yet opened. Raises ConfigurationError for a URL that names none, or an extra that is missing.

    `cluster_name` keeps the records of clusters apart that were given one place.
    """
    parsed = StoreUrl(url)
    backend = BACKENDS.get(parsed.scheme)
    if backend is None:
        raise ConfigurationError(
            f"the store's URL {parsed} begins with {parsed.scheme or 'no scheme'}, which is no kind of store: "
            f"write one like {EXAMPLES}"
        )
    try:
        for library in backend.libraries:
            importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"a {parsed.scheme} store needs {error.name}, which is not installed: "
            f"pip install 'sessiond[{backend.extra}]'"
        ) from error
    make = getattr(importlib.import_module(backend.module), backend.name)
    return cast("Store", make(parsed, cluster_name=cluster_name))
