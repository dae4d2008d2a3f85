"""How many watch, in the strip of totals."""

import pytest
from playwright.async_api import Route, expect

from tests.support.browser import Visitor
from tests.support.dashboard import set_clock
from tests.support.streams import Api

PATIENCE_MS = 120_000
HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.mark.slow
async def test_another_visitor_comes_and_leaves(api: Api, visitor: Visitor) -> None:
    """Every page counts the other."""
    first = await visitor.open()
    await expect(first.locator("#total-watchers")).to_have_text("1", timeout=PATIENCE_MS)
    context = await visitor.context()
    second = await visitor.open(context)
    for page in (first, second):
        await expect(page.locator("#total-watchers")).to_have_text("2", timeout=PATIENCE_MS)
    await context.close()
    await expect(first.locator("#total-watchers")).to_have_text("1", timeout=PATIENCE_MS)


@pytest.mark.slow
async def test_a_page_that_nobody_sees_does_not_ask(api: Api, visitor: Visitor) -> None:
    """It asks every ten seconds while it is seen, and as soon as it is seen again. Its own stream counts from the beginning."""
    asked, told = 0, 0

    async def answer(route: Route) -> None:
        nonlocal asked
        asked += 1
        await route.fulfill(json={"success": True, "data": {"watchers": told}, "meta": {}})

    context = await visitor.context()
    await set_clock(context)
    await context.route("**/api/watchers", answer)
    page = await visitor.open(context)
    watchers = page.locator("#total-watchers")
    await expect(watchers).to_have_text("1")
    told = 12_345
    await context.clock.fast_forward(10_000)
    await expect(watchers).to_have_text("12,345")
    await page.evaluate(HIDE, True)
    asked_before = asked
    for _ in range(3):
        await context.clock.fast_forward(10_000)
    assert asked - asked_before <= 1  # which was under way
    told = 7
    await page.evaluate(HIDE, False)
    await expect(watchers).to_have_text("7")
