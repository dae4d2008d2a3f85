"""Clients that others wrote get exactly the events of the log, none of them empty, over lost connections.

These are httpx-sse, @microsoft/fetch-event-source in Chromium, and Chromium's own EventSource as docs/realtime.md uses it.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from json import dumps
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from httpx_sse import aconnect_sse
from playwright.async_api import Browser, Page, Route, expect

from tests.support.browser import OUTAGE, chromium, visiting
from tests.support.dashboard import started_at
from tests.support.database import Database, connected
from tests.support.factories import Owner, make_user
from tests.support.in_process import InProcess, served, settings_for
from tests.support.nginx import nginx
from tests.support.npm import npm_package
from tests.support.servers import ROOT, free_port
from tests.support.streams import fresh_database, logged, newest_id, open_stream
from tests.support.waiting import eventually

FETCH_EVENT_SOURCE = (
    "@microsoft/fetch-event-source",
    "2.0.1",
    "W6CLUJ2eBMw3Rec70qrsEW0jOm/3twwJv21mrmj2yORiaVmVYGS4sSS5yUwvQc1ZlDLYGPnClVWmUUMagKNsfA==",
)
CREATE = "select id from api.create_drop($1, 1, 5, $2, now())"
Delivered = list[tuple[str, str, str]]
"""Type, id and data of everything that a client was given."""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for these tests."""
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
async def url(database: Database) -> AsyncIterator[str]:
    """A migrated database of these tests' own."""
    async with fresh_database(database) as url:
        yield url


@pytest.fixture
async def owner(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of that database's owner."""
    async with connected(url) as connection:
        yield connection


@pytest.fixture
async def service(url: str) -> AsyncIterator[InProcess]:
    """The service in this process, on that database."""
    async with served(settings_for(url)) as service:
        yield service


@pytest.fixture
async def drops(owner: asyncpg.Connection) -> list[str]:
    """Two new live drops."""
    seller = UUID(await make_user(owner))
    return [str(await owner.fetchval(CREATE, "Air", seller)) for _ in range(2)]


async def rename(owner: Owner, drop_id: str, name: str | None = None) -> None:
    """Rename the drop, which one DROP_UPDATED announces."""
    await owner.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": name or uuid4().hex}))


class HttpxSse:
    """httpx-sse, reconnecting as its README shows."""

    def __init__(self, url: str) -> None:
        self.delivered: Delivered = []
        self._following = asyncio.create_task(self._follow(url))

    async def _follow(self, url: str) -> None:
        headers: dict[str, str] = {}
        while True:
            try:
                async with httpx.AsyncClient(timeout=60) as client, aconnect_sse(client, "GET", url, headers=headers) as source:
                    async for event in source.aiter_sse():
                        self.delivered.append((event.event, event.id, event.data))
                        headers = {"Last-Event-ID": event.id}
            except httpx.HTTPError:
                await asyncio.sleep(0.05)

    async def given(self) -> Delivered:
        """What it was given so far."""
        return self.delivered

    async def close(self) -> None:
        """End it."""
        self._following.cancel()
        await asyncio.wait({self._following})


# The end of a stream is no error to this client, so the page makes it one, as its README shows.
FOLLOW = """async (url) => {
  const { fetchEventSource } = await import("/client/index");
  window.given = [];
  fetchEventSource(url, {
    openWhenHidden: true,
    onmessage: ({ event, id, data }) => window.given.push([event, id, data]),
    onclose: () => { throw new Error("the stream has ended"); },
    onerror: () => 50,
  });
}"""


class FetchEventSource:
    """@microsoft/fetch-event-source in a page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    @classmethod
    async def following(cls, browser: Browser, package: Path, service: InProcess, url: str) -> "FetchEventSource":
        """A page of the service's origin that follows this URL."""

        async def fulfil(route: Route) -> None:
            name = route.request.url.rpartition("/")[2]
            await route.fulfill(body=(package / "lib" / "esm" / f"{name}.js").read_text(), content_type="text/javascript")

        context = await browser.new_context(base_url=service.url)
        await context.route("**/client/*", fulfil)
        await context.route("**/blank", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
        page = await context.new_page()
        await page.goto("/blank")
        await page.evaluate(FOLLOW, url)
        return cls(page)

    async def given(self) -> Delivered:
        """What it was given so far."""
        return [tuple(event) for event in await self._page.evaluate("window.given")]

    async def close(self) -> None:
        """End it."""
        await self._page.context.close()


def lose_streams(service: InProcess) -> None:
    """Cut all connections of clients."""
    for connection in list(service.server.server_state.connections):
        connection.transport.abort()


async def assert_given_all(service: InProcess, owner: Owner, drops: list[str], follower: Any) -> None:
    """Over heartbeats and lost connections the follower of the first drop is given a SNAPSHOT and then each event once, with the
    positions of the other drop among them, and never an empty event."""
    hub = service.components.hub

    async def has(event_type: str, event_id: int) -> None:
        async def is_given() -> bool:
            hub.beat()
            return any(given[:2] == (event_type, str(event_id)) for given in await follower.given())

        await eventually(is_given)

    start_id = await newest_id(owner)
    await has("SNAPSHOT", start_id)
    for _ in range(3):
        await rename(owner, drops[0])
        await has("DROP_UPDATED", await newest_id(owner))
        await rename(owner, drops[1])
        lose_streams(service)
        await rename(owner, drops[0])
        await has("DROP_UPDATED", await newest_id(owner))
    log = [(event.type, event.id, event.whole_text) for event in await logged(owner, start_id) if drops[0] in event.text]
    given = await follower.given()
    assert given[0][:2] == ("SNAPSHOT", str(start_id))
    assert given[1:] == log
    ids = [int(event[1]) for event in given]
    assert ids == sorted(set(ids))


async def test_httpx_sse(service: InProcess, owner: asyncpg.Connection, drops: list[str]) -> None:
    """httpx-sse, from PyPI."""
    follower = HttpxSse(f"{service.url}/api/events?dropId={drops[0]}")
    await assert_given_all(service, owner, drops, follower)
    await follower.close()


@pytest.mark.slow
async def test_fetch_event_source(
    service: InProcess, owner: asyncpg.Connection, drops: list[str], browser: Browser, pytestconfig: pytest.Config
) -> None:
    """@microsoft/fetch-event-source, from npm, in Chromium."""
    package = npm_package(pytestconfig.cache, *FETCH_EVENT_SOURCE)
    follower = await FetchEventSource.following(browser, package, service, f"/api/events?dropId={drops[0]}")
    await assert_given_all(service, owner, drops, follower)
    await follower.close()


async def test_heartbeats_through_nginx(service: InProcess, drops: list[str]) -> None:
    """A proxy passes on at once what is no block yet: the first line of a stream that has nothing to send, and heartbeats."""
    with nginx(service.url) as proxy:
        stream = await open_stream("sse", service.url)
        headers = {"Last-Event-ID": (await stream.receive()).id}
        await stream.close()
        async with (
            httpx.AsyncClient(base_url=proxy, timeout=60) as client,
            client.stream("GET", "/api/events", headers=headers) as response,
        ):
            chunks = response.aiter_bytes()
            assert re.fullmatch(rb"retry: \d{4}\n", await anext(chunks))
            for _ in range(2):
                service.components.hub.beat()
                assert await anext(chunks) == b": heartbeat\n"


def documented_page(url: str) -> str:
    """The dashboard of docs/realtime.md, which reads the events of the service at this URL."""
    [page] = re.findall(r"```html\n(.*?)```", (ROOT / "docs" / "realtime.md").read_text(), re.DOTALL)
    assert "http://localhost:4000" in page
    return page.replace("http://localhost:4000", url)


def test_the_readme_shows_the_same() -> None:
    """The README's lines are those of the page in docs/realtime.md, which the next test opens."""
    [lines] = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    page = dedent(documented_page("").partition("\n\n")[2].partition("  connect();")[0]).replace(" show();", "")
    without_comments = [re.sub(r" //.*", "", text) for text in (lines, page)]
    assert without_comments[0] == without_comments[1]


@pytest.mark.slow
async def test_the_documented_event_source(url: str, owner: asyncpg.Connection, browser: Browser) -> None:
    """The documented page comes back after each 502 of nginx, and shows what happened while the service was away."""
    port = free_port()
    seller = UUID(await make_user(owner))
    drop_id, name = str(await owner.fetchval(CREATE, "before", seller)), uuid4().hex
    with nginx(f"http://127.0.0.1:{port}") as proxy:
        async with visiting(browser, proxy) as visitor:
            visitor.expected = OUTAGE.replace("503 ", "50[0-9] ").replace("Service Unavailable", "[A-Za-z ]+")
            context = await visitor.context()
            statuses: list[int] = []
            context.on("response", lambda response: statuses.append(response.status) if "/api/events" in response.url else None)
            await context.route("**/blank", lambda route: route.fulfill(body=documented_page(proxy), content_type="text/html"))
            page = await context.new_page()
            await page.goto("/blank")
            await eventually(lambda: 502 in statuses)
            for n in range(2):
                with started_at(port, url):
                    line = page.locator("#drops li", has_text=name if n else "before")
                    await expect(line).to_have_text(re.compile("5 of 5"))
                    await rename(owner, drop_id, name)
                    await expect(page.locator("#drops li", has_text=name)).to_have_count(1)
                statuses.clear()
                name = uuid4().hex
                await rename(owner, drop_id, name)
                await eventually(lambda: 502 in statuses)
