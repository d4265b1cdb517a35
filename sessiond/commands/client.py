"""The API of a running node, as the commands use it: views instead of JSON, and one sentence for what went wrong.

The node that is asked first need not be the one a command is about: every node knows where the others' APIs are.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
from aiohttp import hdrs
from yarl import URL

from sessiond.contract.address import Address, parse
from sessiond.contract.cluster_view import ClusterView, MemberState
from sessiond.contract.drain_view import DrainView
from sessiond.contract.location_view import LocationView
from sessiond.errors import ConfigurationError
from sessiond.settings import Settings, api_token

ANSWER_TIMEOUT_S = 5.0
"""A node that lives answers within milliseconds."""

View = TypeVar("View", ClusterView, DrainView, LocationView)

GONE = frozenset({MemberState.DEAD, MemberState.LEFT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Which node's API a command asks."""

    api: str = Settings().api
    """API address of the node to ask, HOST:PORT: any node of the cluster knows the others."""

    api_token_file: Path | None = None
    """File with the bearer token of the API port. The nodes of a cluster should share one."""


class CommandFailed(Exception):
    """What was asked for could not be had. The text names the thing and the way out."""


class ApiClient:
    """Asks nodes. An asynchronous context manager. Raises ConfigurationError for the address and the token file."""

    def __init__(self, asking: Asking) -> None:
        try:
            address = parse(asking.api)
        except ValueError as error:
            raise ConfigurationError(f"--api {error}") from error
        if (
            address.is_unspecified
        ):  # a node's own setting, in its own environment: it listens on loopback as well
            address = Address("::1" if ":" in address.host else "127.0.0.1", address.port)
        self._asked = str(address)
        self._token_file = asking.api_token_file
        token = api_token(self._token_file)
        headers = {hdrs.AUTHORIZATION: f"Bearer {token}"} if token is not None else None
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
        )

    async def __aenter__(self) -> "ApiClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def cluster(self) -> ClusterView:
        """The cluster as the asked node sees it. Raises CommandFailed, as all of these do."""
        return _read(_own_view, self._asked, await self._ask("GET", self._asked, "/v1/cluster"))

    async def locate(self, session: str) -> LocationView:
        """Where a session is."""
        path = f"/v1/locate/{quote(session, safe='')}"
        return _read(LocationView.from_json, self._asked, await self._ask("GET", self._asked, path))

    async def address_of(self, name: str) -> str:
        """The API address of a node that lives, and that answers there itself."""
        view = await self.cluster()
        members = {member.name: member for member in view.members}
        member = members.get(name)
        if member is None:
            raise CommandFailed(f"{view.node} knows no node {name}; it knows {', '.join(members)}")
        if name == view.node:
            return self._asked
        if member.state in GONE:
            raise CommandFailed(f"{name} is {member.state}, as {view.node} sees it: there is nothing to ask")
        if not member.api:
            raise CommandFailed(
                f"{view.node} has not met {name} yet and does not know its API address: try again"
            )
        try:
            found = await self.drain("GET", member.api)
        except CommandFailed as error:
            raise CommandFailed(f"cannot ask {name}: {error}") from error
        if found.node != name:
            raise CommandFailed(
                f"at {member.api}, the API address of {name}, {found.node} answers: ask on the machine of {name}, or "
                "give it --advertise-api"
            )
        return member.api

    async def drain(self, method: str, address: str) -> DrainView:
        """Look at (GET), begin (POST) or abort (DELETE) the drain of the node whose API is at `address`."""
        return _read(DrainView.from_json, address, await self._ask(method, address, "/v1/drain"))

    async def _ask(self, method: str, address: str, path: str) -> Any:
        url = URL(f"http://{address}{path}", encoded=True)
        try:
            async with self._session.request(method, url, allow_redirects=False) as answer:
                status, body = answer.status, await answer.json(content_type=None)
        except TimeoutError:
            raise CommandFailed(
                f"no answer from the node's API at {address} within {ANSWER_TIMEOUT_S:.0f} s"
            ) from None
        except aiohttp.ClientConnectionError as error:
            raise CommandFailed(
                f"nobody answers at {address} ({_reason(error)}): is a node's API there? --api HOST:PORT names another"
            ) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise CommandFailed(f"what answers at {address} is not the API of a node") from error
        if status == HTTPStatus.OK:
            return body
        raise CommandFailed(self._refusal(address, status, body))

    def _refusal(self, address: str, status: int, body: object) -> str:
        if status == HTTPStatus.UNAUTHORIZED:
            if self._token_file is None:
                return f"the node at {address} wants its API token: give --api-token-file FILE"
            return (
                f"the node at {address} does not take the token in {self._token_file}: it has another "
                "--api-token-file"
            )
        message = body.get("message") if isinstance(body, dict) else None
        return str(message) if message else f"the node at {address} answered {status}"


def _own_view(body: Any) -> ClusterView:
    view = ClusterView.from_json(body)
    if all(member.name != view.node for member in view.members):
        raise ValueError(f"{view.node} itself is not among its members")
    return view


def _read(reader: Callable[[Any], View], address: str, body: Any) -> View:
    try:
        return reader(body)
    except (KeyError, TypeError, ValueError) as error:
        raise CommandFailed(
            f"the node at {address} answers what this version of sessiond cannot read: {error!r}"
        ) from error


def _reason(error: aiohttp.ClientConnectionError) -> str:
    """Two words of the system, instead of aiohttp's two lines."""
    cause = error.__cause__
    if isinstance(cause, socket.gaierror):
        return "the name is not known"
    return os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(error)
