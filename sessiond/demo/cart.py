"""The goods, and what may lie in a cart. A cart is a list of item names, in the order they were added."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

CART_ITEMS_MAX = 50
"""Items in one cart, so that a visitor who keeps adding cannot grow the session without end."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to buy; `name` is the word in carts and requests, the price is in cents."""

    name: str
    title: str
    price_cents: int

    @property
    def price(self) -> str:
        return euros(self.price_cents)


CATALOGUE = {
    item.name: item
    for item in (
        Item("teapot", "Stoneware teapot", 3800),
        Item("mug", "Enamel mug", 1450),
        Item("lamp", "Reading lamp", 6400),
        Item("plant", "Rubber plant", 1900),
        Item("notebook", "Linen notebook", 1250),
        Item("candle", "Beeswax candle", 900),
    )
}


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the cart as people read it: an item and how many of it."""

    item: Item
    count: int

    @property
    def price(self) -> str:
        return euros(self.item.price_cents * self.count)


def lines(cart: Sequence[str]) -> list[Line]:
    """The cart by item, in the order of first adding."""
    return [Line(CATALOGUE[name], count) for name, count in Counter(cart).items()]


def total(cart: Sequence[str]) -> str:
    return euros(sum(CATALOGUE[name].price_cents for name in cart))


def euros(cents: int) -> str:
    return f"€{cents // 100}.{cents % 100:02}"
