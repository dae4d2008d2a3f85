"""Accessibility: hostile names, the keyboard, screen readers, phones, dark and light, forced colours, reduced motion."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Locator, Page, ViewportSize, expect

from tests.support.browser import Visitor
from tests.support.dashboard import (
    buy,
    close_tools,
    expect_outcome,
    expect_stock,
    feed_of,
    make_named_user,
    open_drop,
    open_tools,
    press,
    row_of,
    update_drop,
)
from tests.support.factories import make_drop, make_user, purchase, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually

EVIL = "<img src=x onerror=alert(1)>"
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
NARROWEST = 320


@pytest.mark.slow
async def test_names_are_text(api: Api, visitor: Visitor) -> None:
    """Names of drops, sizes and users are shown to the letter everywhere and are never taken as HTML."""
    user = await make_named_user(api, EVIL)
    size = {"name": f"{EVIL} 3", "total_stock": 5}
    drop = await make_drop(api.http, user, name=EVIL, total_stock=None, variants=[size])
    for status in ("sold", "held"):
        await reserve(api.http, drop["id"], user, {"variant_id": drop["variants"][0]["id"]})
        if status == "sold":
            await purchase(api.http, drop["id"], user)
    page = await visitor.open()
    await open_tools(page, "Act")
    await page.get_by_label("New buyer").fill(f"{EVIL} 2")
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_have_text(f"You act as {EVIL} 2.")
    await close_tools(page)
    await expect(page.get_by_role("button", name=f"Acting as {EVIL} 2")).to_be_visible()
    await expect(row_of(page, drop["id"]).get_by_role("heading")).to_have_text(EVIL)
    await open_drop(page, drop["id"])
    await expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    await expect(page).to_have_title(f"{EVIL} · Lastpair")
    await expect(page.locator("#purchasers li")).to_contain_text([EVIL])
    await page.locator(".size").click()
    await page.locator("#buy").click()
    await expect_outcome(page, re.compile(f"^{re.escape(EVIL)}, {re.escape(EVIL)} 3 is held for you"))
    await page.locator("#buy").click()
    await expect(page.locator("#table td").filter(has_text=EVIL).first).to_be_visible()
    await page.get_by_role("tab", name="Buyers").click()
    await expect(page.locator("#table td").filter(has_text=f"{EVIL} 2").first).to_be_visible()
    await page.get_by_role("link", name="Drops").click()
    await expect(feed_of(page).filter(has_text="sold").first).to_contain_text(f"{EVIL} 2")
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
    """Tab to a drop, Enter opens it; Tab to Reserve, Enter, Enter buys. The focus is visible and is not lost."""
    link = row_of(page, drop_id).get_by_role("link")
    await focus_on(page, page.locator(".feed-box"))  # it scrolls, so the keyboard must reach it
    await focus_on(page, link)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_be_focused()  # so that a screen reader says where it is
    buy_button, let_go_button = page.locator("#buy"), page.locator("#let-go")
    await focus_on(page, buy_button)
    await expect(buy_button).to_have_css("outline-style", "solid")
    await page.keyboard.press("Enter")
    await expect(buy_button).to_have_text(re.compile("^Pay"))
    await page.keyboard.press("Enter")
    await expect_outcome(page, "Air One is yours.")
    await expect(buy_button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(buy_button).to_have_text(re.compile("^Pay"))
    await page.keyboard.press("Tab")
    await expect(let_go_button).to_be_focused()
    await page.keyboard.press("Space")
    await expect_outcome(page, "Air One went back. Nothing was paid.")
    await expect(buy_button).to_be_focused()
    await page.get_by_role("tab", name="Holders").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Buyers", selected=True)).to_be_focused()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Drops", level=1)).to_be_focused()


@pytest.mark.slow
async def test_focus_stays(api: Api, visitor: Visitor, drop_id: str, page: Page) -> None:
    """The focus stays at a button that is off for a while or for ever. A dialog gives it back."""
    create = page.get_by_role("button", name="Create a drop").first
    await focus_on(page, create)
    await page.keyboard.press("Enter")
    await page.get_by_label("Name").fill("Air Two")
    await page.keyboard.press("Enter")
    await expect_outcome(page, "Air Two was created.")
    await expect(create).to_be_focused()
    reserve_button = row_of(page, drop_id).get_by_role("button", name="Reserve")
    await focus_on(page, reserve_button)
    await update_drop(api, drop_id, status="ended")
    await expect(reserve_button).to_be_disabled()
    await expect(reserve_button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(reserve_button).to_be_focused()
    assert not [url for url in visitor.requests if url.endswith("/reserve")]


# Notes what the live regions of the page say.
NOTE_SPOKEN = """() => {
  window.spoken = [];
  for (const region of document.querySelectorAll("[role=status], [aria-live], output")) {
    new MutationObserver(() => window.spoken.push(region.textContent))
      .observe(region, { childList: true, characterData: true, subtree: true });
  }
}"""


@pytest.mark.slow
async def test_what_is_spoken(api: Api, drop_id: str, page: Page) -> None:
    """A screen reader is told what came of one's own buttons, and not every sale of others."""
    await page.evaluate(NOTE_SPOKEN)
    await buy(api, drop_id, await make_user(api.owner))
    await expect_stock(page, drop_id, 4, 0, 1)
    assert await page.evaluate("window.spoken") == []
    await press(page, drop_id, "Reserve")
    await expect_outcome(page, re.compile("^Air One is held for you"))
    assert [text[:23] for text in await page.evaluate("window.spoken")] == ["Air One is held for you"]


async def show_everything(api: Api, page: Page, name: str = "Air One", **fields: object) -> str:
    """Fill the page: drops in every status, holds, an outcome. Returns the id of a drop with sizes, holders and buyers."""
    seller = await make_user(api.owner)
    later = {"starts_at": (datetime.now(UTC) + timedelta(days=3)).isoformat()}
    size_stock = int(str(fields.get("total_stock", 9))) // 9
    sizes = [{"name": f"{name[:99]}{n}", "total_stock": size_stock if n else 1, "price": n} for n in range(9)]
    kinds: list[Row] = [later, {}, {"total_stock": 1}, {}, {}, {}, {"total_stock": None, "variants": sizes}]
    rows = [await make_drop(api.http, seller, **{"name": name} | fields | kind) for kind in kinds]
    live, sold_out, ended, cancelled, paused, sized = [row["id"] for row in rows][1:]
    buyer = await make_named_user(api, f"{uuid4().hex[:8]}{name[:150]}")
    for drop_id in (live, sold_out):
        await buy(api, drop_id, buyer)
    for place in (0, 1):
        await reserve(api.http, sized, buyer, {"variant_id": rows[-1]["variants"][place]["id"]})
        if place == 0:
            await purchase(api.http, sized, buyer)
    await expect(page.locator(".row")).to_have_count(len(rows))
    if (page.viewport_size or {"width": 0})["width"] > PHONE["width"]:  # a phone has the button on the page of the drop
        await press(page, live, "Reserve")
        await expect_outcome(page, re.compile("is held for you"))
    await update_drop(api, ended, status="ended")
    await update_drop(api, cancelled, status="cancelled")
    await update_drop(api, paused, paused=True)
    await row_of(page, cancelled).scroll_into_view_if_needed()  # a row is drawn while it is near the window
    await expect(row_of(page, cancelled).locator(".status")).to_have_text("Cancelled")
    return str(sized)


async def assert_accessible(page: Page) -> None:
    """axe-core finds nothing serious or critical, in a wide and a narrow window, light and dark."""
    for size in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # no colour is on its way
            results = await Axe().run(page)
            bad = [
                (violation["id"], [(node["target"], node["failureSummary"]) for node in violation["nodes"]])
                for violation in results.response["violations"]
                if violation["impact"] in ("serious", "critical")
            ]
            assert (size, scheme, bad) == (size, scheme, [])


@pytest.mark.slow
async def test_accessible(api: Api, visitor: Visitor, page: Page) -> None:
    """axe-core finds nothing: the empty list and the full one, the page of a drop with each tab, drawer and dialog."""
    await expect(page.get_by_text("No drops yet")).to_be_visible()
    await assert_accessible(page)
    drop_id = await show_everything(api, page, hold_seconds=600)  # axe-core takes a while
    await assert_accessible(page)
    await page.set_viewport_size(DESKTOP)
    await open_tools(page, "Create a drop")
    await page.get_by_text("Picture, limit and holds").click()
    await page.get_by_role("button", name="Add sizes").click()
    for name in ("Starts", "Ends"):
        await page.get_by_label(name).select_option("at a time…")
    await assert_accessible(page)
    await close_tools(page)
    await page.set_viewport_size(DESKTOP)
    await open_drop(page, drop_id)
    for tab in ("Holders", "Buyers", "History"):
        await page.get_by_role("tab", name=tab).click()
        await expect(page.locator("#table-body tr").first).to_be_visible()
        await assert_accessible(page)
    await page.get_by_role("button", name="Cancel drop").click()
    await assert_accessible(page)


# The elements that are wider than their box. What is cut off on purpose, with an ellipsis or to scroll, is not among them.
TOO_WIDE = """[...document.querySelectorAll(":is(.surface, dialog, .top) *")]
  .filter((part) => part.checkVisibility())
  .filter((part) => !part.closest(".purchasers, .unseen, .feed, .table-box, .name, .note, .terms, .filters"))
  .filter((part) => part.getBoundingClientRect().right > part.closest(".surface, dialog, .top").getBoundingClientRect().right + 1)
  .map((part) => part.outerHTML.slice(0, 80))"""


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
    widths = (NARROWEST, PHONE["width"], 800)

    async def assert_fits_everywhere() -> None:
        for width in widths:
            await page.set_viewport_size({"width": width, "height": 600})
            await assert_fits(page)
        await page.set_viewport_size({"width": NARROWEST, "height": 600})

    await expect(page.get_by_text("No drops yet")).to_be_visible()
    await assert_fits_everywhere()
    await open_tools(page, "Act")
    await page.get_by_text("Picture, limit and holds").click()
    await page.get_by_role("button", name="Add sizes").click()
    for name in ("Starts", "Ends"):
        await page.get_by_label(name).select_option("at a time…")
    await assert_fits_everywhere()
    await page.get_by_label("New buyer").fill("W" * 200)
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_contain_text("WWW")
    await close_tools(page)
    drop_id = await show_everything(api, page, name="W" * 200, price=9_999_999_999.99, total_stock=2_147_483_647)
    await assert_fits_everywhere()
    await open_drop(page, drop_id)
    await expect(page.locator("#table-body tr").first).to_be_visible()
    await assert_fits_everywhere()
    await page.get_by_role("button", name="Edit").click()
    await assert_fits_everywhere()


@pytest.mark.slow
async def test_forced_colors(visitor: Visitor, drop_id: str) -> None:
    """With forced colours, sold, held and left still have three colours."""
    page = await visitor.open(forced_colors="active")
    background = await row_of(page, drop_id).locator(".bar").evaluate("(bar) => getComputedStyle(bar).backgroundImage")
    assert len(set(re.findall(r"rgb\([^)]*\)", background))) == 3


async def test_choices_with_forced_colors(api: Api, visitor: Visitor) -> None:
    """With forced colours, which draw no backgrounds, the chosen filter, tab and size still look unlike the others."""
    sizes = [{"name": name, "total_stock": 2} for name in ("42", "43")]
    drop = await make_drop(api.http, await make_user(api.owner), total_stock=None, variants=sizes)
    page = await visitor.open(forced_colors="active")

    async def outlines(choices: Locator) -> list[str]:
        found: list[str] = await choices.evaluate_all(
            "(all) => all.map((each) => getComputedStyle(each)).map((style) => style.outlineStyle + style.borderBottomColor)"
        )
        return found

    await expect(page.locator("#filters [aria-pressed=true]")).to_have_count(1)
    chosen, *others = await outlines(page.locator("#filters button"))
    assert chosen not in others
    await open_drop(page, drop["id"])
    await page.locator(".size input").first.check()
    for choices in (page.locator("#tabs button"), page.locator(".size")):
        chosen, *others = await outlines(choices)
        assert chosen not in others


async def test_a_name_from_right_to_left(api: Api, visitor: Visitor) -> None:
    """A name in Arabic is written from its own beginning, which is seen although the name is too long for its place."""
    name = "\u062d\u0630\u0627\u0621 \u0631\u064a\u0627\u0636\u064a " * 12 + "(2026)!"
    sizes = [{"name": "\u0643\u0628\u064a\u0631", "total_stock": 2}]
    drop = await make_drop(api.http, await make_user(api.owner), name=name, total_stock=None, variants=sizes)
    page = await visitor.open()
    await expect(row_of(page, drop["id"]).get_by_role("link")).to_have_css("direction", "rtl")
    await open_drop(page, drop["id"])
    for place in ("#drop-name", ".size-name"):
        await expect(page.locator(place)).to_have_css("direction", "rtl")
    await page.goto(f"/d/{drop['id']}")
    for place in ("#name", ".sizes label bdi"):
        await expect(page.locator(place)).to_have_css("direction", "rtl")


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
