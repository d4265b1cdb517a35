"""A small language for courses of events: each command with what it showed, as in a terminal.

    > boot n1 n2 n3
    > create n1 s a=1
    acked v1
    > name B = backup of s
    > kill n1
    > read B s
    a=1

A line that begins with ``>`` is a command; the lines below it are its output, compared to the letter. Everything
before the first command says why the transcript exists. The world has no delays: what happens is what is told.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise, zip_longest

from sessiond.backend import Committed, Elsewhere
from sessiond.core import messages
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.errors import Conflict, SessionGone, Unavailable
from tests.core.world import World

MOMENT_S = 0.3
"""Long enough for a handoff; shorter than any time-out of the cluster."""

ROLES = {"P": "primary", "B": "backup", "Q": "quarantined"}


class Script:
    """The state of one transcript: its world, the names that it gave, and operations that wait."""

    def __init__(self) -> None:
        self._options: dict[str, object] = {}
        self._world: World | None = None
        self._given: dict[str, str] = {}
        self._operations: dict[str, tuple[str, int]] = {}
        self._held: dict[str, Checkout] = {}

    @property
    def world(self) -> World:
        if self._world is None:
            self._world = World(Options(**self._options))  # type: ignore[arg-type]  # words of the script
        return self._world

    def do(self, line: str) -> list[str]:
        """Carry out one command; the lines that it shows."""
        line, _, label = line.partition(" as ")
        verb, *words = line.split()
        command: Callable[..., object] = getattr(self, f"do_{verb}")
        shown = command(*words, **({"label": label} if label else {}))
        self.world.settle()
        if shown is None:
            return []
        return [self._with_given_names(text) for text in ([shown] if isinstance(shown, str) else list(shown))]

    def _with_given_names(self, text: str) -> str:
        for given, name in self._given.items():
            text = re.sub(rf"\b{name}\b", given, text)
        return text

    def _name(self, word: str) -> str:
        return self._given.get(word, word)

    @staticmethod
    def key(session: str) -> bytes:
        return session.encode().ljust(16, b"-")

    # --- the cluster ----------------------------------------------------------------------------------

    def do_options(self, *settings: str) -> None:
        kinds = {field.name: type(field.default) for field in fields(Options)}
        for setting in settings:
            name, _, value = setting.partition("=")
            self._options[name] = kinds[name](value)

    def do_boot(self, *names: str) -> None:
        self.world.boot(*map(self._name, names))
        self.world.run(1.0)

    def do_start(self, *names: str) -> None:
        """Boot, and let no time pass."""
        self.world.boot(*map(self._name, names))

    def do_name(self, given: str, _is: str, role: str, _of: str, session: str, number: str = "1") -> str:
        """`name B = backup of s`: the transcript's own name for whoever has this role now."""
        key = self.key(session)
        names = {
            "primary": lambda: self.world.primaries(key),
            "backup": lambda: self.world.listed(key),
            "stranger": lambda: self.world.strangers(key),
        }[role]()
        self._given[given] = names[int(number) - 1]
        return ""

    def do_run(self, seconds: str) -> None:
        self.world.run(float(seconds.removesuffix("s")))

    def do_kill(self, name: str) -> None:
        self.world.kill(self._name(name))

    def do_stop(self, name: str) -> None:
        self.world.stop(self._name(name))

    def do_resume(self, name: str) -> None:
        self.world.resume(self._name(name))

    def do_reset(self, one: str, other: str) -> None:
        self.world.reset(self._name(one), self._name(other))

    def do_drain(self, name: str) -> None:
        self.world.machine(self._name(name)).begin_drain(self.world.now)

    def do_cut(self, *words: str) -> None:
        groups = " ".join(self._name(word) for word in words).split("|")
        self.world.part(*groups)

    def do_heal(self, *names: str) -> None:
        """All of the network, or `heal A B`: only between these."""
        self.world.heal(*map(self._name, names))

    def do_hold(self, *words: str) -> None:
        """`hold Patch Put from A to B`: what is sent so does not arrive, nor what follows it there."""
        ends = dict(pairwise(words))
        by, to = (self._name(ends[end]) if end in ends else None for end in ("from", "to"))
        kinds = [getattr(messages, word) for word in words if hasattr(messages, word)]
        self.world.hold(*kinds, by=by, to=to)

    def do_pass(self, *kinds: str) -> None:
        """`pass Grant`: messages of these kinds are not held any more."""
        self.world.let_go(*(getattr(messages, kind) for kind in kinds))

    def do_release(self, *what: str) -> str:
        """`release all`: what is held arrives; `release r`: the request that holds a session is done."""
        if what == ("all",):
            self.world.let_go()
            return ""
        held = self._held.pop(what[0], None)
        if held is None:
            return f"{what[0]} holds no session"
        held.release()
        return ""

    # --- requests -------------------------------------------------------------------------------------

    def _ask(self, name: str, label: str, verb: str, *args: object, **kwargs: object) -> str:
        node = self._name(name)
        operation = self.world.ask(node, verb, *args, **kwargs)
        label = label or f"{len(self._operations)}"
        self._operations[label] = (node, operation)
        return self.do_outcome(label)

    def do_outcome(self, label: str) -> str:
        node, operation = self._operations[label]
        outcome = self.world.outcome(node, operation)
        match outcome:
            case Checkout():
                self._held[label] = outcome
                values = {name: outcome.read(name) or b"" for name in sorted(outcome.names())}
                return " ".join(f"{name}={value.decode()}" for name, value in values.items()) or "empty"
            case Committed(version, protected):
                return f"acked v{version}" if protected else f"unprotected v{version}"
            case "pending":
                return "waits"
            case Elsewhere(owner):
                return f"look at {owner}"
            case Conflict():
                return "conflict"
            case Unavailable():
                return "unavailable"
            case SessionGone() | None:
                return "gone"
        return repr(outcome)

    def do_create(self, name: str, session: str, *values: str, label: str = "") -> str:
        return self._ask(name, label, "create", self.key(session), self._values(values))

    def do_write(self, name: str, session: str, *values: str, label: str = "") -> str:
        return self._ask(name, label, "commit", self.key(session), self._values(values), None)

    def do_end(self, name: str, session: str, label: str = "") -> str:
        return self._ask(name, label, "invalidate", self.key(session))

    def do_open(self, name: str, session: str, label: str = "") -> str:
        """A request that holds the session until it is released."""
        return self._ask(name, label, "open", self.key(session), may_refer=False)

    def do_read(self, name: str, session: str) -> str:
        """A whole request that only reads, and has a moment for it: shown is what is answered."""
        shown = self.do_open(name, session, label="reading")
        if shown == "waits":
            self.world.run(MOMENT_S)
            shown = self.do_outcome("reading")
        held = self._held.pop("reading", None)
        if held is None:
            return shown
        node = self._name(name)
        committed = self.world.ask(node, "commit", self.key(session), {}, None)
        held.release()
        return shown if self.world.outcome(node, committed) != "pending" else "waits"

    @staticmethod
    def _values(words: tuple[str, ...]) -> dict[str, bytes]:
        return {name: value.encode() for name, _, value in (word.partition("=") for word in words)}

    # --- what there is to see -------------------------------------------------------------------------

    def do_where(self, session: str) -> Iterator[str]:
        key = self.key(session)
        for name, role in self.world.where(key).items():
            copy = self.world.machine(name).copies[key]
            yield f"{name} {ROLES[role]} v{copy.version} epoch {copy.term.epoch}"

    def do_list(self, session: str) -> str:
        """The list of a session's backups, as its primary has it."""
        return " ".join(self.world.listed(self.key(session))) or "empty"

    def do_members(self, name: str) -> str:
        return " ".join(sorted(self.world.members(self._name(name))))

    def do_joined(self, *names: str) -> Iterator[str]:
        for name in names or sorted(self.world.processes):
            is_in = self.world.machine(self._name(name)).membership.joined
            yield f"{name} {'has joined' if is_in else 'is joining'}"

    def do_agreed(self, session: str) -> str:
        """Whether all directories say the same."""
        key = self.key(session)
        known = {process.machine.directory.get(key) for process in self.world.processes.values()}
        return "everybody agrees" if len(known) == 1 else f"{len(known)} opinions"


def replayed(transcript: str) -> str:
    """The transcript with the output that its commands have now."""
    script = Script()
    lines: list[str] = []
    has_begun = False
    for line in transcript.splitlines():
        if line.startswith("> "):
            has_begun = True
            lines.append(line)
            lines += [shown for shown in script.do(line[2:]) if shown]
        elif not has_begun or line.startswith("#") or not line:
            lines.append(line)
    return "\n".join(lines) + "\n"


def difference(transcript: str) -> str | None:
    """The first line that is not shown as told, and below which command; None if all is as told."""
    command = ""
    for told, shown in zip_longest(transcript.splitlines(), replayed(transcript).splitlines()):
        if told != shown:
            return f"below `{command}`: {shown!r}, not {told!r}"
        command = told if told.startswith("> ") else command
    return None
