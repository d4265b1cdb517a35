"""What comes from a peer, checked value by value: each function takes a raw value and returns it as what it is to be.

Lives, terms and locations are shared between messages: most sessions have few owners and backups.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sessiond.contract.names import NODE_NAME
from sessiond.contract.session_id import KEY_BYTES
from sessiond.core.types import Key, Life, Location, Stamp, Term

INTERNED_MAX = 16_384
"""Lives, terms and locations kept to be shared; a table is emptied when it is full."""

INTEGER_MAX = 2**63 - 1


class CodecError(Exception):
    """Not a message of this protocol; the link it came by cannot be trusted any further."""


T = TypeVar("T")

Check = Callable[[Any], Any]
known_lives: dict[Any, Life] = {}
known_terms: dict[Any, Term] = {}
known_locations: dict[Any, Location] = {}


def wrong(what: str, raw: object) -> CodecError:
    return CodecError(f"{what} expected, not {type(raw).__name__} {repr(raw)[:60]}")


def whole_number(raw: Any) -> int:
    if type(raw) is not int or not 0 <= raw <= INTEGER_MAX:
        raise wrong("a whole number", raw)
    return raw


def truth(raw: Any) -> bool:
    if type(raw) is not bool:
        raise wrong("true or false", raw)
    return raw


def duration(raw: Any) -> float:
    # The negated comparison refuses NaN too.
    if type(raw) not in (int, float) or not 0 <= raw <= INTEGER_MAX:
        raise wrong("a duration", raw)
    return float(raw)


def text(raw: Any) -> str:
    if type(raw) is not str:
        raise wrong("text", raw)
    return raw


def octets(raw: Any) -> bytes:
    if type(raw) is not bytes:
        raise wrong("bytes", raw)
    return raw


def session_key(raw: Any) -> Key:
    if type(raw) is not bytes or len(raw) != KEY_BYTES:
        raise wrong("a session key", raw)
    return raw


def array(raw: Any, length: int) -> tuple[Any, ...]:
    if type(raw) is not tuple or len(raw) != length:
        raise wrong(f"an array of {length}", raw)
    return raw


def node_name(raw: Any) -> str:
    if NODE_NAME.fullmatch(text(raw)) is None:
        raise wrong("a node name", raw)
    return str(raw)


def life_of(raw: Any) -> Life:
    known = known_lives.get(raw) if type(raw) is tuple else None
    if known is None:
        name, incarnation = array(raw, 2)
        node_name(name)
        if len(known_lives) >= INTERNED_MAX:
            known_lives.clear()
        known = known_lives[raw] = Life(name, whole_number(incarnation))
    return known


def term_of(raw: Any) -> Term:
    known = known_terms.get(raw) if type(raw) is tuple else None
    if known is None:
        epoch, owner = array(raw, 2)
        if len(known_terms) >= INTERNED_MAX:
            known_terms.clear()
        known = known_terms[raw] = Term(whole_number(epoch), life_of(owner))
    return known


def stamp_of(raw: Any) -> Stamp:
    term, version = array(raw, 2)
    return Stamp(term_of(term), whole_number(version))


def any_array(raw: Any) -> tuple[Any, ...]:
    if type(raw) is not tuple:
        raise wrong("an array", raw)
    return raw


def many(check: Check) -> Check:
    def checked(raw: Any) -> tuple[Any, ...]:
        return tuple([check(item) for item in any_array(raw)])

    return checked


lives_of: Callable[[Any], tuple[Life, ...]] = many(life_of)


def optional(check: Check) -> Check:
    return lambda raw: None if raw is None else check(raw)


def pair(first: Check, second: Check) -> Check:
    def checked(raw: Any) -> tuple[Any, Any]:
        one, two = array(raw, 2)
        return (first(one), second(two))

    return checked


def triple(first: Check, second: Check, third: Check) -> Check:
    def checked(raw: Any) -> tuple[Any, Any, Any]:
        one, two, three = array(raw, 3)
        return (first(one), second(two), third(three))

    return checked


def location_of(raw: Any) -> Location:
    # Equal ones are usual: sessions of one owner and backup. (Of 1 and True, equal too, either may come first.)
    known = known_locations.get(raw) if type(raw) is tuple else None
    if known is None or type(raw[3]) is not bool:
        term, seq, backups, gone = array(raw, 4)
        known = Location(term_of(term), whole_number(seq), lives_of(backups), truth(gone))
        if len(known_locations) >= INTERNED_MAX:
            known_locations.clear()
        known_locations[raw] = known
    return known


def at_index(index: Any, table: Sequence[T]) -> T:
    at = whole_number(index)
    if at >= len(table):
        raise wrong(f"an index below {len(table)}", index)
    return table[at]
