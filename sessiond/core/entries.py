"""Entries of the directory as bytes and back, with the names of lives said as seldom as can be.

Several go as ``[lives, places, keys, indices]``: every life once, every location once, all keys in one run, and for each
key the index of its location. The life of the sender, which the receiver of a link knows, is nil; lives that the sender
has numbered (`messages.Lives`) are their numbers. One entry alone, of a session that the sender owns, has a form of its own:
24 bytes with one backup.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sessiond.contract.session_id import KEY_BYTES
from sessiond.core import messages as m
from sessiond.core.checks import (
    CodecError,
    any_array,
    array,
    at_index,
    lives_of,
    location_of,
    octets,
    session_key,
    term_of,
    truth,
    whole_number,
    wrong,
)
from sessiond.core.types import Key, Life, Location

ONE_LOCATION = 47
"""The number of the message that is one entry alone."""


def entries_of(raw: Any) -> tuple[tuple[Key, Location], ...]:
    lives, places, keys, indices = array(raw, 4)
    table = lives_of(lives)
    locations = [_place(place, table) for place in any_array(places)]
    count = len(any_array(indices))
    if len(octets(keys)) != count * KEY_BYTES:
        raise wrong(f"{count} session keys", keys)
    return tuple(
        [
            (keys[at : at + KEY_BYTES], at_index(index, locations))
            for at, index in zip(range(0, len(keys), KEY_BYTES), indices, strict=True)
        ]
    )


def _place(raw: Any, lives: tuple[Life, ...]) -> Location:
    epoch, owner, seq, backups, gone = array(raw, 5)
    term = term_of((epoch, tuple(at_index(owner, lives))))
    listed = tuple([at_index(backup, lives) for backup in any_array(backups)])
    return Location(term, whole_number(seq), listed, truth(gone))


def pack_entries(
    entries: tuple[tuple[Key, Location], ...], sender: Life | None, numbers: Mapping[Life, int]
) -> tuple[Any, ...]:
    lives: dict[Life, int] = {}
    places: dict[Location, int] = {}
    keys, indices, packed = [], [], []
    for key, location in entries:
        index = places.get(location)
        if index is None:
            index = places[location] = len(places)
            (epoch, owner), seq, backups, gone = location
            listed = [lives.setdefault(life, len(lives)) for life in (owner, *backups)]
            packed.append((epoch, listed[0], seq, listed[1:], gone))
        keys.append(key)
        indices.append(index)
    named = [None if life == sender else numbers.get(life, life) for life in lives]
    return (named, packed, b"".join(keys), indices)


def pack_one(
    entries: tuple[tuple[Key, Location], ...], sender: Life | None, numbers: Mapping[Life, int]
) -> tuple[Any, ...] | None:
    """Where one session of the sender lives: half the bytes of `pack_entries`, and most messages of locations."""
    if len(entries) != 1:
        return None
    ((key, ((epoch, owner), seq, backups, gone)),) = entries
    if gone or owner != sender:
        return None
    return (ONE_LOCATION, key, epoch, seq, [numbers.get(life, life) for life in backups])


def one_location(raw: tuple[Any, ...], sender: Life | None, numbered: Sequence[Life]) -> m.Locations:
    _, key, epoch, seq, backups = array(raw, 5)
    if sender is None:
        raise CodecError("a session of the sender, which is not known")
    named = tuple([_named(life, sender, numbered) for life in any_array(backups)])
    return m.Locations(((session_key(key), location_of(((epoch, tuple(sender)), seq, named, False))),))


def _named(life: Any, sender: Life, numbered: Sequence[Life]) -> Any:
    """A life as the sender names it, spelled out: nil is itself, and a number one that it has given."""
    if life is None:
        return tuple(sender)
    return tuple(at_index(life, numbered)) if type(life) is int else life


def with_names(entries: Any, sender: Life, numbered: Sequence[Life]) -> Any:
    """Entries as they came, all lives spelled out."""
    if type(entries) is not tuple or not entries or type(entries[0]) is not tuple:
        return entries  # the check of the field says what is wrong
    lives, *rest = entries
    return (tuple([_named(life, sender, numbered) for life in lives]), *rest)
