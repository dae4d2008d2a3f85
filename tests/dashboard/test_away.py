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


STATE = """async () => {
  const { State } = await import("/dashboard/state.js");
  const state = new State(() => 0, { onChange() {}, onHappening() {}, onHoldExpired() {} });
  const fields = { status: "live", starts_at: null, ends_at: null, variants: [], total_stock: 1, available_stock: 1 };
  const drop = (id) => ({ id, name: id, ...fields, activity_feed: { latest_purchasers: [], held_stock: 0 } });
  const shown = [];
  for (const data of [
    { drops: [drop("a")], incomplete: ["node 2"] }, { drops: [drop("b")], completes: ["node 2"] }, { drops: [drop("c")] },
  ]) {
    state.apply(undefined, { type: "SNAPSHOT", data, id: "0:1" });
    shown.push([...state.drops.keys()].join());
  }
  const at = "2026-01-01T00:00:00.123Z", event = { type: "STOCK_UPDATED", dropId: "c", at: "2026-01-01T00:00:00.123456+00:00" };
  state.apply(drop("c"), { type: "STOCK_UPDATED", data: { dropId: "c", at }, id: "0:2,2:7" });
  return [...shown, state.hasSeen({ ...event, id: "0:2" }), state.hasSeen({ ...event, dropId: "b", id: "2:7" })];
}"""


async def test_its_drops_come(visitor: Visitor) -> None:
    """They are added to the others. An event that was told before is known by what it is, because its id is a position."""
    page = await visitor.open()
    assert await page.evaluate(STATE) == ["a", "a,b", "c", True, False]
