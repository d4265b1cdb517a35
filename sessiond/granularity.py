"""What a write of a session carries: the changed attributes, or all of it (`granularity`).

There is a `Content` for each form in which a session can be committed:

- `ByAttribute`: every attribute by itself. A commit carries those that changed, forks merge attribute by attribute, and
  an object that two attributes share is two after a takeover, which is reported.
- `Whole`: one value for all of them (`whole`), under the reserved name `WHOLE`, which no attribute can have. What is one
  object stays one, and so does what is written: a fork, or a request that failed, concerns the whole session.

Invariant: either reads what the other has committed, and its next write puts it into its own form and removes the other
in the same commit; so nothing is lost while a cluster's setting is changed node by node. Where both forms are found, by a
fork in the midst of that, single attributes stand above the whole.

It never talks to the node; `live.Live` says when, `session.Session` commits.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

from sessiond.aliases import shared_by
from sessiond.backend import WHOLE
from sessiond.content import ABSENT, Content, Detached, Source, encoded
from sessiond.errors import SessionTooLarge, ValueNotReadable, ValueNotStorable
from sessiond.values import SCALARS, decode, encode
from sessiond.whole import has_shared, pack, unpack

_UNREAD: Any = object()


class ByAttribute(Content):
    """For every attribute that was read or written, `base` holds its encoded bytes as they were committed when it was
    read, so that "changed" means: encodes to other bytes than the base. In-place changes need no help from the
    application; attributes that nobody read cost nothing.
    """

    __slots__ = ("base", "suspects", "unpacked", "values")

    def __init__(self, source: Source, bytes_max: int) -> None:
        super().__init__(source, bytes_max)
        self.values: dict[str, Any] = {}
        """`ABSENT` for deleted ones."""
        self.base: dict[str, bytes | None] = {}
        self.suspects: set[str] = set()
        """Attributes that may differ from their base: written, or read and mutable."""
        self.unpacked: tuple[bytes, dict[str, bytes]] | None = None
        """The whole form, if it was found, and its attributes in this form."""

    def read(self, name: str) -> Any:
        value = self.values.get(name, _UNREAD)
        if value is not _UNREAD:
            return value
        data = self._stored(name)
        if data is None:
            return ABSENT
        try:
            value = decode(data)
        except ValueNotReadable as error:
            raise ValueNotReadable(f"session attribute {name!r}: {error}") from error
        self.values[name] = value
        self.base[name] = data
        if type(value) not in SCALARS:
            self.suspects.add(name)
        return value

    def write(self, name: str, value: Any) -> None:
        if name not in self.base:
            self.base[name] = self._stored(name)
        if value is ABSENT:
            self._whole()  # or the attribute would be found there again
        self.values[name] = value
        self.suspects.add(name)

    def has(self, name: str) -> bool:
        if name in self.values:
            return self.values[name] is not ABSENT
        return self._stored(name) is not None

    def names(self) -> Iterator[str]:
        values = self.values
        # All at once: what is read while somebody iterates over these is in `values` as well from then on.
        read = [name for name, value in values.items() if value is not ABSENT]
        return iter(read + [name for name in self._stored_names() if name not in values])

    def changes(self) -> dict[str, bytes | None]:
        changes: dict[str, bytes | None] = {}
        values, base = self.values, self.base
        for name in self.suspects:
            value = values[name]
            data = None if value is ABSENT else encode(name, value)
            if data == base[name]:
                continue
            if data is not None and len(data) > self.bytes_max:
                raise SessionTooLarge.of_attribute(name, len(data), self.bytes_max)
            changes[name] = data
        if changes and self.unpacked is not None:
            return self._in_this_form(changes)
        return changes

    def differs(self, name: str) -> bool:
        if name not in self.suspects:
            return False
        return encoded(name, self.values[name]) != self.base[name]

    def everything(self) -> dict[str, bytes]:
        changed = self.changes()
        whole = {name: changed[name] if name in changed else self._stored(name) for name in self.names()}
        return {name: data for name, data in whole.items() if data is not None}

    def successor(self, source: Source) -> "ByAttribute":
        content = ByAttribute(source, self.bytes_max)
        for name in self.base:
            content.values[name] = self.values[name]
            content.base[name] = source.read(name)
        content.suspects = set(self.suspects)
        return content

    def shared(self, changed: Set[str]) -> list[tuple[str, str]]:
        return shared_by(changed, self.values) if len(self.values) > 1 else []

    def committed(self, changes: Mapping[str, bytes | None], *, is_all: bool) -> Sequence[Detached]:
        if not is_all:
            return self.refresh()
        if self.unpacked is None:
            self.base.update(changes)
        else:
            self.base.update((name, data) for name, data in changes.items() if name in self.base)
            self.unpacked = None
        return ()

    def refresh(self) -> Sequence[Detached]:
        detached = []
        for name, known in list(self.base.items()):
            data = self._stored(name)
            if data == known:
                continue
            if self.differs(name):
                self.base[name] = data
            else:
                if known is not None and type(self.values[name]) not in SCALARS:
                    detached.append(Detached(name, self.values[name], known))
                self._forget(name)
        return detached

    def undo(self, touched: Set[str]) -> Set[str]:
        lost = {name for name in touched if self.differs(name)}
        for name in lost:
            self._forget(name)
        return lost

    def _forget(self, name: str) -> None:
        """Back to what is committed; read anew when somebody asks."""
        self.values.pop(name, None)
        self.base.pop(name, None)
        self.suspects.discard(name)

    # --- what the other form has ----------------------------------------------------------------------------

    def _stored(self, name: str) -> bytes | None:
        if name == WHOLE:
            return None  # what all attributes are in is none of them: it is not to be read or deleted as one
        data = self.source.read(name)
        return data if data is not None else self._in_whole(name)

    def _stored_names(self) -> Iterator[str]:
        alone = list(self.source.names())
        yield from (name for name in alone if name != WHOLE)
        if WHOLE in alone:
            yield from (name for name in self._whole() if self.source.read(name) is None)

    def _in_whole(self, name: str) -> bytes | None:
        data = self.source.read(WHOLE)
        return None if data is None else self._whole().get(name)

    def _whole(self) -> Mapping[str, bytes]:
        data = self.source.read(WHOLE)
        if data is None:
            self.unpacked = None
            return {}
        if self.unpacked is None or self.unpacked[0] != data:
            self.unpacked = (data, {name: encode(name, value) for name, value in unpack(data).items()})
        return self.unpacked[1]

    def _in_this_form(self, changes: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
        """A commit that takes the session apart."""
        taken: dict[str, bytes | None] = {}
        if self.source.read(WHOLE) is not None:
            taken[WHOLE] = None
            taken.update((name, self._stored(name)) for name in self._whole())
        return taken | dict(changes)


class Whole(Content):
    """`base` is what all attributes encoded to when they were read. `always`: a commit carries them even if nothing
    changed. Nothing is decoded before somebody asks for an attribute.
    """

    __slots__ = ("always", "base", "carried_over", "is_suspect", "others", "values")

    def __init__(self, source: Source, bytes_max: int, *, always: bool) -> None:
        super().__init__(source, bytes_max)
        self.always = always
        self.values: dict[str, Any] | None = None
        self.base: bytes | None = None
        self.carried_over: bytes | None = None
        """The base of the commit under way, or of the last one."""
        self.is_suspect = False
        """Whether something was written, or read and mutable."""
        self.others: tuple[str, ...] = ()
        """Attributes that were found in the other form."""

    def read(self, name: str) -> Any:
        value = self._loaded().get(name, ABSENT)
        if value is not ABSENT and type(value) not in SCALARS:
            self.is_suspect = True
        return value

    def write(self, name: str, value: Any) -> None:
        values = self._loaded()
        if value is ABSENT:
            values.pop(name, None)
        else:
            values[name] = value
        self.is_suspect = True

    def has(self, name: str) -> bool:
        return name in self._loaded()

    def names(self) -> Iterator[str]:
        yield from list(self._loaded())

    def changes(self) -> dict[str, bytes | None]:
        if not (self.is_suspect or self.always):
            return {}
        values = self._loaded()
        data = _packed(values, self.bytes_max) if self.is_suspect else self.base
        if data == self.base and not (self.always and data is not None):
            return {}
        self.carried_over = self.base
        changes: dict[str, bytes | None] = dict.fromkeys(self.others)
        changes[WHOLE] = data
        return changes

    def repeats(self, changes: Mapping[str, bytes | None]) -> bool:
        return changes.get(WHOLE) == self.base

    def differs(self, name: str) -> bool:
        return name in self._differing({name})

    def everything(self) -> dict[str, bytes]:
        data = _packed(self._loaded(), self.bytes_max)
        return {} if data is None else {WHOLE: data}

    def successor(self, source: Source) -> "Whole":
        content = Whole(source, self.bytes_max, always=self.always)
        content.values = dict(self._loaded())
        content.base = source.read(WHOLE)
        content.is_suspect = self.is_suspect
        return content

    def committed(self, changes: Mapping[str, bytes | None], *, is_all: bool) -> Sequence[Detached]:
        is_all = is_all and self.base is self.carried_over
        if WHOLE in changes and (is_all or (self.values is not None and self._is_tangled(self.values))):
            self.base = changes[WHOLE]
            self.others = ()
        return () if is_all else self.refresh()

    def refresh(self) -> Sequence[Detached]:
        if self.values is None:
            return ()
        mine, was, is_suspect = self.values, self.base, self.is_suspect
        changed_here = self._differing(mine.keys() | self._committed().keys())
        before = self._committed()
        theirs = self._load()
        if self.base == was:
            self.values, self.is_suspect = mine, is_suspect
        elif self._is_tangled(mine):
            # One object cannot be taken from here and its other half from there: it is all ours, or all theirs.
            if changed_here:
                self.values, self.is_suspect = mine, True
        else:
            for name in mine.keys() | theirs.keys():
                value, known = theirs.get(name, ABSENT), before.get(name, ABSENT)
                if name in changed_here or encoded(name, value) == encoded(name, known):
                    value = mine.get(name, ABSENT)
                if value is ABSENT:
                    theirs.pop(name, None)
                else:
                    theirs[name] = value
            self.is_suspect = True
        return [
            Detached(name, value, encoded(name, value))
            for name, value in mine.items()
            if type(value) not in SCALARS and self.values.get(name) is not value
        ]

    def undo(self, touched: Set[str]) -> Set[str]:
        lost = self._differing(touched) if self.values is not None else set()
        if not lost or self.values is None:
            return lost
        if self._is_tangled(self.values):
            # All of it, then. Others may go on to change what they got out of it, and nobody would see that.
            known = self._committed().keys() | self.values.keys()
            lost = {name for name in known if type(self.values.get(name)) not in SCALARS} | self._differing(
                known
            )
            self.values = None
            self.is_suspect = False
            return lost
        before = self._committed()
        for name in lost:
            if name in before:
                self.values[name] = before[name]
            else:
                self.values.pop(name, None)
        return lost

    def _committed(self) -> dict[str, Any]:
        """All attributes as they are committed, decoded anew."""
        return unpack(self.base) if self.base is not None else {}

    def _differing(self, names: Set[str]) -> set[str]:
        """Which of these have uncommitted changes, storable or not."""
        if not self.is_suspect or self.values is None:
            return set()
        values, before = self.values, self._committed()
        return {
            name
            for name in names
            if encoded(name, values.get(name, ABSENT)) != encoded(name, before.get(name, ABSENT))
        }

    def _is_tangled(self, values: Mapping[str, Any]) -> bool:
        """Whether anything is shared, here or in what is committed, so that no attribute can go its own way."""
        if self.base is not None and has_shared(self.base):
            return True
        try:
            data = _packed(values, sys.maxsize)
        except ValueNotStorable:
            return True  # nobody can tell
        return data is not None and has_shared(data)

    def _loaded(self) -> dict[str, Any]:
        return self.values if self.values is not None else self._load()

    def _load(self) -> dict[str, Any]:
        source = self.source
        data = source.read(WHOLE)
        values = {} if data is None else unpack(data)
        self.others = tuple(name for name in source.names() if name != WHOLE)
        for name in self.others:
            alone = source.read(name)
            if alone is not None:
                values[name] = decode(alone)
        self.base = _packed(values, sys.maxsize) if self.others else data
        self.values = values
        self.is_suspect = False
        return values


def _packed(values: Mapping[str, Any], bytes_max: int) -> bytes | None:
    return pack(values, bytes_max) if values else None


def contents(granularity: str, bytes_max: int) -> Callable[[Source], Content]:
    """What makes the content of sessions that are written as the setting `granularity` says."""
    if granularity == "attribute":
        return partial(ByAttribute, bytes_max=bytes_max)
    return partial(Whole, bytes_max=bytes_max, always=granularity == "session")
