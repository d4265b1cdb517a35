"""What a list of nodes says of each: name, address, weight and zone, and how people write that in one text.

    node1=127.0.0.1:8101
    node1=127.0.0.1:8101;weight=3;zone=a

The list comes from options, from a reloaded configuration, or from the cluster itself; `Pool.set_nodes` follows it.
"""

import re
from dataclasses import dataclass

from sessiond.contract import address
from sessiond.contract.address import Address
from sessiond.contract.names import NODE_NAME

WEIGHT_MAX = 1000

ZONE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """`weight`: its share of new sessions beside the others'. `zone`: where it stands; empty if nobody said."""

    name: str
    address: Address
    weight: int = 1
    zone: str = ""


def parse(text: str) -> NodeSpec:
    """Take ``NAME=HOST:PORT[;weight=N][;zone=ZONE]`` apart. Raises ValueError with a text for whoever wrote it."""
    first, *extras = text.split(";")
    name, equals, where = first.partition("=")
    if not equals or NODE_NAME.fullmatch(name) is None:
        raise ValueError(f"node: {text!r} is not NAME=HOST:PORT, like node1=127.0.0.1:8101")
    try:
        weight, zone = _extras(extras)
        return NodeSpec(name, address.parse(where), weight, zone)
    except ValueError as error:
        raise ValueError(f"node {name}: {error}") from None


def _extras(texts: list[str]) -> tuple[int, str]:
    weight, zone = 1, ""
    for text in texts:
        key, _, value = text.partition("=")
        match key:
            case "weight":
                weight = parse_weight(value)
            case "zone":
                zone = parse_zone(value)
            case _:
                raise ValueError(f"{text!r} is neither weight=NUMBER nor zone=NAME")
    return weight, zone


def parse_weight(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 6:
        raise ValueError(f"weight {text!r} is not a whole number from 0 to {WEIGHT_MAX}")
    return checked_weight(int(text))


def checked_weight(weight: int) -> int:
    if not 0 <= weight <= WEIGHT_MAX:
        raise ValueError(f"a weight is a whole number from 0 to {WEIGHT_MAX}, not {weight}")
    return weight


def parse_zone(text: str) -> str:
    if ZONE_NAME.fullmatch(text) is None:
        raise ValueError(f"zone {text!r} is not a name of letters, digits, dots, dashes and underscores")
    return text
