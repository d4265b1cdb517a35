"""Measured figures as part of a page of docs/: a table between two marks, which a rerun replaces."""

from collections.abc import Iterable, Sequence
from pathlib import Path


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, the others are figures."""
    rule = ("---", *("---:" for _ in heading[1:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in (heading, rule, *rows))


def fill_in(page: Path, command: str, text: str) -> None:
    """Replace what stands between the marks of this command. Raises ValueError if the page has none."""
    begin, end = f"<!-- figures: {command} -->", f"<!-- end of figures: {command} -->"
    old = page.read_text()
    if old.count(begin) != 1 or old.count(end) != 1:
        raise ValueError(f"{page} needs the lines {begin} and {end}, once each, around its figures")
    head, _, rest = old.partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}")
