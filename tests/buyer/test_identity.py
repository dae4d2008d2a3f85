"""Who the buyer is: a guest of this browser in development, and with AUTH_MODE=jwt the user of the token that the shop gives."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import Visitor, visiting
from tests.support.buyer_page import BOUGHT, button, open_drop, press
from tests.support.factories import make_drop_by_sql
from tests.support.row_checks import Row
from tests.support.servers import free_port
from tests.support.streams import Api, serving
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token

pytestmark = pytest.mark.slow

UNAUTHORIZED = r"Failed to load resource: the server responded with a status of 401 \(Unauthorized\)"
BUYERS = "select distinct user_id::text from inventory.reservations where drop_id = $1"
SHOP_PAGE = (
    "<!doctype html><title>Shop</title><body style='margin:0'><iframe title='Drop' width=390 height=800 src='{src}'></iframe>"
)


@pytest.fixture(scope="module")
async def shop(service: Api) -> AsyncIterator[tuple[Api, int]]:
    """A service that takes tokens and lets a page of this port show drops in a frame."""
    port = free_port()
    variables = {"AUTH_MODE": "jwt", "JWT_SECRET": SECRET, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER}
    async with serving(service.database_url, FRAME_ANCESTORS=f"http://127.0.0.1:{port}", **variables) as api:
        yield api, port


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


async def test_a_token(browser: Browser, shop: tuple[Api, int], drop: Row) -> None:
    """The token leaves the address at once, outlives a reload, and names the user; another one may follow."""
    api, _ = shop
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


async def test_without_a_token(browser: Browser, shop: tuple[Api, int], drop: Row) -> None:
    """The page shows the drop; to reserve, the shop must sign the buyer in. The same goes for a token that ran out."""
    api, _ = shop
    async with visiting(browser, api.url) as visitor:
        visitor.expected = UNAUTHORIZED
        for fragment in ("", f"#token={token(SECRET, exp=1)}"):
            page = await open_drop(visitor, drop, fragment=fragment)
            await press(page, "Reserve")
            await expect(page.locator("#answer")).to_have_text("The shop has to sign you in. Open this page from the shop again.")


async def test_in_a_frame(browser: Browser, shop: tuple[Api, int], drop: Row) -> None:
    """A shop of FRAME_ANCESTORS shows the page in a frame, where a buyer buys; another page may not."""
    api, port = shop
    context = await browser.new_context()
    source = f"{api.url}/d/{drop['id']}#token={token(SECRET)}"

    async def serve(origin: str) -> None:
        await context.route(
            f"{origin}/**", lambda route: route.fulfill(body=SHOP_PAGE.format(src=source), content_type="text/html")
        )

    page = await context.new_page()
    await serve(f"http://127.0.0.1:{port}")
    await page.goto(f"http://127.0.0.1:{port}/")
    frame = page.frame_locator("iframe")
    await frame.locator("#connection", has_text="Live").wait_for()
    await page.wait_for_timeout(600)
    await frame.get_by_role("button", name="Reserve").click()
    await frame.locator("#pill", has_text="Held for you").wait_for()
    await page.wait_for_timeout(600)
    await frame.locator("#main").click()
    await expect(frame.locator("#panel-title")).to_have_text(BOUGHT)

    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    await serve("http://evil.localhost:9")
    await page.goto("http://evil.localhost:9/")
    await page.wait_for_timeout(500)
    assert any("frame-ancestors" in text for text in refused)
    assert urlsplit(page.frames[-1].url).scheme == "chrome-error"
    await context.close()


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
