"""Steps of the tests of the buyer's page."""

from datetime import UTC, datetime, timedelta

from playwright.async_api import BrowserContext, Locator, Page, expect

from tests.support.browser import Visitor
from tests.support.row_checks import Row

SIZES = [{"name": name, "total_stock": stock} for name, stock in (("8", 1), ("8.5", 2), ("9", 12), ("10", 5))]

BOUGHT = "It\u2019s yours."


def in_time(**durations: float) -> str:
    """The time that is so far from now."""
    return (datetime.now(UTC) + timedelta(**durations)).isoformat()


async def open_drop(
    visitor: Visitor, drop: Row, context: BrowserContext | None = None, fragment: str = "", **options: object
) -> Page:
    """The page of a drop, connected; in a new context with these options unless one is given."""
    page = await (context or await visitor.context(**options)).new_page()
    await page.goto(f"/d/{drop['id']}{fragment}")
    await expect(page.locator("#connection")).to_have_text("Live")
    return page


def button(page: Page, name: str) -> Locator:
    """The button with exactly this text."""
    return page.get_by_role("button", name=name, exact=True)


async def press(page: Page, name: str) -> None:
    """Press the button with this text, as soon as the page takes a press."""
    await expect(button(page, name)).to_be_visible()
    await page.wait_for_timeout(550)  # the page ignores the second press of a double click
    await button(page, name).click()


async def choose(page: Page, size: str) -> None:
    """Choose the size with this name."""
    await page.locator(".sizes label", has=page.get_by_text(size, exact=True)).locator("input").check()


async def hold_size(page: Page, size: str) -> None:
    """Choose a size and reserve it."""
    await choose(page, size)
    await press(page, f"Reserve size {size}")
    await expect(page.locator("#panel-title")).to_have_text(f"Size {size} is held for you")


async def expect_said(page: Page, text: str) -> None:
    """A screen reader was told this last."""
    await expect(page.get_by_role("status")).to_have_text(text)
