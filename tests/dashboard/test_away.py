"""A node of the service is away: the page says that its drops are missing."""

import pytest
from playwright.async_api import Route, expect

from tests.support.browser import Visitor
from tests.support.dashboard import set_clock


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (["node 2"], "Node 2 is away: its drops are missing here."),
        (["node 2", "node 5", "node 7"], "Node 2, node 5 and node 7 are away: their drops are missing here."),
    ],
)
async def test_away(visitor: Visitor, nodes: list[str], sentence: str) -> None:
    """A list that lacks drops shows a line, which goes as soon as a list lacks nothing."""
    missing = nodes

    async def answer(route: Route) -> None:
        meta = {"requestId": "1"} | ({"incomplete": missing} if missing else {})
        await route.fulfill(json={"success": True, "data": {"drops": []}, "meta": meta})

    context = await visitor.context()
    await set_clock(context)
    await context.route("**/api/drops?*", answer)
    page = await visitor.open(context)
    line = page.locator("#away")
    await expect(page.locator("#badge")).to_have_text("Live")
    await expect(line).to_be_hidden()
    await page.get_by_role("button", name="Over").click()
    await expect(line).to_have_text(sentence)
    await context.clock.fast_forward(5000)
    await expect(line).to_have_text(sentence)
    missing = []
    await context.clock.fast_forward(5000)
    await expect(line).to_be_hidden()
