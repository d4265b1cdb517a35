"""A store in memory, for worlds and simulations of cores: it keeps records, fences by stamp, and can fail."""

from dataclasses import dataclass, field

from sessiond.core.stored import Stored, Trouble, Unreadable
from sessiond.core.types import Key, Term


@dataclass(frozen=True)
class Kept:
    """A record as it lies there: when it was written, by the store's clock."""

    record: Stored
    at: float

    @property
    def stamp(self) -> tuple[Term, int]:
        return (self.record.term, self.record.version)


@dataclass
class Shelf:
    """What one store holds. `is_failing`: it answers nothing; `unreadable`: what reading a key brings instead."""

    records: dict[Key, Kept] = field(default_factory=dict)
    is_failing: bool = False
    unreadable: dict[Key, Trouble] = field(default_factory=dict)
    writes: int = 0
    reads: int = 0

    def write(self, records: tuple[Stored, ...], now: float) -> set[Key] | None:
        """The keys that are refused; None: the store fails."""
        self.writes += 1
        if self.is_failing:
            return None
        refused = set()
        for record in records:
            kept = self._alive(record.key, now)
            if kept is not None and kept.stamp > (record.term, record.version):
                refused.add(record.key)
            else:
                self.records[record.key] = Kept(record, now)
        return refused

    def read(self, key: Key, now: float) -> Stored | Unreadable | None:
        self.reads += 1
        if self.is_failing:
            return Unreadable(Trouble.UNAVAILABLE, "the shelf fails")
        if key in self.unreadable:
            return Unreadable(self.unreadable[key], "unreadable on the shelf")
        kept = self._alive(key, now)
        if kept is None:
            return None
        age_s, record = now - kept.at, kept.record
        data = record.data
        if data is not None:
            data = data._replace(
                attributes=dict(data.attributes), age_s=data.age_s + age_s, idle_s=data.idle_s + age_s
            )
        return record._replace(lives_s=record.lives_s - age_s, data=data)

    def _alive(self, key: Key, now: float) -> Kept | None:
        kept = self.records.get(key)
        return kept if kept is not None and now < kept.at + kept.record.lives_s else None

    def value(self, key: Key, name: str) -> bytes | None:
        """An attribute of what is stored; None if there is none, or it is an end."""
        kept = self.records.get(key)
        data = kept.record.data if kept is not None else None
        return data.attributes[name].value if data is not None and name in data.attributes else None
