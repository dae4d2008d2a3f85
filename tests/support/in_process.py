"""The service in the process of the tests, so that a test can look into it: the application alone, or behind its server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from lastpair.server import KEEP_ALIVE_SECONDS
from lastpair.settings import Settings
from lastpair.web.application import create_app
from lastpair.web.components import Components, Lastpair
from lastpair.web.http_protocol import HttpProtocol
from lastpair.web.routes import routes
from lastpair.web.websocket_protocol import WebSocketProtocol
from tests.support.waiting import eventually


def settings_for(database_url: str, **settings: Any) -> Settings:
    """These settings, with a sweeper that sleeps. They are not checked, so they may be ones that production refuses.

    Any Host is allowed, because tests of raw requests invent one, unless `allowed_hosts` says otherwise.
    """
    return Settings.model_construct(database_url=database_url, **{"expiry_poll_ms": 3_600_000, "allowed_hosts": ["*"]} | settings)


@asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[Lastpair]:
    """The application without a server; see client_of_app."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def client_of_app(app: Lastpair) -> httpx.AsyncClient:
    """A client that calls the application directly."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost/api")


def contract_of(settings: Settings, base: str = "/api") -> dict[str, Any]:
    """The contract that a service with these settings answers under this base path. Not for use in an event loop."""

    async def get() -> dict[str, Any]:
        transport = httpx.ASGITransport(Starlette(routes=routes(settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://lastpair.test") as client:
            found: dict[str, Any] = (await client.get(f"{base}/openapi.json")).json()
        return found

    return asyncio.run(get())


def server_for(app: Any, **options: Any) -> uvicorn.Server:
    """A server for the application on a free port, with the protocols that lastpair.server uses, and its keep-alive.

    uvicorn's own ends after 5 s, as httpx's does, and a request that is sent at that moment gets no answer.
    """
    options = {"timeout_keep_alive": KEEP_ALIVE_SECONDS} | options
    config = uvicorn.Config(
        app,
        port=0,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        log_config=None,
        access_log=False,
        ws_per_message_deflate=False,
        **options,
    )
    return uvicorn.Server(config)


def url_of(server: uvicorn.Server) -> str:
    """The URL of a server that has started."""
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@dataclass(frozen=True)
class InProcess:
    """The service, served in this event loop."""

    components: Components
    server: uvicorn.Server
    url: str
    http: httpx.AsyncClient

    async def has_streams(self, count: int) -> None:
        """Wait until this many streams have a slot. Without streams no address may be remembered."""
        slots = self.components.stream_slots
        await eventually(lambda: slots._count == count and (count > 0 or not slots._used))

    async def has_subscribers(self, count: int) -> None:
        """Wait until the hub has this many subscribers. Without subscribers it may have no room but the global one."""
        hub = self.components.hub
        await eventually(lambda: len(hub._subscribers) == count and (count > 0 or hub._rooms == {None: set()}))


@asynccontextmanager
async def served(settings: Settings, proxies: str = "127.0.0.1") -> AsyncIterator[InProcess]:
    """The service with these settings; it believes X-Forwarded-For of these proxies."""
    app = create_app(settings)
    server = server_for(app, forwarded_allow_ips=proxies)
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or serving.done())
        for track in app.components.hub.tracks:
            await track.settled.wait()
        async with httpx.AsyncClient(base_url=f"{url_of(server)}/api", timeout=30) as http:
            yield InProcess(app.components, server, url_of(server), http)
    finally:
        app.components.hub.close()
        server.should_exit = True
        await serving
