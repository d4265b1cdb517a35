"""Messages as bytes and back: MessagePack, checked field by field, within limits.

A frame is ``[number, field, …]``. What a peer sends is checked completely before the core sees it: the
wrong type or length of a field, an unknown number or a limit exceeded is a `CodecError`, and the link is
closed. Attribute values are opaque bytes here; nothing in this module decodes an application's data.

Entries of the directory, most of which have few owners and backups, go as ``[lives, places, keys, indices]``: every
life once, every location once, all keys in one run, and for each key the index of its location. The life of the
sender, which the receiver of a link knows, is nil; lives that the sender has numbered (`m.Lives`) are their numbers.
One entry alone, of a session that the sender owns, has a form of its own: 24 bytes with one backup.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgpack

from sessiond.contract.names import NODE_NAME
from sessiond.contract.session_id import KEY_BYTES
from sessiond.core import messages as m
from sessiond.core.directory import BUCKETS, DIGEST_BYTES, GROUP_BUCKETS, GROUPS
from sessiond.core.types import Attribute, Key, Life, Location, Stamp, Term

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""Longest frame; above `session_bytes_max` with room for many attribute names and stamps."""

ITEMS_MAX = 10_000
"""Longest array or map in a frame."""

NAME_BYTES_MAX = 255
"""Longest attribute name."""

NUMBERED_MAX = 4096
"""Lives that one node may number; of more it has to spell the name."""

INTERNED_MAX = 16_384
"""Lives, terms and locations kept to be shared; a table is emptied when it is full."""

INTEGER_MAX = 2**63 - 1

DIGESTS_BYTES = GROUPS * DIGEST_BYTES
assert GROUPS == GROUP_BUCKETS, "a run of digests is that of the groups, or of one group's buckets"


class CodecError(Exception):
    """Not a message of this protocol; the link it came by cannot be trusted any further."""


T = TypeVar("T")

Check = Callable[[Any], Any]
_lives: dict[Any, Life] = {}
_terms: dict[Any, Term] = {}
_locations: dict[Any, Location] = {}


def _fail(what: str, raw: object) -> CodecError:
    return CodecError(f"{what} expected, not {type(raw).__name__} {repr(raw)[:60]}")


def _uint(raw: Any) -> int:
    if type(raw) is not int or not 0 <= raw <= INTEGER_MAX:
        raise _fail("a whole number", raw)
    return raw


def _bool(raw: Any) -> bool:
    if type(raw) is not bool:
        raise _fail("true or false", raw)
    return raw


def _seconds(raw: Any) -> float:
    # The negated comparison refuses NaN too.
    if type(raw) not in (int, float) or not 0 <= raw <= INTEGER_MAX:
        raise _fail("a duration", raw)
    return float(raw)


def _text(raw: Any) -> str:
    if type(raw) is not str:
        raise _fail("text", raw)
    return raw


def _bytes(raw: Any) -> bytes:
    if type(raw) is not bytes:
        raise _fail("bytes", raw)
    return raw


def _key(raw: Any) -> Key:
    if type(raw) is not bytes or len(raw) != KEY_BYTES:
        raise _fail("a session key", raw)
    return raw


def _array(raw: Any, length: int) -> tuple[Any, ...]:
    if type(raw) is not tuple or len(raw) != length:
        raise _fail(f"an array of {length}", raw)
    return raw


def _node_name(raw: Any) -> str:
    if NODE_NAME.fullmatch(_text(raw)) is None:
        raise _fail("a node name", raw)
    return str(raw)


def _life(raw: Any) -> Life:
    known = _lives.get(raw) if type(raw) is tuple else None
    if known is None:
        name, incarnation = _array(raw, 2)
        _node_name(name)
        if len(_lives) >= INTERNED_MAX:
            _lives.clear()
        known = _lives[raw] = Life(name, _uint(incarnation))
    return known


def _term(raw: Any) -> Term:
    known = _terms.get(raw) if type(raw) is tuple else None
    if known is None:
        epoch, owner = _array(raw, 2)
        if len(_terms) >= INTERNED_MAX:
            _terms.clear()
        known = _terms[raw] = Term(_uint(epoch), _life(owner))
    return known


def _stamp(raw: Any) -> Stamp:
    term, version = _array(raw, 2)
    return Stamp(_term(term), _uint(version))


def _array_of(raw: Any) -> tuple[Any, ...]:
    if type(raw) is not tuple:
        raise _fail("an array", raw)
    return raw


def _many(check: Check) -> Check:
    def checked(raw: Any) -> tuple[Any, ...]:
        return tuple([check(item) for item in _array_of(raw)])

    return checked


def _optional(check: Check) -> Check:
    return lambda raw: None if raw is None else check(raw)


def _pair(first: Check, second: Check) -> Check:
    def checked(raw: Any) -> tuple[Any, Any]:
        one, two = _array(raw, 2)
        return (first(one), second(two))

    return checked


def _triple(first: Check, second: Check, third: Check) -> Check:
    def checked(raw: Any) -> tuple[Any, Any, Any]:
        one, two, three = _array(raw, 3)
        return (first(one), second(two), third(three))

    return checked


def _location(raw: Any) -> Location:
    # Equal ones are usual: sessions of one owner and backup. (Of 1 and True, equal too, either may come first.)
    known = _locations.get(raw) if type(raw) is tuple else None
    if known is None or type(raw[3]) is not bool:
        term, seq, backups, gone = _array(raw, 4)
        known = Location(_term(term), _uint(seq), _lives_of(backups), _bool(gone))
        if len(_locations) >= INTERNED_MAX:
            _locations.clear()
        _locations[raw] = known
    return known


def _bucket(raw: Any) -> int:
    if _uint(raw) >= BUCKETS:
        raise _fail("a bucket's number", raw)
    return int(raw)


def _group(raw: Any) -> int:
    if _uint(raw) >= GROUPS:
        raise _fail("the number of a group of buckets", raw)
    return int(raw)


def _digests(raw: Any) -> bytes:
    if len(_bytes(raw)) != DIGESTS_BYTES:
        raise _fail("digests", raw)
    return bytes(raw)


def _attribute_name(raw: Any) -> str:
    # The empty name stands for a session that was written whole (`backend.WHOLE`).
    if len(_text(raw)) > NAME_BYTES_MAX:
        raise _fail("an attribute name", raw)
    return str(raw)


def _value(raw: Any) -> bytes | None:
    if raw is not None and type(raw) is not bytes:
        raise _fail("an encoded value", raw)
    return raw


def _entries(raw: Any) -> tuple[tuple[Key, Location], ...]:
    lives, places, keys, indices = _array(raw, 4)
    table = _lives_of(lives)
    locations = [_place(place, table) for place in _array_of(places)]
    count = len(_array_of(indices))
    if len(_bytes(keys)) != count * KEY_BYTES:
        raise _fail(f"{count} session keys", keys)
    return tuple(
        [
            (keys[at : at + KEY_BYTES], _at(index, locations))
            for at, index in zip(range(0, len(keys), KEY_BYTES), indices, strict=True)
        ]
    )


def _place(raw: Any, lives: tuple[Life, ...]) -> Location:
    epoch, owner, seq, backups, gone = _array(raw, 5)
    term = _term((epoch, tuple(_at(owner, lives))))
    listed = tuple([_at(backup, lives) for backup in _array_of(backups)])
    return Location(term, _uint(seq), listed, _bool(gone))


def _at(index: Any, table: Sequence[T]) -> T:
    at = _uint(index)
    if at >= len(table):
        raise _fail(f"an index below {len(table)}", index)
    return table[at]


def _pack_entries(
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


def _pack_one(
    entries: tuple[tuple[Key, Location], ...], sender: Life | None, numbers: Mapping[Life, int]
) -> tuple[Any, ...] | None:
    """Where one session of the sender lives: half the bytes of `_pack_entries`, and most messages of locations."""
    if len(entries) != 1:
        return None
    ((key, ((epoch, owner), seq, backups, gone)),) = entries
    if gone or owner != sender:
        return None
    return (ONE_LOCATION, key, epoch, seq, [numbers.get(life, life) for life in backups])


def _one_location(raw: tuple[Any, ...], sender: Life | None, numbered: Sequence[Life]) -> m.Locations:
    _, key, epoch, seq, backups = _array(raw, 5)
    if sender is None:
        raise CodecError("a session of the sender, which is not known")
    named = tuple([_named(life, sender, numbered) for life in _array_of(backups)])
    return m.Locations(((_key(key), _location(((epoch, tuple(sender)), seq, named, False))),))


def _named(life: Any, sender: Life, numbered: Sequence[Life]) -> Any:
    """A life as the sender names it, spelled out: nil is itself, and a number one that it has given."""
    if life is None:
        return tuple(sender)
    return tuple(_at(life, numbered)) if type(life) is int else life


def _with_names(entries: Any, sender: Life, numbered: Sequence[Life]) -> Any:
    """Entries as they came, all lives spelled out."""
    if type(entries) is not tuple or not entries or type(entries[0]) is not tuple:
        return entries  # the check of the field says what is wrong
    lives, *rest = entries
    return (tuple([_named(life, sender, numbered) for life in lives]), *rest)


def _changes(raw: Any) -> dict[str, bytes | None]:
    if type(raw) is not dict:
        raise _fail("changes", raw)
    for name, value in raw.items():
        _attribute_name(name)
        _value(value)
    return raw


def _record(kind: type, *checks: Check) -> Check:
    def checked(raw: Any) -> Any:
        values = _array(raw, len(checks))
        return kind(*[check(value) for check, value in zip(checks, values, strict=True)])

    return checked


def _copy_data(raw: Any) -> m.CopyData:
    terms, rows, version, last, tombstone, age_s, idle_s, write_ids, alias = _array(raw, 9)
    table = _many(_term)(terms)
    attributes: dict[str, Attribute] = {}
    stamps: dict[tuple[int, int], Stamp] = {}
    if type(rows) is not tuple:
        raise _fail("attributes", rows)
    for row in rows:
        name, value, index, written = _array(row, 4)
        stamp = stamps.get((index, written))
        if stamp is None:
            if _uint(index) >= len(table):
                raise _fail("an index of a term", index)
            stamp = stamps[index, written] = Stamp(table[index], _uint(written))
        # All sessions have the same few names: one object for each takes 50 bytes a session and name less.
        attributes[sys.intern(_attribute_name(name))] = Attribute(_value(value), stamp)
    last_stamp = _stamp(last)
    return m.CopyData(
        attributes,
        _uint(version),
        next((stamp for stamp in stamps.values() if stamp == last_stamp), last_stamp),
        _bool(tombstone),
        _seconds(age_s),
        _seconds(idle_s),
        _many(_bytes)(write_ids),
        _alias(alias),
    )


def _pack_copy_data(data: m.CopyData) -> tuple[Any, ...]:
    """Attributes refer to a table of terms: most sessions were written in one or two."""
    index: dict[Term, int] = {}
    rows = [
        (name, value, index.setdefault(stamp.term, len(index)), stamp.version)
        for name, (value, stamp) in data.attributes.items()
    ]
    return (tuple(index), rows, *data[1:])


_alias = _optional(_pair(_key, _seconds))
_lives_of = _many(_life)
_status = _record(m.Status, _bool, _bool, _bool, _uint, _uint, _uint)
_rumours = _many(_record(m.Rumour, _life, _uint, _lives_of))
_held = _record(m.Held, _text, _term, _uint, _lives_of, _stamp)

_VOTE = (_life, _node_name, _seconds, _bool)

# The numbers are the protocol: never reuse one.
_SHAPES: dict[int, tuple[type, tuple[Check, ...]]] = {
    19: (m.Lives, (_lives_of,)),
    2: (m.Ping, (_uint, _status, _rumours)),
    3: (m.Pong, (_uint, _status, _rumours)),
    4: (m.Vote, _VOTE),
    5: (m.Leave, (_life,)),
    6: (m.Roll, (_many(_node_name), _many(_record(m.Vote, *_VOTE)))),
    7: (m.LeaseAsk, (_uint,)),
    8: (m.LeaseAnswer, (_uint, _uint)),
    9: (m.StandingAsk, ()),
    10: (m.SnapshotRequest, (_uint,)),
    11: (
        m.Snapshot,
        (_entries, _bool, _many(_record(m.Acquaintance, _life, _text)), _lives_of, _uint, _uint),
    ),
    15: (m.StandingAnswer, (_bool,)),
    16: (m.PingRequest, (_uint, _life)),
    17: (m.Relayed, (_uint, _life, _bool)),
    12: (m.Locations, (_entries,)),
    13: (m.Digest, (_optional(_group), _digests)),
    18: (m.Rested, (_many(_triple(_key, _term, _uint)),)),
    14: (m.Dir, (_bucket, _entries, _bool)),
    20: (m.Put, (_key, _term, _uint, _lives_of, _copy_data)),
    21: (m.Patch, (_key, _term, _uint, _optional(_term), _uint, _uint, _changes, _optional(_bytes))),
    22: (m.Ack, (_uint,)),
    23: (m.Nack, (_uint,)),
    24: (m.Gap, (_key, _term)),
    25: (m.Fenced, (_key, _location)),
    26: (m.Release, (_key, _term, _uint)),
    27: (m.Released, (_key, _term, _uint)),
    28: (m.Confirm, (_key, _term, _uint, _stamp)),
    29: (m.Resigned, (_key, _term)),
    30: (m.Touch, (_many(_pair(_key, _seconds)),)),
    31: (m.Forward, (_key, _bytes, _changes, _optional(_uint), _bool, _optional(_key))),
    32: (m.ForwardResult, (_bytes, _text, _uint, _bool, _text)),
    33: (m.Aliases, (_many(_triple(_key, _key, _seconds)),)),
    40: (m.Who, (_key, _uint)),
    41: (m.Here, (_key, _uint, _optional(_held), _optional(_location), _bool, _bool)),
    42: (m.Claim, (_key, _life, _optional(_term), _optional(_term), _uint, _optional(_location))),
    43: (m.Grant, (_key, _term, _lives_of, _copy_data)),
    44: (m.Refer, (_key, _optional(_location), _bool, _uint)),
    45: (m.Offer, (_key, _term, _copy_data)),
    46: (m.OfferOk, (_key,)),
}
_NUMBERS: dict[type, int] = {kind: number for number, (kind, _) in _SHAPES.items()}
_WITH_COPY = frozenset({m.Put, m.Grant, m.Offer})
ONE_LOCATION = 47
_ENTRIES_AT = {m.Snapshot: 0, m.Locations: 0, m.Dir: 1}
PATCH = _NUMBERS[m.Patch]
PATCH_FIELDS = len(m.Patch._fields)
assert set(_NUMBERS) == {m.Lives, *get_args(m.Message)}, "every kind of message needs a number"
assert ONE_LOCATION not in _SHAPES


# One packer for all frames: making one costs as much as packing a small message.
_pack: Callable[[Any], bytes] = msgpack.Packer().pack


def encode(
    message: m.Message | m.Lives, sender: Life | None = None, numbers: Mapping[Life, int] | None = None
) -> bytes:
    """The frame of a message. Raises CodecError if it is longer than a frame may be.

    `sender`: the life that will send it, if the receiver hands the same to `decode`. `numbers`: of the lives that it
    has named to the receiver by `m.Lives`, in that order.
    """
    kind = type(message)
    fields: tuple[Any, ...] = message
    if kind in _WITH_COPY:
        fields = (*fields[:-1], _pack_copy_data(fields[-1]))
    elif (at := _ENTRIES_AT.get(kind)) is not None:
        numbers = numbers or {}
        if kind is m.Locations and (one := _pack_one(fields[at], sender, numbers)) is not None:
            return _pack(one)
        fields = (*fields[:at], _pack_entries(fields[at], sender, numbers), *fields[at + 1 :])
    frame = _pack((_NUMBERS[kind], *fields))
    if len(frame) > FRAME_BYTES_MAX:
        raise CodecError(f"a {kind.__name__} of {len(frame)} bytes is over the limit of {FRAME_BYTES_MAX}")
    return frame


def decode(frame: bytes, sender: Life | None = None, numbered: Sequence[Life] = ()) -> m.Message | m.Lives:
    """The message of a frame that came from `sender`. Raises CodecError, and nothing else.

    `numbered`: the lives that it has named by `m.Lives` on this link, in that order.
    """
    raw = _unpacked(frame)
    if type(raw) is not tuple or not raw:
        raise _fail("a message", raw)
    try:
        return _usual_patch(raw) or _checked(raw, sender, numbered)
    except TypeError as error:  # an unhashable value where a tuple stands for a key of the intern tables
        raise CodecError(f"a message does not have its shape: {error}") from error


def _unpacked(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(
            packed,
            use_list=False,
            raw=False,
            strict_map_key=True,
            max_array_len=ITEMS_MAX,
            max_map_len=ITEMS_MAX,
            max_ext_len=0,
            ext_hook=_no_extensions,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise CodecError(f"not MessagePack within the limits: {error}") from error


def encode_copy(data: m.CopyData) -> bytes:
    """A session's content by itself, for a store."""
    return _pack(_pack_copy_data(data))


def decode_copy(packed: bytes) -> m.CopyData:
    """The content that `encode_copy` packed. Raises CodecError, and nothing else."""
    try:
        return _copy_data(_unpacked(packed))
    except TypeError as error:
        raise CodecError(f"a copy does not have its shape: {error}") from error


def _usual_patch(raw: tuple[Any, ...]) -> m.Patch | None:
    """A write of the kind that makes up nearly all traffic, checked in one go: half the cost of `_checked`.

    None for anything else, right or wrong: `_checked` accepts it or says what is wrong.
    """
    if raw[0] != PATCH or len(raw) != PATCH_FIELDS + 1:
        return None
    _, key, term, seq, base_term, base_version, version, changes, write_id = raw
    known = _terms.get(term)
    if (
        known is None
        or not (type(key) is bytes and len(key) == KEY_BYTES)
        or not (type(seq) is type(base_version) is type(version) is int)
        or not (0 <= seq <= INTEGER_MAX and 0 <= base_version <= INTEGER_MAX and 0 <= version <= INTEGER_MAX)
        or not (base_term is None and write_id is None and type(changes) is dict)
    ):
        return None
    return m.Patch(key, known, seq, None, base_version, version, _changes(changes), None)


def _checked(raw: tuple[Any, ...], sender: Life | None, numbered: Sequence[Life]) -> m.Message | m.Lives:
    """The message, every field of which has been checked by itself."""
    if raw[0] == ONE_LOCATION:
        return _one_location(raw, sender, numbered)
    try:
        kind, checks = _SHAPES[raw[0]]
    except (KeyError, TypeError):
        raise CodecError(f"no message has the number {raw[0]!r}") from None
    if len(raw) != len(checks) + 1:
        raise CodecError(f"{kind.__name__} has {len(checks)} fields, not {len(raw) - 1}")
    at = _ENTRIES_AT.get(kind)
    if at is not None and sender is not None:
        raw = (*raw[: at + 1], _with_names(raw[at + 1], sender, numbered), *raw[at + 2 :])
    message: m.Message | m.Lives = kind(*[check(value) for check, value in zip(checks, raw[1:], strict=True)])
    return message


def _no_extensions(code: int, _data: bytes) -> Any:
    raise CodecError(f"extension type {code} on a link")
