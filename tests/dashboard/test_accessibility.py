"""Accessibility: hostile names, the keyboard, screen readers, phones, dark and light, forced colours, reduced motion."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Locator, Page, ViewportSize, expect

from tests.support.browser import Visitor
from tests.support.dashboard import buy, card_of, expect_answer, expect_stock, make_named_user, news_of, press, update_drop
from tests.support.factories import make_drop, make_user, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually

EVIL = "<img src=x onerror=alert(1)>"
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
NARROWEST = 320


@pytest.mark.slow
async def test_names_are_text(api: Api, visitor: Visitor) -> None:
    """Names of drops and users are shown to the letter everywhere and are never taken as HTML."""
    user = await make_named_user(api, EVIL)
    drop_id = (await make_drop(api.http, user, name=EVIL))["id"]
    await buy(api, drop_id, user)
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    await page.get_by_label("New user").fill(f"{EVIL} 2")
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_have_text(f"You are {EVIL} 2.")
    await expect(page.locator("#user option:checked")).to_have_text(f"{EVIL} 2")
    await expect(card_of(page, drop_id).get_by_role("heading", level=3)).to_have_text(EVIL)
    await expect(card_of(page, drop_id).locator(".purchasers li")).to_contain_text([f"{EVIL} "])
    await press(page, drop_id, "Reserve")
    await press(page, drop_id, "Purchase")
    await expect(news_of(page).first).to_contain_text(f"{EVIL} was bought by {EVIL} 2")
    await context.clock.fast_forward(5000)
    await expect(page.locator("#announcer")).to_have_text(f"{EVIL}: 3 of 5 left.")
    assert await page.locator("img, script:not([src])").count() == 0
    assert f"{visitor.url}/x" not in visitor.requests


async def focus_on(page: Page, button: Locator) -> None:
    """Move the focus to the element with the Tab key."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await button.evaluate("(element) => element === document.activeElement"):
            return
    pytest.fail("the Tab key does not reach the element")


@pytest.mark.slow
async def test_keyboard(drop_id: str, page: Page) -> None:
    """Tab to Reserve, Enter, Enter buys. The focus is visible and is not lost when its button goes away."""
    reserve_button, purchase_button, cancel_button = [
        card_of(page, drop_id).get_by_role("button", name=name) for name in ("Reserve", "Purchase", "Cancel")
    ]
    await focus_on(page, reserve_button)
    await expect(reserve_button).to_have_css("outline-style", "solid")
    await page.keyboard.press("Enter")
    await expect(purchase_button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect_answer(page, drop_id, "It is yours.")
    await expect_stock(page, drop_id, 4, 0, 1)
    await expect(reserve_button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(purchase_button).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(cancel_button).to_be_focused()
    await page.keyboard.press("Space")
    await expect_answer(page, drop_id, "The unit went back.")
    await expect(reserve_button).to_be_focused()
    await focus_on(page, page.locator("#news"))  # it scrolls, so the keyboard must reach it


@pytest.mark.slow
async def test_focus_stays(api: Api, visitor: Visitor, drop_id: str, page: Page) -> None:
    """The focus stays at a button that is disabled for a while or for ever."""
    await page.get_by_role("spinbutton", name="Buyers").fill("5")
    start = page.get_by_role("button", name="Start")
    await focus_on(page, start)
    await page.keyboard.press("Enter")
    await expect(page.locator("#rush-form .answer")).to_contain_text("Nothing was oversold", timeout=30_000)
    await expect(start).to_be_focused()
    reserve_button = card_of(page, drop_id).get_by_role("button", name="Reserve")
    await focus_on(page, reserve_button)
    await update_drop(api, drop_id, status="ended")
    await expect(reserve_button).to_be_disabled()
    await expect(reserve_button).to_be_focused()
    requests = len(visitor.requests)
    await page.keyboard.press("Enter")
    await expect(reserve_button).to_be_focused()
    assert len(visitor.requests) == requests


@pytest.mark.slow
async def test_live_region(api: Api, visitor: Visitor) -> None:
    """A screen reader is told every few seconds, in few words, the stock of the drops that changed."""
    seller = await make_user(api.owner)
    drops = [(await make_drop(api.http, seller, name=f"Air {n}"))["id"] for n in range(6)]
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    announcer = page.locator("#announcer")
    await expect(announcer).to_have_attribute("aria-live", "polite")
    await expect_stock(page, drops[0], 5, 0, 0)
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("")
    await reserve(api.http, drops[0], seller)
    await expect_stock(page, drops[0], 4, 1, 0)
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("Air 0: 4 of 5 left.")
    for drop_id in drops[1:]:
        await reserve(api.http, drop_id, seller)
    for drop_id in drops[1:]:
        await expect_stock(page, drop_id, 4, 1, 0)
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("Air 3: 4 of 5 left. Air 4: 4 of 5 left. Air 5: 4 of 5 left, and 2 others changed.")
    await update_drop(api, drops[1], paused=True)
    await expect(card_of(page, drops[1]).locator(".status")).to_have_text("paused")
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("Air 1: paused.")
    await update_drop(api, drops[0], status="cancelled")
    await expect(card_of(page, drops[0]).locator(".status")).to_have_text("cancelled")
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("Air 0: cancelled.")


async def show_everything(api: Api, page: Page, name: str = "Air One", **fields: object) -> None:
    """Fill the page: drops in every status, a hold, answers and refusals."""
    seller = await make_user(api.owner)
    later = {"starts_at": (datetime.now(UTC) + timedelta(days=3)).isoformat()}
    size_stock = int(str(fields.get("total_stock", 9))) // 9
    sizes = [{"name": f"{name[:99]}{n}", "total_stock": size_stock if n else 1, "price": n} for n in range(9)]
    kinds: list[Row] = [later, {}, {"total_stock": 1}, {}, {}, {}, {"total_stock": None, "variants": sizes}]
    rows = [await make_drop(api.http, seller, **{"name": name} | fields | kind) for kind in kinds]
    drops = [row["id"] for row in rows]
    live, sold_out, ended, cancelled, refused, sized = drops[1:]
    buyer = await make_user(api.owner)
    for drop_id in (live, sold_out):
        await buy(api, drop_id, buyer)
    await reserve(api.http, sized, buyer, {"variant_id": rows[-1]["variants"][0]["id"]})
    await expect(page.locator(".card")).to_have_count(len(drops))
    await press(page, live, "Reserve")
    await press(page, sold_out, "Reserve")
    await expect_answer(
        page, sold_out, "Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled."
    )
    await press(page, refused, "Reserve")
    await expect(card_of(page, refused).get_by_role("button", name="Purchase")).to_be_visible()
    await card_of(page, sized).locator(".size label").last.click()
    await press(page, sized, "Reserve")
    await expect(card_of(page, sized).locator(".size-hold").last).to_contain_text("yours, ")
    await update_drop(api, ended, status="ended")
    await update_drop(api, cancelled, status="cancelled")
    await expect(card_of(page, cancelled).locator(".status")).to_have_text("cancelled")


async def open_tools(page: Page) -> None:
    """Unfold the development tools if they are folded."""
    if await page.locator("#tools").get_attribute("open") is None:
        await page.locator("#tools summary").click()


async def assert_accessible(page: Page) -> None:
    """axe-core finds nothing serious or critical, in a wide and a narrow window, light and dark."""
    for size in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=scheme)
            results = await Axe().run(page)
            bad = [
                (violation["id"], [(node["target"], node["failureSummary"]) for node in violation["nodes"]])
                for violation in results.response["violations"]
                if violation["impact"] in ("serious", "critical")
            ]
            assert (size, scheme, bad) == (size, scheme, [])


@pytest.mark.slow
async def test_accessible(api: Api, page: Page) -> None:
    """axe-core finds nothing on the empty page and on the full one."""
    await expect(page.get_by_text("There are no drops yet.")).to_be_visible()
    await assert_accessible(page)
    await show_everything(api, page)
    await assert_accessible(page)


# The elements that are wider than their box. Names of purchasers are cut off on purpose, to one line each.
TOO_WIDE = """[...document.querySelectorAll(":is(.card, .tool, .news) *")]
  .filter((part) => !part.closest(".purchasers"))
  .filter((part) => part.getBoundingClientRect().right > part.closest(".card, .tool, .news").getBoundingClientRect().right)
  .map((part) => part.outerHTML.slice(0, 50))"""


async def assert_fits(page: Page) -> None:
    """Nothing is wider than the window or its box."""
    width: Any = await page.evaluate("document.documentElement.scrollWidth")
    assert page.viewport_size
    assert width <= page.viewport_size["width"]
    assert await page.evaluate(TOO_WIDE) == []


@pytest.mark.slow
async def test_narrow(api: Api, visitor: Visitor) -> None:
    """Nothing needs to be scrolled sideways on a phone, with any names and figures."""
    page = await visitor.open(viewport={"width": NARROWEST, "height": 600}, is_mobile=True)
    await expect(page.get_by_text("There are no drops yet.")).to_be_visible()
    widths = (NARROWEST, PHONE["width"])
    for is_open in (False, True):
        if is_open:
            await open_tools(page)
        for width in widths:
            await page.set_viewport_size({"width": width, "height": 600})
            await assert_fits(page)
    await page.get_by_label("New user").fill("W" * 200)
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_contain_text("WWW")
    await show_everything(api, page, name="W" * 200, price=9_999_999_999.99, total_stock=2_147_483_647)
    for width in widths:
        await page.set_viewport_size({"width": width, "height": 600})
        await assert_fits(page)


@pytest.mark.slow
async def test_forced_colors(visitor: Visitor, drop_id: str) -> None:
    """With forced colours, left, held and sold still have three colours."""
    page = await visitor.open(forced_colors="active")
    parts = [card_of(page, drop_id).locator(f".bar .{part}") for part in ("left", "held", "sold")]
    colors = {await part.evaluate("(element) => getComputedStyle(element).backgroundColor") for part in parts}
    assert len(colors) == 3


@pytest.mark.slow
async def test_reduced_motion(api: Api, visitor: Visitor) -> None:
    """With reduced motion nothing moves; otherwise the bar glides."""
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller))["id"]
    pages = {}
    for motion in ("reduce", "no-preference"):
        context = await visitor.context(reduced_motion=motion)
        await context.add_init_script("window.transitions = 0; addEventListener('transitionrun', () => window.transitions++);")
        pages[motion] = await visitor.open(context)
        await expect_stock(pages[motion], drop_id, 5, 0, 0)
    await reserve(api.http, drop_id, seller)
    for page in pages.values():
        await expect_stock(page, drop_id, 4, 1, 0)
    await eventually(lambda: pages["no-preference"].evaluate("window.transitions"))
    await eventually(lambda: pages["reduce"].evaluate("new Promise((resolve) => requestAnimationFrame(() => resolve(true)))"))
    assert await pages["reduce"].evaluate("window.transitions") == 0
    assert await pages["reduce"].evaluate("document.getAnimations().length") == 0
