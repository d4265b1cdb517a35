"""Putting a fault into a method for a while: its source with one snippet replaced, compiled in its own module."""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One planted bug: in `method`, `right` becomes `wrong`."""

    name: str
    rule: str
    """The rule that it breaks, as in the protocol, or whose bug it was."""

    method: Any
    right: str
    wrong: str
    plan: str
    found_by: str
    """A pattern of the violation that finds it."""

    @property
    def owner(self) -> type:
        """The class that the method belongs to."""
        module = inspect.getmodule(self.method)
        owner = getattr(module, self.method.__qualname__.split(".")[0])
        assert isinstance(owner, type), "methods have classes"
        return owner


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The core with this bug in it."""
    source = textwrap.dedent(inspect.getsource(mutant.method))
    assert source.count(mutant.right) == 1, f"{mutant.name}: the code that it changes is not what it was"
    names: dict[str, Any] = {}
    code = compile(source.replace(mutant.right, mutant.wrong), f"<{mutant.name}>", "exec")
    exec(code, mutant.method.__globals__, names)  # the source is our own
    owner, method = mutant.owner, mutant.method.__name__
    right = owner.__dict__[method]
    setattr(owner, method, names[method])
    try:
        yield
    finally:
        setattr(owner, method, right)
