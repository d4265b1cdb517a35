"""A node's API port that tells of the members it is given."""

from dataclasses import dataclass, field

from aiohttp import web

from sessiond.contract.cluster_view import ClusterView, MemberState, MemberView


@dataclass
class FakeApi:
    """`members` by state; `apis` and `addresses`: theirs, where they matter. `answer`: given instead of the view."""

    name: str
    members: dict[str, MemberState] = field(default_factory=dict)
    apis: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    cluster: str = "shop"
    answer: web.Response | None = None
    asked: int = 0
    address: str = "127.0.0.1:0"
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/cluster", self._cluster)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        host, port = self.address.split(":")
        await web.TCPSite(self._runner, host, int(port)).start()
        self.address = "{}:{}".format(*self._runner.addresses[0][:2])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _cluster(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"error": "unauthorized", "message": ""}, status=401)
        if self.answer is not None:
            return self.answer
        rows = tuple(
            MemberView(
                name=name,
                incarnation=1,
                state=state,
                http=self.addresses.get(name, "127.0.0.1:9"),
                cluster="127.0.0.1:9",
                api=self.apis.get(name, ""),
                zone="z",
                primaries=None,
                backups=None,
                unprotected=None,
            )
            for name, state in self.members.items()
        )
        return web.json_response(ClusterView(self.cluster, self.name, "any", rows).to_json())
