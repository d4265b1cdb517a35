"""The loader that both programs share: precedence, strictness, messages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from cyclopts import Parameter

import sessiond
from sessiond.contract.configuration import (
    FLATTENED,
    ConfigFile,
    command_line,
    invoke,
    unknown_variables,
)
from sessiond.contract.process import EXIT_USAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One field of each type that settings use."""

    name: str = "plain"
    """What it is called."""

    count: int = 3
    """How many there are."""

    wait_s: float = 0.5
    """How long it takes."""

    brave: bool = False
    """Whether it is brave."""

    mode: Literal["slow", "fast"] = "slow"
    """How it goes."""

    file: Path | None = None
    """Where it lies."""

    peers: tuple[str, ...] = ()
    """Who else is there."""

    secret: str = field(default="", repr=False)
    """Nobody may see it."""


class Program:
    """A small program of one command; `options` are what it was last run with."""

    def __init__(self) -> None:
        self.app = command_line("prog", Options, summary="A program.")
        self.options: Options | None = None
        self.argument = ""

        @self.app.command
        def run(
            what: Annotated[str, Parameter(name="APP")] = "",
            /,
            *,
            settings: Annotated[Options, FLATTENED] = Options(),
            config: ConfigFile = None,
        ) -> None:
            """Run it."""
            self.options = settings
            self.argument = what

    def __call__(self, *arguments: str) -> int:
        self.options = None
        return invoke(self.app, ["run", *arguments])

    def of(self, *arguments: str) -> Options:
        assert self(*arguments) == 0
        assert self.options is not None
        return self.options


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "prog.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def refused(program: Program, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the program with what it must refuse; returns the message."""

    def run(*arguments: str) -> str:
        assert program(*arguments) == EXIT_USAGE
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("prog: ")
        assert "Traceback" not in output.err
        return output.err

    return run


def test_without_anything_given_the_defaults_hold(program: Program) -> None:
    assert program.of() == Options()


def test_flags_win_over_environment_over_file_over_defaults(
    program: Program, toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROG_NAME", "environment")
    monkeypatch.setenv("PROG_COUNT", "20")
    path = toml('name = "file"\ncount = 30\nwait_s = 30\n')
    options = program.of("--config", path, "--name", "flag")
    assert (options.name, options.count, options.wait_s, options.mode) == ("flag", 20, 30.0, "slow")


def test_the_file_may_be_named_by_the_environment(
    program: Program, toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROG_CONFIG", toml("count = 7"))
    assert program.of().count == 7


def test_every_type_can_be_given_in_a_file(program: Program, toml: Callable[[str], str]) -> None:
    path = toml(
        'name = "n"\ncount = 9\nwait_s = 1.5\nbrave = true\nmode = "fast"\nfile = "/f"\npeers = ["a:1", "b:2"]\nsecret = "s"'
    )
    assert program.of("--config", path) == Options(
        name="n",
        count=9,
        wait_s=1.5,
        brave=True,
        mode="fast",
        file=Path("/f"),
        peers=("a:1", "b:2"),
        secret="s",
    )


def test_every_type_can_be_given_in_the_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "NAME": "n",
        "COUNT": "9",
        "WAIT_S": "1.5",
        "BRAVE": "yes",
        "MODE": "fast",
        "FILE": "/f",
        "SECRET": "s",
    }
    for name, value in {**given, "PEERS": "a:1, b:2"}.items():
        monkeypatch.setenv(f"PROG_{name}", value)
    assert program.of() == Options(
        name="n",
        count=9,
        wait_s=1.5,
        brave=True,
        mode="fast",
        file=Path("/f"),
        peers=("a:1", "b:2"),
        secret="s",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--peers", "a,b,c"),
        ("--peers", "a", "--peers", "b", "--peers", "c"),
        ("--peers", "a, b,,", "--peers=c"),
    ],
)
def test_a_list_is_separated_by_commas_or_repeated(program: Program, arguments: tuple[str, ...]) -> None:
    assert program.of(*arguments).peers == ("a", "b", "c")


def test_an_empty_list_on_the_command_line_wins_over_a_full_one_in_the_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROG_PEERS", "a,b")
    assert program.of("--peers", "").peers == ()


def test_a_switch_can_be_turned_off_against_the_environment(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROG_BRAVE", "true")
    assert program.of("--no-brave").brave is False


def test_an_argument_without_a_flag_has_the_same_sources(
    program: Program, toml: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml('app = "file"')
    program("--config", path)
    assert program.argument == "file"
    monkeypatch.setenv("PROG_APP", "environment")
    program("--config", path)
    assert program.argument == "environment"
    program("command line", "--config", path)
    assert program.argument == "command line"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--count", "two"), "--count must be a whole number, not 'two'"),
        (("--count", "1.5"), "--count must be a whole number, not '1.5'"),
        (("--wait-s", "soon"), "--wait-s must be a number, not 'soon'"),
        (("--wait-s", "nan"), "--wait-s must be a number, not 'nan'"),
        (("--mode", "quick"), "--mode must be one of slow, fast, not 'quick'"),
        (("--file", ""), "--file must be a path, not ''"),
        (("--nmae", "x"), "Unknown option: --nmae. Did you mean --name?"),
        (("app", "stray"), "stray"),
        (("--name",), "--name requires an argument"),
        (("--name", "a", "--name", "b"), "--name specified multiple times"),
    ],
)
def test_a_wrong_flag_is_refused_by_name_with_a_hint_at_the_help(
    refused: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    text = refused(*arguments)
    assert message in text
    assert text.endswith("Try: prog run --help\n")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PROG_COUNT", "two", "environment variable PROG_COUNT must be a whole number, not 'two'"),
        ("PROG_BRAVE", "maybe", "environment variable PROG_BRAVE must be true or false, not 'maybe'"),
        ("PROG_MODE", "FAST", "environment variable PROG_MODE must be one of slow, fast, not 'FAST'"),
    ],
)
def test_a_wrong_environment_variable_is_refused_by_name(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert message in refused()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('count = "3"', "count must be a whole number, not '3'"),
        ("count = 2.5", "count must be a whole number, not 2.5"),
        ("count = true", "count must be a whole number, not True"),
        ("wait_s = inf", "wait_s must be a number, not 'inf'"),
        ("name = 5", "name must be a text, not 5"),
        ('brave = "yes"', "brave must be true or false, not 'yes'"),
        ('mode = "quick"', "mode must be one of slow, fast, not 'quick'"),
        ("peers = [1, 2]", "peers must be a list of texts, not [1, 2]"),
        ('[peers]\na = "1"', "peers must be a list of texts, not {'a': '1'}"),
    ],
)
def test_a_mistyped_value_in_a_file_is_refused_by_file_and_key(
    refused: Callable[..., str], toml: Callable[[str], str], line: str, message: str
) -> None:
    path = toml(line)
    assert f"{path}: {message}" in refused("--config", path)


def test_a_mistyped_value_in_a_file_is_refused_even_if_a_flag_wins_over_it(
    refused: Callable[..., str], toml: Callable[[str], str]
) -> None:
    assert "count must be a whole number" in refused("--config", toml('count = "many"'), "--count", "1")


def test_an_unknown_key_in_a_file_is_refused_by_file_and_key_with_a_suggestion(
    refused: Callable[..., str], toml: Callable[[str], str]
) -> None:
    path = toml("wait = 3")
    assert f"{path}: unknown key wait (did you mean wait_s?)" in refused("--config", path)


def test_a_file_cannot_name_another_file(refused: Callable[..., str], toml: Callable[[str], str]) -> None:
    assert "unknown key config" in refused("--config", toml('config = "other.toml"'))


def test_a_file_that_is_missing_is_refused_by_name(refused: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "absent.toml"
    assert f"cannot read the configuration file {path}: No such file" in refused("--config", str(path))


def test_a_directory_in_place_of_the_file_is_refused_by_name(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    assert f"cannot read the configuration file {tmp_path}: Is a directory" in refused(
        "--config", str(tmp_path)
    )


@pytest.mark.parametrize("content", [b"name = \n", b"just words", b'name = "\xff"'])
def test_a_file_that_is_not_toml_is_refused_by_name(
    refused: Callable[..., str], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    assert f"the configuration file {path} is not TOML" in refused("--config", str(path))


def test_a_secret_on_the_command_line_is_refused_without_repeating_it(refused: Callable[..., str]) -> None:
    text = refused("--secret", "hunter2hunter2")
    assert "--secret-file" in text
    assert "hunter2" not in text


def test_a_mistyped_secret_is_refused_without_repeating_it(
    refused: Callable[..., str], toml: Callable[[str], str]
) -> None:
    text = refused("--config", toml("secret = 31337"))
    assert "secret must be a text" in text
    assert "31337" not in text


def test_help_shows_each_option_with_its_docstring_and_no_secret(
    program: Program, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROG_SECRET", "hunter2hunter2")
    assert program("--help") == 0
    page = capsys.readouterr().out
    for words in (
        "--name",
        "What it is called.",
        "--wait-s",
        "How long it takes.",
        "--config",
        "[default: 3]",
        "PROG_",
    ):
        assert words in page
    for words in ("--secret", "Nobody may see it", "hunter2"):
        assert words not in page


def test_version_names_the_program(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(program.app, ["--version"]) == 0
    assert capsys.readouterr().out == f"prog {sessiond.__version__}\n"


def test_an_unknown_command_is_refused(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(program.app, ["walk"]) == EXIT_USAGE
    assert "walk" in capsys.readouterr().err


def test_a_refusal_by_the_command_is_one_message_and_another_exception_is_not_caught(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = command_line("prog", Options, summary="A program.")

    @app.command
    def fail(how: str) -> None:
        raise {"refuse": LookupError, "crash": ZeroDivisionError}[how]("because")

    assert invoke(app, ["fail", "refuse"], refusals=(LookupError,)) == EXIT_USAGE
    assert capsys.readouterr().err == "prog: because\n"
    with pytest.raises(ZeroDivisionError):
        invoke(app, ["fail", "crash"], refusals=(LookupError,))


def test_unknown_variables_are_told_with_a_suggestion_and_never_fail(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROG_CUONT", "5")
    monkeypatch.setenv("PROG_SERVICE_HOST_XYZ", "10.0.0.1")
    monkeypatch.setenv("PROG_CONFIG_DIR", "/etc")
    monkeypatch.setenv("PROG_COUNT", "4")
    monkeypatch.setenv("OTHER_COUNT", "5")
    assert program.of().count == 4
    assert unknown_variables("prog", Options, "config") == [
        "PROG_CONFIG_DIR (did you mean PROG_CONFIG?)",
        "PROG_CUONT (did you mean PROG_COUNT?)",
        "PROG_SERVICE_HOST_XYZ",
    ]
