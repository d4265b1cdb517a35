"""MODULE:APP on the command line, turned into the application that a node hosts.

Whatever goes wrong in somebody else's module becomes a `ConfigurationError` that says where, in one line.
"""

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from sessiond.errors import ConfigurationError


async def load_application(reference: str) -> web.Application:
    """Import `reference`: an `aiohttp.web.Application`, or a function (async or not) that returns one.

    The working directory is on the path, as it is for ``python -m``.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(f"{reference!r} is not MODULE:APP; write it as in shop.main:app")
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _raised(f"cannot import {module_name}", error) from error
        raise ConfigurationError(
            f"cannot import {module_name}: there is no module {error.name} in {directory} or on the Python path"
        ) from error
    except Exception as error:
        raise _raised(f"cannot import {module_name}", error) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"cannot host {reference}: {module_name} has no {part}{hint}")
        found = getattr(found, part)
    application = found
    if callable(found) and not isinstance(found, web.Application):
        application = await _call(reference, found)
    if not isinstance(application, web.Application):
        raise ConfigurationError(
            f"cannot host {reference}: it is a {type(application).__name__}, not an aiohttp.web.Application or a "
            "function without parameters that returns one"
        )
    return application


async def _call(reference: str, factory: Callable[[], object]) -> object:
    try:
        made = factory()
        return await made if inspect.isawaitable(made) else made
    except Exception as error:
        raise _raised(f"cannot host {reference}: calling it failed", error) from error


def _raised(what: str, error: Exception) -> ConfigurationError:
    """One line about an exception of the application: its type, its text, and the place in the application."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    place = f" ({outside[-1].filename}, line {outside[-1].lineno})" if outside else ""
    return ConfigurationError(f"{what}: {type(error).__name__}: {error}{place}")
