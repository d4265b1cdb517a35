"""Putting a fault into methods for a while: their source with a snippet replaced, compiled in its own module."""

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Edit:
    """In `method`, `right` becomes `wrong`."""

    method: Any
    right: str
    wrong: str

    @property
    def owner(self) -> type:
        """The class that the method belongs to."""
        module = inspect.getmodule(self.method)
        owner = getattr(module, self.method.__qualname__.split(".")[0])
        assert isinstance(owner, type), "methods have classes"
        return owner


@dataclass(frozen=True, kw_only=True)
class Mutant(Edit):
    """One planted bug, and who finds it: the seeds of a plan, or a scenario."""

    name: str
    rule: str
    """The rule that it breaks, as in the protocol, or whose bug it was."""

    beside: tuple[Edit, ...] = ()
    """The second defences against the same fault, which go with it: else nothing would be broken."""

    plan: str = ""
    scenario: str = ""
    """Instead of a plan: the transcript that is aimed at it."""

    found_by: str
    """A pattern of the violation, or of what the scenario shows instead."""


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The core with this bug in it."""
    with ExitStack() as stack:
        for edit in (mutant, *mutant.beside):
            stack.enter_context(_edited(edit, mutant.name))
        yield


@contextmanager
def _edited(edit: Edit, name: str) -> Iterator[None]:
    source = textwrap.dedent(inspect.getsource(edit.method))
    assert source.count(edit.right) == 1, f"{name}: the code that it changes is not what it was"
    names: dict[str, Any] = {}
    code = compile(source.replace(edit.right, edit.wrong), f"<{name}>", "exec")
    exec(code, edit.method.__globals__, names)  # the source is our own
    owner, method = edit.owner, edit.method.__name__
    right = owner.__dict__[method]
    setattr(owner, method, names[method])
    try:
        yield
    finally:
        setattr(owner, method, right)
