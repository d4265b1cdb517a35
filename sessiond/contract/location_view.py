"""Where one session is: the body of `/v1/locate`.

Readers take what they know and ignore the rest, so that a newer node can say more.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LocationView:
    """A session's copies, as far as the asked node knows. `primary` and `backups` are names of nodes.

    `key`: its hex digits. `epoch`: of its present ownership. `version`: None if the asked node holds no copy.
    """

    key: str
    primary: str
    backups: tuple[str, ...]
    epoch: int
    version: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "LocationView":
        """Raises KeyError, TypeError or ValueError on a body that is not a location view."""
        version, backups = body["version"], body["backups"]
        if isinstance(backups, str):
            raise TypeError(f"backups are a list, not {backups!r}")
        return cls(
            str(body["key"]),
            str(body["primary"]),
            tuple(str(name) for name in backups),
            int(body["epoch"]),
            None if version is None else int(version),
        )
