"""The URL that names a store: ``SCHEME://PLACE?option=value``.

Options are taken one by one, each with its unit and its bounds; what nobody took is refused by name. Whatever is
wrong becomes a ConfigurationError, and no error shows a password. That is why a URL which its password may have cut
short is refused without a word of it, the parser's own included: what looks like host, path or option may be secret.
"""

import math
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from sessiond.errors import ConfigurationError

_BYTES = re.compile(r"(\d+)(|K|M|G|T)i?B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _unreadable(reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"the store's URL cannot be read: {reason} (percent-encode / ? # @ in the password, and @ everywhere but before "
        "the host)"
    )


class StoreUrl:
    """A store's URL taken apart."""

    def __init__(self, text: str) -> None:
        try:
            self._parts = parts = urlsplit(text)
        except ValueError:
            raise _unreadable("its host is none") from None
        try:
            parts.port  # noqa: B018 # raises for one that is no number
        except ValueError:
            raise _unreadable("its port is no number") from None
        if parts.netloc and "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise _unreadable("it has an @ after its host")
        self._options: dict[str, str] = {}
        self._known: list[str] = []
        for name, value in parse_qsl(self._parts.query, keep_blank_values=True):
            if name in self._options:
                raise ConfigurationError(f"the store's URL {self} gives {name} twice")
            self._options[name] = value

    def __str__(self) -> str:
        """Without password and options: for messages and logs."""
        parts = self._parts
        user, at, host = parts.netloc.rpartition("@")
        if ":" in user:
            user = f"{user.partition(':')[0]}:***"
        if host and not parts.hostname:
            host = "***"  # a password without its @
        path = parts.path if parts.path.startswith("/") else "***" if parts.path else ""
        scheme = f"{parts.scheme}://" if parts.scheme else ""
        return f"{scheme}{user}{at}{host}{path}"

    @property
    def scheme(self) -> str:
        return self._parts.scheme

    @property
    def parts(self) -> SplitResult:
        return self._parts

    def without_options(self, scheme: str = "", **options: str) -> str:
        """The URL as a library wants it, the password in it: for nobody's eyes."""
        parts = self._parts
        return urlunsplit(
            parts._replace(scheme=scheme or parts.scheme, query=urlencode(options), fragment="")
        )

    def text(self, name: str, default: str) -> str:
        self._known.append(name)
        return self._options.get(name, default)

    def seconds(self, name: str, default: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigurationError(
                f"the store's URL {self} has {name}={text}: write seconds, as in {name}={default}"
            )
        return value

    def count(self, name: str, default: int) -> int:
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise ConfigurationError(
                f"the store's URL {self} has {name}={text}: write a number of 1 or more, as in {name}={default}"
            )
        return int(text)

    def size(self, name: str, default: int) -> int:
        """Bytes; ``K``, ``M``, ``G``, ``T`` behind the number are powers of 1024."""
        text = self.text(name, str(default))
        found = _BYTES.fullmatch(text)
        if found is None or int(found[1]) == 0:
            raise ConfigurationError(
                f"the store's URL {self} has {name}={text}: write bytes, as in {name}=512M or {name}={default}"
            )
        return int(found[1]) * _UNITS[found[2].upper()]

    def flags(self, name: str, choices: Iterable[str]) -> str | None:
        """One of some words; None if the option is not there."""
        text = self.text(name, "")
        if text and text not in choices:
            raise ConfigurationError(
                f"the store's URL {self} has {name}={text}, which is none of {', '.join(choices)}"
            )
        return text or None

    def no_more_options(self) -> None:
        """Refuse what was not asked for."""
        if unknown := [name for name in self._options if name not in self._known]:
            raise ConfigurationError(
                f"the store's URL {self} has options that a {self.scheme} store does not know: "
                f"{', '.join(unknown)}; it knows {', '.join(self._known)}"
            )
