"""Messages as bytes and back: MessagePack, checked field by field, within limits.

A frame is ``[number, field, …]``. What a peer sends is checked completely before the core sees it: the
wrong type or length of a field, an unknown number or a limit exceeded is a `CodecError`, and the link is
closed. Attribute values are opaque bytes here; nothing in this module decodes an application's data.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgpack

from sessiond.contract.session_id import KEY_BYTES
from sessiond.core import messages as m
from sessiond.core.checks import (
    INTEGER_MAX,
    Check,
    CodecError,
    array,
    duration,
    known_terms,
    life_of,
    lives_of,
    location_of,
    many,
    node_name,
    octets,
    optional,
    pair,
    session_key,
    stamp_of,
    term_of,
    text,
    triple,
    truth,
    whole_number,
    wrong,
)
from sessiond.core.directory import BUCKETS, DIGEST_BYTES, GROUP_BUCKETS, GROUPS
from sessiond.core.entries import ONE_LOCATION, entries_of, one_location, pack_entries, pack_one, with_names
from sessiond.core.types import Attribute, Life, Stamp, Term

FRAME_BYTES_MAX = 8 * 1024 * 1024
"""Longest frame; above `session_bytes_max` with room for many attribute names and stamps."""

ITEMS_MAX = 10_000
"""Longest array or map in a frame."""

NAME_BYTES_MAX = 255
"""Longest attribute name."""

NUMBERED_MAX = 4096
"""Lives that one node may number; of more it has to spell the name."""

DIGESTS_BYTES = GROUPS * DIGEST_BYTES
assert GROUPS == GROUP_BUCKETS, "a run of digests is that of the groups, or of one group's buckets"


def _bucket(raw: Any) -> int:
    if whole_number(raw) >= BUCKETS:
        raise wrong("a bucket's number", raw)
    return int(raw)


def _group(raw: Any) -> int:
    if whole_number(raw) >= GROUPS:
        raise wrong("the number of a group of buckets", raw)
    return int(raw)


def _digests(raw: Any) -> bytes:
    if len(octets(raw)) != DIGESTS_BYTES:
        raise wrong("digests", raw)
    return bytes(raw)


def _attribute_name(raw: Any) -> str:
    # The empty name stands for a session that was written whole (`backend.WHOLE`).
    if len(text(raw)) > NAME_BYTES_MAX:
        raise wrong("an attribute name", raw)
    return str(raw)


def _value(raw: Any) -> bytes | None:
    if raw is not None and type(raw) is not bytes:
        raise wrong("an encoded value", raw)
    return raw


def _changes(raw: Any) -> dict[str, bytes | None]:
    if type(raw) is not dict:
        raise wrong("changes", raw)
    for name, value in raw.items():
        _attribute_name(name)
        _value(value)
    return raw


def _record(kind: type, *checks: Check) -> Check:
    def checked(raw: Any) -> Any:
        values = array(raw, len(checks))
        return kind(*[check(value) for check, value in zip(checks, values, strict=True)])

    return checked


def _copy_data(raw: Any) -> m.CopyData:
    terms, rows, version, last, tombstone, age_s, idle_s, write_ids, alias = array(raw, 9)
    table = many(term_of)(terms)
    attributes: dict[str, Attribute] = {}
    stamps: dict[tuple[int, int], Stamp] = {}
    if type(rows) is not tuple:
        raise wrong("attributes", rows)
    for row in rows:
        name, value, index, written = array(row, 4)
        stamp = stamps.get((index, written))
        if stamp is None:
            if whole_number(index) >= len(table):
                raise wrong("an index of a term", index)
            stamp = stamps[index, written] = Stamp(table[index], whole_number(written))
        # All sessions have the same few names: one object for each takes 50 bytes a session and name less.
        attributes[sys.intern(_attribute_name(name))] = Attribute(_value(value), stamp)
    last_stamp = stamp_of(last)
    return m.CopyData(
        attributes,
        whole_number(version),
        next((stamp for stamp in stamps.values() if stamp == last_stamp), last_stamp),
        truth(tombstone),
        duration(age_s),
        duration(idle_s),
        many(octets)(write_ids),
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


_alias = optional(pair(session_key, duration))
_status = _record(m.Status, truth, truth, truth, whole_number, whole_number, whole_number)
_rumours = many(_record(m.Rumour, life_of, whole_number, lives_of))
_held = _record(m.Held, text, term_of, whole_number, lives_of, stamp_of)

_VOTE = (life_of, node_name, duration, truth)

# The numbers are the protocol: never reuse one.
_SHAPES: dict[int, tuple[type, tuple[Check, ...]]] = {
    19: (m.Lives, (lives_of,)),
    2: (m.Ping, (whole_number, _status, _rumours)),
    3: (m.Pong, (whole_number, _status, _rumours)),
    4: (m.Vote, _VOTE),
    5: (m.Leave, (life_of,)),
    6: (m.Roll, (many(node_name), many(_record(m.Vote, *_VOTE)))),
    7: (m.LeaseAsk, (whole_number,)),
    8: (m.LeaseAnswer, (whole_number, whole_number)),
    9: (m.StandingAsk, ()),
    10: (m.SnapshotRequest, (whole_number,)),
    11: (
        m.Snapshot,
        (
            entries_of,
            truth,
            many(_record(m.Acquaintance, life_of, text)),
            lives_of,
            whole_number,
            whole_number,
        ),
    ),
    15: (m.StandingAnswer, (truth,)),
    16: (m.PingRequest, (whole_number, life_of)),
    17: (m.Relayed, (whole_number, life_of, truth)),
    12: (m.Locations, (entries_of,)),
    13: (m.Digest, (optional(_group), _digests)),
    18: (m.Denied, (many(triple(session_key, term_of, whole_number)),)),
    14: (m.Dir, (_bucket, entries_of, truth)),
    20: (m.Put, (session_key, term_of, whole_number, lives_of, _copy_data)),
    21: (
        m.Patch,
        (
            session_key,
            term_of,
            whole_number,
            optional(term_of),
            whole_number,
            whole_number,
            _changes,
            optional(octets),
        ),
    ),
    22: (m.Ack, (whole_number,)),
    23: (m.Nack, (whole_number,)),
    24: (m.Gap, (session_key, term_of)),
    25: (m.Fenced, (session_key, location_of)),
    26: (m.Release, (session_key, term_of, whole_number)),
    27: (m.Released, (session_key, term_of, whole_number)),
    28: (m.Confirm, (session_key, term_of, whole_number, stamp_of)),
    29: (m.Resigned, (session_key, term_of)),
    30: (m.Touch, (many(pair(session_key, duration)),)),
    31: (m.Forward, (session_key, octets, _changes, optional(whole_number), truth, optional(session_key))),
    32: (m.ForwardResult, (octets, text, whole_number, truth, text)),
    33: (m.Aliases, (many(triple(session_key, session_key, duration)),)),
    40: (m.Who, (session_key, whole_number)),
    41: (m.Here, (session_key, whole_number, optional(_held), optional(location_of), truth, truth)),
    42: (
        m.Claim,
        (session_key, life_of, optional(term_of), optional(term_of), whole_number, optional(location_of)),
    ),
    43: (m.Grant, (session_key, term_of, lives_of, _copy_data)),
    44: (m.Refer, (session_key, optional(location_of), truth, whole_number)),
    45: (m.Offer, (session_key, term_of, _copy_data)),
    46: (m.OfferOk, (session_key,)),
}
_NUMBERS: dict[type, int] = {kind: number for number, (kind, _) in _SHAPES.items()}
_WITH_COPY = frozenset({m.Put, m.Grant, m.Offer})
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
        if kind is m.Locations and (one := pack_one(fields[at], sender, numbers)) is not None:
            return _pack(one)
        fields = (*fields[:at], pack_entries(fields[at], sender, numbers), *fields[at + 1 :])
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
        raise wrong("a message", raw)
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
    known = known_terms.get(term)
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
        return one_location(raw, sender, numbered)
    try:
        kind, checks = _SHAPES[raw[0]]
    except (KeyError, TypeError):
        raise CodecError(f"no message has the number {raw[0]!r}") from None
    if len(raw) != len(checks) + 1:
        raise CodecError(f"{kind.__name__} has {len(checks)} fields, not {len(raw) - 1}")
    at = _ENTRIES_AT.get(kind)
    if at is not None and sender is not None:
        raw = (*raw[: at + 1], with_names(raw[at + 1], sender, numbered), *raw[at + 2 :])
    message: m.Message | m.Lives = kind(*[check(value) for check, value in zip(checks, raw[1:], strict=True)])
    return message


def _no_extensions(code: int, _data: bytes) -> Any:
    raise CodecError(f"extension type {code} on a link")
