"""Who the buyer is: a guest of this browser in development, and with AUTH_MODE=jwt the user of the token that the shop gives."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tests.support.browser import Visitor, visiting
from tests.support.buyer_page import BOUGHT, button, open_drop, press
from tests.support.factories import make_drop_by_sql
from tests.support.in_process import server_for, url_of
from tests.support.row_checks import Row
from tests.support.streams import Api, serving
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

UNAUTHORIZED = r"Failed to load resource: the server responded with a status of 401 \(Unauthorized\)"
BUYERS = "select distinct user_id::text from inventory.reservations where drop_id = $1"
SHOP_PAGE = (
    "<!doctype html><title>Shop</title><body style='margin:0'><iframe title='Drop' width=390 height=800 src='{src}'></iframe>"
)


@dataclass
class Shop:
    """A service that takes tokens, and a page elsewhere that may show drops in a frame."""

    api: Api
    page_url: str
    framed: list[str]
    """The URLs that the page shows in a frame: the last one."""


@pytest.fixture(scope="module")
async def shop(service: Api) -> AsyncIterator[Shop]:
    """A shop."""
    framed: list[str] = []

    async def page(_: Request) -> Response:
        return HTMLResponse(SHOP_PAGE.format(src=framed[-1]))

    server = server_for(Starlette(routes=[Route("/shop", page)]))
    serving_page = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    variables = {"AUTH_MODE": "jwt", "JWT_SECRET": SECRET, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER}
    async with serving(service.database_url, FRAME_ANCESTORS=url_of(server), **variables) as api:
        yield Shop(api, url_of(server), framed)
    server.should_exit = True
    await serving_page


@pytest.fixture
async def drop(service: Api) -> Row:
    """A drop of three units."""
    return {"id": await make_drop_by_sql(service.owner, 3, hold_seconds=600)}


async def buyers_of(api: Api, drop: Row) -> list[str]:
    """Who has held units of the drop."""
    return [row["user_id"] for row in await api.owner.fetch(BUYERS, UUID(drop["id"]))]


async def test_a_guest(api: Api, visitor: Visitor, drop: Row) -> None:
    """A guest is made at the first reserve, and kept in the browser for all drops and tabs; one who only looks is nobody."""
    context = await visitor.context()
    page = await open_drop(visitor, drop, context)
    assert await page.evaluate("localStorage.length") == 0
    await press(page, "Reserve")
    await expect(page.locator("#pill")).to_have_text("Held for you")
    guest = await page.evaluate("localStorage.getItem('lastpair.buyer')")
    assert await buyers_of(api, drop) == [guest]
    name = await api.owner.fetchval("select username from inventory.users where id = $1", UUID(guest))
    assert name == f"guest-{guest[:13]}"
    other = {"id": await make_drop_by_sql(api.owner, 3)}
    await press(await open_drop(visitor, other, context), "Reserve")
    await expect(page.locator("#pill")).to_have_text("Held for you")
    while await buyers_of(api, other) == []:
        await asyncio.sleep(0.05)
    assert await buyers_of(api, other) == [guest]


async def test_a_token(browser: Browser, shop: Shop, drop: Row) -> None:
    """The token leaves the address at once, outlives a reload, and names the user; another one may follow."""
    api = shop.api
    user, later_user = str(uuid4()), str(uuid4())
    async with visiting(browser, api.url) as visitor:
        page = await open_drop(visitor, drop, fragment=f"#token={token(SECRET, user)}")
        assert await page.evaluate("location.href") == f"{api.url}/d/{drop['id']}"
        await press(page, "Reserve")
        await expect(page.locator("#pill")).to_have_text("Held for you")
        assert await buyers_of(api, drop) == [user]
        await page.reload()
        await expect(page.locator("#pill")).to_have_text("Held for you")
        await page.evaluate(f"location.hash = 'token={token(SECRET, later_user)}'")
        await expect(page.locator("#pill")).to_have_text("On sale")
        assert await page.evaluate("location.hash") == ""
        assert not any("token" in url for url in visitor.requests)


async def test_without_a_token(browser: Browser, shop: Shop, drop: Row) -> None:
    """The page shows the drop; to reserve, the shop must sign the buyer in. The same goes for a token that ran out."""
    api = shop.api
    async with visiting(browser, api.url) as visitor:
        visitor.expected = UNAUTHORIZED
        for fragment in ("", f"#token={token(SECRET, exp=1)}"):
            page = await open_drop(visitor, drop, fragment=fragment)
            await press(page, "Reserve")
            await expect(page.locator("#answer")).to_have_text("The shop has to sign you in. Open this page from the shop again.")


async def test_in_a_frame(browser: Browser, shop: Shop, drop: Row) -> None:
    """A shop of FRAME_ANCESTORS shows the page in a frame, where a buyer buys; a page of another origin may not."""
    shop.framed.append(f"{shop.api.url}/d/{drop['id']}#token={token(SECRET)}")
    page = await browser.new_page()
    await page.goto(f"{shop.page_url}/shop")
    frame = page.frame_locator("iframe")
    await expect(frame.locator("#connection")).to_have_text("Live")
    for action in ("Reserve", "Pay $1.00"):
        await page.wait_for_timeout(600)
        await frame.get_by_role("button", name=action).click()
    await expect(frame.locator("#panel-title")).to_have_text(BOUGHT)

    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    await page.goto(f"{shop.page_url.replace('127.0.0.1', 'localhost')}/shop")
    await eventually(lambda: any("frame-ancestors" in text for text in refused))
    await page.close()


async def test_without_storage(browser: Browser, api: Api, drop: Row) -> None:
    """A browser that keeps nothing for the page knows the buyer as long as the page is open."""
    async with visiting(browser, api.url) as visitor:
        context = await visitor.context()
        await context.add_init_script(
            "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied', 'SecurityError'); } })"
        )
        page = await open_drop(visitor, drop, context)
        await press(page, "Reserve")
        await expect(page.locator("#pill")).to_have_text("Held for you")
        await expect(button(page, "Let it go")).to_be_visible()
