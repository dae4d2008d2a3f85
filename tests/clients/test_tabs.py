"""The JavaScript client in a browser: how it is served, tabs that share a stream, and hidden tabs."""

import asyncio
import re
from collections.abc import AsyncIterator
from json import dumps, loads
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route

from lastpair.web.pages import CLIENT_FILES, POLICY
from tests.support.browser import OUTAGE, Visitor, chromium, visiting
from tests.support.factories import make_drop_by_sql, make_users
from tests.support.hub import the_track
from tests.support.in_process import InProcess
from tests.support.servers import ROOT
from tests.support.streams import logged, newest_id, publish
from tests.support.waiting import PATIENCE_SECONDS, eventually

TABS = 10

FOLLOW = """async ({ module, options }) => {
  const { live } = await import(module);
  window.heard = [];
  window.statuses = [];
  window.following = live({
    retryMs: 20,
    onChange: (drop, event) => { if (event) heard.push([event.type, event.id, event.data]); },
    onStatus: (status) => statuses.push(status),
    ...options,
  });
  await following.ready;
}"""

HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_files(service: InProcess) -> None:
    """The service serves exactly the files of clients/js, under the policy of its pages."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        for name in CLIENT_FILES:
            response = await client.get(f"/{name}")
            assert response.content == (ROOT / "clients" / "js" / name).read_bytes()
            assert response.headers["content-type"].partition(";")[0] in {"text/javascript", "application/javascript"}
            assert response.headers["content-security-policy"] == POLICY
            assert response.headers["cache-control"] == "no-cache"
        assert (await client.get("/package.json")).status_code == 404


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for these tests."""
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def visitor(browser: Browser, service: InProcess) -> AsyncIterator[Visitor]:
    """A visitor. The test fails if one of the pages reports a problem, a violation of the policy for example."""
    async with visiting(browser, service.url) as visitor:
        visitor.expected = OUTAGE
        yield visitor
    await service.has_streams(0)


@pytest.fixture
async def context(visitor: Visitor) -> BrowserContext:
    """Tabs of one browser, with blank pages under the policy of the service's pages."""
    context = await visitor.context()
    page = {"body": "<!doctype html>", "content_type": "text/html", "headers": {"content-security-policy": POLICY}}
    await context.route("**/blank", lambda route: route.fulfill(**page))
    return context


async def open_tab(context: BrowserContext, module: str = "/lastpair.js", **options: Any) -> Page:
    """A tab that follows drops and has its SNAPSHOT."""
    page = await context.new_page()
    await page.goto("/blank")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await page.evaluate(FOLLOW, {"module": module, "options": options})
    return page


async def heard(page: Page) -> list[tuple[str, str, str]]:
    """Type, id and data of the events that the tab was given so far."""
    return [(kind, event_id, dumps(data)) for kind, event_id, data in await page.evaluate("heard")]


async def rename(owner: asyncpg.Pool, drop_id: str) -> str:
    """Rename a drop; returns the id of the event."""
    await owner.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": uuid4().hex}))
    return str(await newest_id(owner))


async def has_heard(page: Page, event_id: str) -> None:
    """Wait until the tab has this event."""
    await eventually(lambda: page.evaluate("(id) => heard.at(-1)?.[1] === id", event_id))


async def assert_heard_all(owner: asyncpg.Pool, page: Page) -> None:
    """The tab was given one SNAPSHOT and then each event of the log once, in order."""
    (kind, start_id, _), *events = await heard(page)
    assert kind == "SNAPSHOT"
    assert [event[:2] for event in events] == [(event.type, event.id) for event in await logged(owner, int(start_id))]


def lose_streams(service: InProcess) -> None:
    """Cut all connections of clients."""
    for connection in list(service.server.server_state.connections):
        connection.transport.abort()


async def test_ten_tabs_share_a_stream(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """Ten tabs of one browser are served by one stream. Each gets every event once, whenever it was opened and whatever happens
    to the stream, and each can send requests, because connections are left."""
    drop_id = await make_drop_by_sql(own_database, 5)
    pages = []
    for n in range(TABS):
        pages.append(await open_tab(context))
        if n % 3 == 0:
            await rename(own_database, drop_id)
    last_id = await rename(own_database, drop_id)
    for page in pages:
        await has_heard(page, last_id)
    await service.has_streams(1)
    lose_streams(service)
    for _ in range(20):
        last_id = await rename(own_database, drop_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        statuses = await asyncio.gather(*(page.evaluate("fetch('/api/drops').then(({ status }) => status)") for page in pages))
    assert statuses == [200] * TABS
    await pages[0].close()
    for page in pages[1:]:
        await has_heard(page, last_id)
        await assert_heard_all(own_database, page)
        assert await page.evaluate("statuses.at(-1)") == "live"
    await service.has_streams(1)


async def test_tabs_that_are_opened_in_a_burst(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """Streams become one in the middle of many events, and no tab loses or repeats one."""
    drop_id, is_over = await make_drop_by_sql(own_database, 5), asyncio.Event()

    async def burst() -> None:
        while not is_over.is_set():
            await asyncio.gather(*(rename(own_database, drop_id) for _ in range(5)))

    bursting = asyncio.create_task(burst())
    pages = []
    for _ in range(4):
        pages.append(await open_tab(context, hiddenMs=0))
        await pages[0].evaluate(HIDE, True)
        await pages[0].wait_for_timeout(100)
        await pages[0].evaluate(HIDE, False)
    while len(await heard(pages[0])) <= 100:
        await pages[0].wait_for_timeout(50)
    is_over.set()
    await bursting
    last_id = await rename(own_database, drop_id)
    for page in pages:
        await has_heard(page, last_id)
        await assert_heard_all(own_database, page)
    await service.has_streams(1)


async def test_a_hidden_tab_comes_back_by_position(
    service: InProcess, own_database: asyncpg.Pool, context: BrowserContext
) -> None:
    """A tab that is hidden for a time ends its stream. Seen again, it gets the events that it missed, and no SNAPSHOT."""
    drop_id = await make_drop_by_sql(own_database, 5)
    hidden, seen = [await open_tab(context, hiddenMs=50) for _ in range(2)]
    await hidden.evaluate(HIDE, True)
    await eventually(lambda: hidden.evaluate("following.status === 'paused'"))
    await service.has_streams(1)
    await has_heard(seen, await rename(own_database, drop_id))
    await seen.evaluate(HIDE, True)
    await service.has_streams(0)
    last_id = await rename(own_database, drop_id)
    for page in (hidden, seen):
        await page.evaluate(HIDE, False)
    for page in (hidden, seen):
        await has_heard(page, last_id)
        await assert_heard_all(own_database, page)
    last_id = await rename(own_database, drop_id)
    for page in (hidden, seen):
        await has_heard(page, last_id)
        await assert_heard_all(own_database, page)
    await service.has_streams(1)
    # A short look at another tab ends nothing.
    await hidden.evaluate(f"() => {{ ({HIDE})(true); ({HIDE})(false); }}")  # in one call, so that it is short on any machine
    await hidden.wait_for_timeout(100)
    assert await hidden.evaluate("statuses.filter((status) => status === 'paused').length") == 1


async def test_a_browser_that_is_offline(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """A browser that says it is offline is believed at once. Online again, a tab that is not hidden goes on by its position."""
    drop_id = await make_drop_by_sql(own_database, 5)
    seen, hidden = [await open_tab(context, hiddenMs=0) for _ in range(2)]
    await hidden.evaluate(HIDE, True)
    await eventually(lambda: hidden.evaluate("following.status === 'paused'"))
    for page in (seen, hidden):
        await page.evaluate("dispatchEvent(new Event('offline'))")
    assert await seen.evaluate("following.status") == "reconnecting"
    await service.has_streams(0)
    last_id = await rename(own_database, drop_id)
    for page in (seen, hidden):
        await page.evaluate("dispatchEvent(new Event('online'))")
    await has_heard(seen, last_id)
    assert await seen.evaluate("statuses.filter((status) => status !== 'connecting')") == ["live", "reconnecting", "live"]
    assert await hidden.evaluate("following.status") == "paused"
    await hidden.evaluate(HIDE, False)
    for page in (seen, hidden):
        await has_heard(page, last_id)
        await assert_heard_all(own_database, page)
    await service.has_streams(1)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_tab_that_is_seen_waits_no_longer(
    service: InProcess, own_database: asyncpg.Pool, context: BrowserContext, shared: bool
) -> None:
    """The pause before a reconnect ends when somebody looks at a tab, and when another tab is opened."""
    drop_id = await make_drop_by_sql(own_database, 5)
    page = await open_tab(context, retryMs=600_000, shared=shared)
    lose_streams(service)
    await eventually(lambda: page.evaluate("following.status === 'reconnecting'"))
    last_id = await rename(own_database, drop_id)
    await page.evaluate(HIDE, False)
    await has_heard(page, last_id)
    if shared:
        lose_streams(service)
        await eventually(lambda: page.evaluate("following.status === 'reconnecting'"))
        await open_tab(context)
        await has_heard(page, await rename(own_database, drop_id))
    await assert_heard_all(own_database, page)


async def test_tabs_of_different_drops(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """Tabs that follow the same drops share a stream, in whatever order they name them. The others have streams of their own."""
    one, other = [await make_drop_by_sql(own_database, 5) for _ in range(2)]
    pages = [await open_tab(context, dropIds=drop_ids) for drop_ids in ([one, other], [other, one], [one])]
    last_id = await rename(own_database, one)
    for page in pages:
        await has_heard(page, last_id)
    await service.has_streams(2)
    await rename(own_database, other)
    last_id = await rename(own_database, one)
    for page in pages:
        await has_heard(page, last_id)
    assert len(await heard(pages[2])) == 3
    await pages[2].close()
    await service.has_streams(1)


async def test_resync_of_a_shared_stream(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """A tab whose position the log does not reach any more gets RESYNC_REQUIRED and a SNAPSHOT, and the other tab does not."""
    drop_id = await make_drop_by_sql(own_database, 5)
    old, other = [await open_tab(context, hiddenMs=0) for _ in range(2)]
    await old.evaluate(HIDE, True)
    await eventually(lambda: old.evaluate("following.status === 'paused'"))
    for _ in range(2):
        last_id = await rename(own_database, drop_id)
    await has_heard(other, last_id)
    await own_database.fetchval("select api.prune_events(0)")
    the_track(service.components.hub).restart(int(last_id))
    await old.evaluate(HIDE, False)
    await eventually(lambda: old.evaluate("heard.length === 3"))
    last_id = await rename(own_database, drop_id)
    for page in (old, other):
        await has_heard(page, last_id)
    kinds = [[event[0] for event in await heard(page)] for page in (old, other)]
    assert kinds[0] == ["SNAPSHOT", "RESYNC_REQUIRED", "SNAPSHOT", "DROP_UPDATED"]
    assert kinds[1] == ["SNAPSHOT", "DROP_UPDATED", "DROP_UPDATED", "DROP_UPDATED"]
    await service.has_streams(1)
    names = [await page.evaluate("(id) => following.drops.get(id).name", drop_id) for page in (old, other)]
    assert names[0] == names[1]


@pytest.mark.parametrize("how", ["no SharedWorker", "no worker file", "not shared"])
async def test_a_stream_of_ones_own(
    service: InProcess, own_database: asyncpg.Pool, context: BrowserContext, visitor: Visitor, how: str
) -> None:
    """Where there is no worker, or it does not start, a tab has a stream of its own."""
    drop_id = await make_drop_by_sql(own_database, 5)
    module, options = "/lastpair.js", {}
    if how == "no SharedWorker":
        await context.add_init_script("delete window.SharedWorker")
    elif how == "no worker file":
        visitor.expected = re.sub("503 .*?Service Unavailable", "404 \\\\(Not Found", OUTAGE)
        module = "/elsewhere/lastpair.js"

        async def fulfil(route: Route) -> None:
            await route.fulfill(path=ROOT / "clients" / "js" / "lastpair.js", content_type="text/javascript")

        await context.route(f"**{module}", fulfil)
    else:
        options = {"shared": False}
    pages = [await open_tab(context, module, **options) for _ in range(2)]
    await service.has_streams(2)
    lose_streams(service)
    last_id = await rename(own_database, drop_id)
    for page in pages:
        await has_heard(page, last_id)
        await assert_heard_all(own_database, page)


FOLLOW_WITH_TOKENS = """async ({ userId }) => {
  const { Lastpair } = await import("/lastpair.js");
  window.heard = [];
  window.asked = 0;
  const shop = new Lastpair({ userId, token: async () => `token ${++asked}` });
  window.following = shop.live({
    retryMs: 20,
    onChange: (drop, event) => { if (event) heard.push([event.type, event.id, event.data]); },
  });
  await following.ready;
}"""


async def test_tabs_of_several_users(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """Each has a stream of its own, which gets what is for this user, over a lost connection, too. Without identity none does."""
    drop_id, users = await make_drop_by_sql(own_database, 5), await make_users(own_database, 2)
    public = await open_tab(context)
    pages = [await open_tab(context, identity={"userId": user}) for user in users]
    await service.has_streams(3)
    for is_cut in (False, True):
        for user in users:
            await publish(own_database, drop_id, "PAYMENT_UPDATED", [dumps({"dropId": drop_id, "user": user})], user)
        if is_cut:
            lose_streams(service)
        last_id = await rename(own_database, drop_id)
        for page in (public, *pages):
            await has_heard(page, last_id)
    assert {kind for kind, _, _ in await heard(public)} == {"SNAPSHOT", "DROP_UPDATED"}
    for user, page in zip(users, pages, strict=True):
        own = [loads(data) for kind, _, data in await heard(page) if kind == "PAYMENT_UPDATED"]
        assert [(data["dropId"], data["user"]) for data in own] == [(drop_id, user)] * 2
        assert all(data["at"].endswith("Z") for data in own)
        assert await page.evaluate("[...following.drops.keys()].length") > 0
    await service.has_streams(3)


async def test_a_token_for_each_connection(service: InProcess, own_database: asyncpg.Pool, context: BrowserContext) -> None:
    """A function that makes tokens is called again when the stream reconnects. The object's identity is that of its streams."""
    drop_id, [user] = await make_drop_by_sql(own_database, 5), await make_users(own_database, 1)
    page = await context.new_page()
    await page.goto("/blank")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await page.evaluate(FOLLOW_WITH_TOKENS, {"userId": user})
    asked = await page.evaluate("asked")
    assert asked > 0
    lose_streams(service)
    await eventually(lambda: page.evaluate("(asked) => window.asked > asked", asked))
    await publish(own_database, drop_id, "PAYMENT_UPDATED", [dumps({"dropId": drop_id})], user)
    await has_heard(page, str(await newest_id(own_database)))
    assert (await heard(page))[-1][0] == "PAYMENT_UPDATED"


async def test_an_identity_that_is_refused(context: BrowserContext, visitor: Visitor) -> None:
    """Another try with the same identity would be in vain, so there is none."""
    visitor.expected = re.sub("503 .*?Service Unavailable", "401 \\\\(Unauthorized", OUTAGE)
    page = await context.new_page()
    await page.goto("/blank")
    code = await page.evaluate(
        "import('/lastpair.js').then(({ live }) => live({ identity: { userId: 'x' } }).ready).catch(({ code }) => code)"
    )
    assert code == "AUTH_REQUIRED"
