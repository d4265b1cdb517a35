"""The page that every contender serves where session writes are compared: a half-filled form.

A session has 13 attributes with names of 3 bytes and values of 20, 299 bytes together; the first request of a visitor
stores them all, each later one changes the first of them. The answer is the number of the write, which the changed
value says too. `peers/index.jsp` is the same page.
"""

from collections.abc import MutableMapping
from typing import Any

COUNT, *OTHERS = [f"a{number:02d}" for number in range(13)]
VALUE = "v" * 20


def answer_to(session: MutableMapping[str, Any]) -> str:
    """One request: changes the session, and says what number its write has."""
    stored = session.get(COUNT)
    number = 1 if stored is None else int(stored) + 1
    if stored is None:
        for name in OTHERS:
            session[name] = VALUE
    session[COUNT] = f"{number:020d}"
    return str(number)
