"""Accessibility and looks: axe in every state, the keyboard, small screens, long names, many sizes, dark, reduced motion."""

from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Page, ViewportSize, expect

from tests.support.browser import Visitor
from tests.support.buyer_page import BOUGHT, SIZES, button, choose, hold_size, in_time, open_drop, press
from tests.support.factories import change, make_drop, make_user, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api

pytestmark = pytest.mark.slow

PHONE, DESKTOP = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=900)
NARROWEST = ViewportSize(width=320, height=640)
LONG = "Aurora Runner 90 " + "Donaudampfschifffahrtsgesellschaft" * 5


async def check(page: Page) -> None:
    """Axe finds nothing, and nothing is wider than the screen."""
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_axe(api: Api, visitor: Visitor, seller: str, scheme: str, viewport: ViewportSize) -> None:
    """Every state, on a phone and a desktop, light and dark. No state reports anything on the console or breaks the policy."""
    context = await visitor.context(color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    fields: Row = {"price": 180, "image_url": "/buyer/icon.svg"}
    soon = await make_drop(api.http, seller, total_stock=None, variants=SIZES, starts_at=in_time(days=2), **fields)
    page = await open_drop(visitor, soon, context)
    await check(page)
    drop = await make_drop(
        api.http,
        seller,
        total_stock=None,
        variants=SIZES,
        ends_at=in_time(hours=1),
        hold_seconds=600,
        extension_seconds=60,
        **fields,
    )
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    page = await open_drop(visitor, drop, context)
    await expect(page.locator("#stock-held")).to_have_text("1 held by others")
    await press(page, "Choose a size")
    await check(page)
    await hold_size(page, "9")
    await check(page)
    await press(page, "Let it go")
    await check(page)
    await hold_size(page, "9")
    await press(page, "Pay $180.00")
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
    await check(page)
    plain = await make_drop(api.http, seller, total_stock=1)
    page = await open_drop(visitor, plain, context)
    await reserve(api.http, plain["id"], await make_user(api.owner))
    await expect(page.locator("#pill")).to_have_text("Sold out")
    await check(page)
    for changes, pill in (({"paused": True, "add_stock": 1}, "Paused"), ({"status": "ended"}, "Ended")):
        await change(api.http, plain, **changes)
        await expect(page.locator("#pill")).to_have_text(pill)
        await check(page)
    await page.route("**/d/none", lambda route: route.continue_())
    visitor.expected = r"Failed to load resource: the server responded with a status of 404 \(Not Found\)"
    await page.goto("/d/none")
    await check(page)


@pytest.mark.parametrize("viewport", [NARROWEST, PHONE, DESKTOP], ids=["narrowest", "phone", "desktop"])
async def test_long_names_and_thirty_sizes(api: Api, visitor: Visitor, seller: str, viewport: ViewportSize) -> None:
    """Nothing leaves the screen, and every size can be reached."""
    sizes = [
        {"name": f"{LONG[:80]} {n}" if n % 7 == 0 else str(35 + n / 2), "total_stock": 10_000, "price": n} for n in range(30)
    ]
    drop = await make_drop(api.http, seller, name=LONG[:200], total_stock=None, variants=sizes)
    page = await open_drop(visitor, drop, viewport=viewport)
    await check(page)
    await choose(page, "49.5")
    await press(page, "Reserve size 49.5")
    await expect(page.locator("#panel-title")).to_have_text("Size 49.5 is held for you")
    await check(page)


async def test_keyboard(api: Api, visitor: Visitor, seller: str) -> None:
    """Tab to the sizes, arrows choose; so they do how many; Enter reserves, Enter buys. The focus goes to what comes next."""
    drop = await make_drop(api.http, seller, price=180, total_stock=None, variants=SIZES)
    page = await open_drop(visitor, drop)
    await page.wait_for_timeout(600)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await expect(button(page, "Reserve size 8")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("ArrowRight")
    for name in ("One less", "How many", "One more"):
        await page.keyboard.press("Tab")
        await expect(page.get_by_label(name)).to_be_focused()
        if name == "How many":
            await page.keyboard.press("ArrowUp")
    await page.keyboard.press("Tab")
    await expect(button(page, "Reserve 2 \u00d7 size 9")).to_be_focused()
    await expect(button(page, "Reserve 2 \u00d7 size 9")).to_have_css("outline-style", "solid")
    await page.keyboard.press("Enter")
    await expect(button(page, "Pay $360.00")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(button(page, "Let it go")).to_be_focused()
    await page.wait_for_timeout(600)
    await page.keyboard.press("Space")
    await expect(button(page, "Reserve size 9")).to_be_focused()
    await page.wait_for_timeout(600)
    await page.keyboard.down("Enter")
    await expect(button(page, "Pay $180.00")).to_be_focused()
    await page.wait_for_timeout(600)
    await page.keyboard.down("Enter")  # the key is held down, which presses once
    await page.keyboard.up("Enter")
    await page.wait_for_timeout(600)
    assert not any(url.endswith("/purchase") for url in visitor.requests)
    await page.keyboard.press("Enter")
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
    await expect(button(page, "Reserve another")).to_be_focused()


async def test_each_thing_is_spoken_once(api: Api, visitor: Visitor, seller: str) -> None:
    """There is one live region. It tells the outcome of what the buyer did, and no sale of others."""
    drop = await make_drop(api.http, seller, price=180, total_stock=None, variants=SIZES)
    page = await open_drop(visitor, drop)
    await page.evaluate(
        "() => { window.told = []; const said = document.getElementById('said');"
        " new MutationObserver(() => told.push(said.textContent)).observe(said, { childList: true }); }"
    )
    assert await page.locator("[role=status], [role=alert], [aria-live]").count() == 1
    await hold_size(page, "9")
    await reserve(api.http, drop["id"], await make_user(api.owner), {"variant_id": drop["variants"][0]["id"]})
    await press(page, "Pay $180.00")
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
    assert await page.evaluate("told") == ["Size 9 is held for you.", BOUGHT]


async def test_a_broken_picture(api: Api, visitor: Visitor, seller: str) -> None:
    """A picture that does not load leaves the page as if there were none."""
    visitor.expected = r"Failed to load resource: the server responded with a status of 404 \(Not Found\)"
    drop = await make_drop(api.http, seller, total_stock=1, image_url="/nothing/here.jpg")
    page = await open_drop(visitor, drop, viewport=DESKTOP)
    await expect(page.locator("#picture")).to_be_hidden()
    await expect(page.locator("body.has-picture")).to_have_count(0)
    await check(page)
    await change(api.http, drop, image_url="/buyer/icon.svg")
    await expect(page.get_by_role("img", name="Air One")).to_be_visible()


async def test_reduced_motion_and_forced_colours(api: Api, visitor: Visitor, seller: str) -> None:
    """Nothing moves for who wants no motion; with forced colours the bar keeps its own, because they are its meaning."""
    drop = await make_drop(api.http, seller, total_stock=5)
    options: Any = {"reduced_motion": "reduce", "forced_colors": "active"}
    page = await open_drop(visitor, drop, **options)
    moving = "[...document.querySelectorAll('*')].filter((e) => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    assert await page.evaluate(moving) == 0
    await expect(page.locator(".bar")).to_have_css("forced-color-adjust", "none")
