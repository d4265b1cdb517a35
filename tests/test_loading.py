"""MODULE:APP: what can be hosted, and what is said about the rest."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from sessiond.errors import ConfigurationError
from sessiond.loading import load_application

SHOP = """
from aiohttp import web
app = web.Application()
class site:
    app = app
def make(): return web.Application()
async def make_async(): return web.Application()
def broken(): return 1 / 0
def greedy(node): return web.Application()
number = 5
def wrong(): return "a text"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes modules into the working directory; they are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("reference", ["shop1:app", "shop1:site.app", "shop1:make", "shop1:make_async"])
async def test_an_application_or_a_factory_of_one_is_found_in_the_working_directory(
    module: Callable[[str, str], None], reference: str
) -> None:
    module("shop1.py", SHOP)
    assert isinstance(await load_application(reference), web.Application)


async def test_an_application_in_a_package_is_found(module: Callable[[str, str], None]) -> None:
    module("pkg1/main.py", SHOP)
    assert isinstance(await load_application("pkg1.main:app"), web.Application)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("shop2", ["'shop2' is not MODULE:APP", "shop.main:app"]),
        (":app", ["':app' is not MODULE:APP"]),
        ("shop2:", ["'shop2:' is not MODULE:APP"]),
        ("shpo2:app", ["cannot import shpo2", "no module shpo2"]),
        ("shop2.sub:app", ["cannot import shop2.sub"]),
        ("shop2:ap", ["shop2 has no ap; did you mean app?"]),
        ("shop2:number", ["shop2:number", "is a int, not an aiohttp.web.Application"]),
        ("shop2:wrong", ["shop2:wrong", "is a str, not an aiohttp.web.Application"]),
        ("shop2:broken", ["calling it failed: ZeroDivisionError: division by zero", "shop2.py, line 8"]),
        ("shop2:greedy", ["calling it failed: TypeError", "node"]),
    ],
)
async def test_what_cannot_be_hosted_is_refused_by_name(
    module: Callable[[str, str], None], reference: str, words: list[str]
) -> None:
    module("shop2.py", SHOP)
    with pytest.raises(ConfigurationError) as refusal:
        await load_application(reference)
    for word in words:
        assert word in str(refusal.value)
    assert "loading.py" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise RuntimeError('no database')", ["RuntimeError: no database", "bad3.py, line 2"]),
        ("import absent_library_xyz", ["No module named 'absent_library_xyz'", "bad3.py, line 1"]),
        ("def broken(:", ["SyntaxError: invalid syntax (bad3.py, line 1)"]),
    ],
)
async def test_a_module_that_fails_while_it_is_imported_is_told_with_the_place(
    module: Callable[[str, str], None], text: str, words: list[str]
) -> None:
    module("bad3.py", text)
    with pytest.raises(ConfigurationError, match="cannot import bad3") as refusal:
        await load_application("bad3:app")
    for word in words:
        assert word in str(refusal.value)
    sys.modules.pop("bad3", None)
