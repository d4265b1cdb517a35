"""A record as bytes, for backends that keep one value for a key, and its body for those that have columns.

    value  =  fence size (1)  fence  expires_at (8, float)  body
    fence  =  epoch (8)  owner  0  incarnation (8)  version (8)
    body   =  format (1)  checksum (4, CRC-32)  kind (1: 0 tombstone, 1 data)  data

Integers are big-endian, so two fences compare as bytes as their stamps compare: an owner's name holds no zero byte,
and UTF-8 keeps the order of characters. The checksum covers the key, the stamp, the expiry and all behind itself: a
value that was cut, changed or put under another key is noticed.

Every format has the same head before the format byte. So a program meets a newer record with its fence (it puts
nothing older over it, and removes it when it has expired), although it cannot read it.
"""

import struct
import zlib

from sessiond.errors import DamagedRecord, NewerRecord
from sessiond.stores.interface import Record

FORMAT = 1
"""Of what is written. Raise it with every change of the body, and keep reading the older ones."""

_TOMBSTONE, _DATA = 0, 1
_EPOCH = struct.Struct(">Q")
_REST = struct.Struct(">QQ")
_EXPIRY = struct.Struct(">d")
_BODY = struct.Struct(">BIB")

HEAD_BYTES_MAX = 1 + 255 + _EXPIRY.size
"""So much of a value is enough for `Head.of`."""

_FENCE_BYTES_MIN = _EPOCH.size + 1 + _REST.size


def fence(record: Record) -> bytes:
    """The stamp as bytes that compare as stamps do."""
    return b"%b%b\0%b" % (
        _EPOCH.pack(record.epoch),
        record.owner.encode(),
        _REST.pack(record.incarnation, record.version),
    )


def seal(record: Record) -> bytes:
    """The value of a record."""
    mark = fence(record)
    return b"%c%b%b%b" % (len(mark), mark, _EXPIRY.pack(record.expires_at), seal_body(record))


def unseal(key: bytes, value: bytes) -> Record:
    """The record of a value. Raises DamagedRecord."""
    head = Head.of(value)
    if head is None:
        raise DamagedRecord(key, "its head is broken")
    mark = head.fence
    try:
        owner, end = mark[_EPOCH.size : -_REST.size - 1].decode(), mark[-_REST.size - 1]
    except UnicodeDecodeError as error:
        raise DamagedRecord(key, "its head is broken") from error
    if end != 0:
        raise DamagedRecord(key, "its head is broken")
    (epoch,) = _EPOCH.unpack_from(mark)
    incarnation, version = _REST.unpack_from(mark, len(mark) - _REST.size)
    return unseal_body(
        Record(key, epoch, owner, incarnation, version, head.expires_at, None), value[head.size :]
    )


class Head:
    """What a value says before its body, whatever its format. Not covered by a check: `unseal` does that."""

    __slots__ = ("expires_at", "fence", "size")

    def __init__(self, fence: bytes, expires_at: float, size: int) -> None:
        self.fence = fence
        self.expires_at = expires_at
        self.size = size

    @classmethod
    def of(cls, value: bytes) -> "Head | None":
        """None for a value that has none."""
        if not value:
            return None
        end = 1 + value[0]
        if value[0] < _FENCE_BYTES_MIN or len(value) < end + _EXPIRY.size:
            return None
        (expires_at,) = _EXPIRY.unpack_from(value, end)
        return cls(value[1:end], expires_at, end + _EXPIRY.size)


def seal_body(record: Record) -> bytes:
    """Format, checksum and content, for a place that keeps key, stamp and expiry in columns."""
    kind, data = (_TOMBSTONE, b"") if record.data is None else (_DATA, record.data)
    return _BODY.pack(FORMAT, _checksum(record, kind, data), kind) + data


def unseal_body(record: Record, body: bytes) -> Record:
    """`record` with the content of its body. Raises DamagedRecord."""
    if len(body) < 1:
        raise DamagedRecord(record.key, "it is empty")
    if body[0] != FORMAT:
        if body[0] < FORMAT:
            raise DamagedRecord(record.key, f"there is no format {body[0]}")
        raise NewerRecord(
            record.key,
            f"its format is {body[0]}, and this program knows {FORMAT} at most: a newer one has written it",
        )
    if len(body) < _BODY.size:
        raise DamagedRecord(record.key, "it was cut short")
    _, checksum, kind = _BODY.unpack_from(body)
    data = body[_BODY.size :]
    if checksum != _checksum(record, kind, data):
        raise DamagedRecord(record.key, "its checksum is wrong")
    return Record(
        record.key,
        record.epoch,
        record.owner,
        record.incarnation,
        record.version,
        record.expires_at,
        None if kind == _TOMBSTONE else data,
    )


def _checksum(record: Record, kind: int, data: bytes) -> int:
    beginning = b"%b%b%b%c" % (record.key, fence(record), _EXPIRY.pack(record.expires_at), kind)
    return zlib.crc32(data, zlib.crc32(beginning))
