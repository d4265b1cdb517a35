"""The command line of both programs: fills a frozen settings dataclass from four sources.

Flags win over environment variables, these over the TOML file of ``--config``, that over defaults. The
dataclass is the one place where an option is written down: its name, type, default, and the docstring
under the field, which is what ``--help`` shows. A field with ``repr=False`` is a secret: it is taken from
environment and file only, because a command line can be read by everybody on the machine, and its value
appears in no message.

cyclopts parses and converts. This module adds what it leaves open: one strictness for every source (cyclopts
alone rounds 1.5 to 2 and reads "t" as true), messages that name source, key, value and what is expected, and
lists separated by commas. Whether values make sense together is for the settings' own module.
"""

import dataclasses
import difflib
import math
import os
import sys
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import UNSET, App, Argument, ArgumentCollection, CycloptsError, Parameter, Token
from cyclopts.config import Env
from cyclopts.help import DefaultFormatter, HelpPanel
from rich.console import Console, ConsoleOptions

from sessiond.contract.process import EXIT_AS_ASKED, EXIT_FAILED, EXIT_USAGE

FLATTENED = Parameter(name="*")
"""Marks a command's settings parameter: every field becomes an option."""

_arguments: ContextVar[Sequence[str] | None] = ContextVar("arguments", default=None)

ConfigFile = Annotated[
    Path | None,
    Parameter(help="TOML file with options by name, as in idle_timeout_s = 60. The others win over it."),
]
"""Type of a command's ``config`` parameter. The command itself has no use for the value."""


def command_line(program: str, settings: type, *, summary: str) -> App:
    """The application to which a program adds its commands; `invoke` runs it.

    The commands take the dataclass `settings` as `FLATTENED`, and ``config: ConfigFile``. Environment
    variables are the fields' names in capitals after ``PROGRAM_``.
    """
    secrets = frozenset(field.name for field in dataclasses.fields(settings) if not field.repr)
    prefix = f"{program.upper()}_"
    return App(
        name=program,
        version=lambda: f"{program} {metadata.version('sessiond')}",
        help=summary,
        help_epilogue=f"Every option is also an environment variable (--log-level: {prefix}LOG_LEVEL) and a key of "
        f"the TOML file (log_level). Exit codes: {EXIT_AS_ASKED} ended as asked, {EXIT_USAGE} usage or configuration, "
        f"{EXIT_FAILED} the rest.",
        config=[Env(prefix, command=False, show=False), _Sources(secrets)],
        default_parameter=Parameter(
            negative_iterable=(),
            env_var_split=lambda _type, value, **_options: [value],  # lists are split later, like the others
            show_default=lambda value: None if value in (None, "", (), False) else str(value),
        ),
        help_formatter=_HelpFormatter(hidden=secrets),
        result_action="return_value",
    )


def invoke(app: App, arguments: Sequence[str] | None, refusals: tuple[type[Exception], ...] = ()) -> int:
    """Run the command that `arguments` ask for (None: those of the process) and return the exit code.

    Wrong usage, and an exception of `refusals` raised by the command, is one short message and exit code 2.
    """
    program = app.name[0]
    _arguments.set(arguments)
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        command = " ".join([program, *(error.command_chain or ())])
        _complain(program, f"{error}\nTry: {command} --help")
    except refusals as error:
        _complain(program, str(error))
    else:
        return result if isinstance(result, int) else EXIT_AS_ASKED
    return EXIT_USAGE


def reread(app: App, parameter: str) -> Any:
    """What the running command's parameter would be if the program were started again now: the file may have changed.

    Raises ValueError with the text that such a start would have ended with.
    """
    try:
        _, bound, _ = app.parse_args(_arguments.get(), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ValueError(str(error)) from error
    bound.apply_defaults()
    return bound.arguments[parameter]


def unknown_variables(program: str, settings: type, *others: str) -> list[str]:
    """Environment variables that look like options of the program but are none, with what they may have meant.

    `others`: the command's parameters beside the settings. Such a variable deserves a warning, not a failure:
    orchestrators set their own (Kubernetes: ``SESSIOND_SERVICE_HOST``), and a newer release may know more.
    """
    prefix = f"{program.upper()}_"
    known = {name.upper() for name in (*(field.name for field in dataclasses.fields(settings)), *others)}
    given = (name.removeprefix(prefix) for name in sorted(os.environ) if name.startswith(prefix))
    return [f"{prefix}{name}{_did_you_mean(name, known, prefix)}" for name in given if name not in known]


def _complain(program: str, message: str) -> None:
    sys.stderr.write(f"{program}: {message}\n")


def _did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What a field takes: how messages call it, its types in TOML, and which texts can be read as one."""

    expected: str
    toml_types: tuple[type, ...]
    accepts: Callable[[str], bool] = lambda _text: True

    @classmethod
    def of(cls, argument: Argument) -> "_Kind":
        hint = argument.hint
        if get_origin(hint) in (Union, types.UnionType):
            (hint,) = (member for member in get_args(hint) if member is not types.NoneType)
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            return cls(f"one of {', '.join(choices)}", (str,), choices.__contains__)
        return _KINDS[get_origin(hint) or hint]

    def texts(self, value: object) -> list[str] | None:
        """A TOML value as the texts that a command line would have given; None if its type is another one."""
        if type(value) not in self.toml_types:
            return None
        if isinstance(value, list):
            return value if all(isinstance(element, str) for element in value) else None
        return [str(value)]


def _reads_as(number: type[int] | type[float]) -> Callable[[str], bool]:
    def accepts(text: str) -> bool:
        try:
            return math.isfinite(number(text))
        except (ValueError, OverflowError):
            return False

    return accepts


_LIST = _Kind("a list of texts", (str, list))
_BOOLEANS = ("true", "false", "yes", "no", "1", "0")
_KINDS: Mapping[Any, _Kind] = {
    str: _Kind("a text", (str,)),
    bool: _Kind("true or false", (bool,), lambda text: text.lower() in _BOOLEANS),
    int: _Kind("a whole number", (int,), _reads_as(int)),
    float: _Kind("a number", (int, float), _reads_as(float)),
    Path: _Kind("a path", (str,), bool),
    tuple: _LIST,
}


class _Sources:
    """Adds the file's values to those of flags and environment, and checks all of them alike.

    cyclopts calls it, after the flags and `Env`, with every argument and the tokens it got so far.
    """

    def __init__(self, secrets: frozenset[str]) -> None:
        self._secrets = secrets

    def __call__(self, _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        options = {_key(argument): argument for argument in arguments if not argument.children}
        config = options.pop("config", None)
        if config is not None and config.tokens:
            self._read(config.tokens[-1].value, options)
        for name, option in options.items():
            kind = _Kind.of(option)
            for token in option.tokens:
                if name in self._secrets and token.source == "cli":
                    raise CycloptsError(
                        msg=f"{token.keyword} on the command line shows the secret to everybody on the machine; "
                        f"use {token.keyword}-file or the environment variable"
                    )
                if token.implicit_value is UNSET and not kind.accepts(token.value):
                    raise self._mistyped(token, name, kind, token.value)
            if kind is _LIST:
                _split_at_commas(option)

    def _read(self, path: str, options: Mapping[str, Argument]) -> None:
        try:
            with Path(path).open("rb") as file:
                values = tomllib.load(file)
        except OSError as error:
            raise CycloptsError(msg=f"cannot read the configuration file {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CycloptsError(msg=f"the configuration file {path} is not TOML: {error}") from error
        for key, value in values.items():
            option = options.get(key)
            if option is None:
                raise CycloptsError(msg=f"{path}: unknown key {key}{_did_you_mean(key, options)}")
            kind = _Kind.of(option)
            texts = kind.texts(value)
            if texts is None:
                raise self._mistyped(Token(keyword=key, source=path), key, kind, value)
            if not option.tokens:
                for index, text in enumerate(texts):
                    option.append(Token(keyword=key, value=text, source=path, index=index))

    def _mistyped(self, token: Token, name: str, kind: _Kind, value: object) -> CycloptsError:
        match token.source:
            case "cli":
                where = token.keyword
            case "env":
                where = f"environment variable {token.keyword}"
            case path:
                where = f"{path}: {token.keyword}"
        found = "" if name in self._secrets else f", not {value!r}"
        return CycloptsError(msg=f"{where} must be {kind.expected}{found}")


def _key(option: Argument) -> str:
    """The option's name in a file."""
    return option.name.lstrip("-").replace("-", "_").lower()


def _split_at_commas(option: Argument) -> None:
    """``--join a,b --join c`` is three elements; nothing between commas is no element."""
    given = [token for token in option.tokens if token.implicit_value is UNSET]
    parts = [(token, part.strip()) for token in given for part in token.value.split(",") if part.strip()]
    option.tokens = [token.evolve(value=part, index=index) for index, (token, part) in enumerate(parts)]
    if given and not parts:
        option.tokens = [given[0].evolve(implicit_value=())]


class _HelpFormatter(DefaultFormatter):
    """cyclopts' help page without the fields that are no options."""

    def __init__(self, hidden: frozenset[str]) -> None:
        super().__init__()
        self._hidden = frozenset(f"--{name.replace('_', '-')}" for name in hidden)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        panel.entries = [entry for entry in panel.entries if self._hidden.isdisjoint(entry.positive_names)]
        super().__call__(console, options, panel)
