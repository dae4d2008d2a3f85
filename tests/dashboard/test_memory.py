"""What the server remembers fills the page at first sight; hidden tabs and lost networks give the connection back."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.browser import OUTAGE, Visitor
from tests.support.dashboard import buy, expect_stock, feed_of, open_drop, row_of, without_worker
from tests.support.factories import make_drop, make_user, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


def ago(seconds: float) -> str:
    """A time before now."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def activity_of(drop_id: str) -> Row:
    """Ten minutes of a drop of five units: two were held, one of them bought, and one came back. A bucket is 10 seconds."""
    stock = [(500, 5, None), (400, 4, None), (390, 3, None), (300, 3, "ann"), (200, 4, None)]
    events = [
        {"id": f"old-{n}", "dropId": drop_id, "at": ago(seconds)}
        | (
            {"type": "PURCHASE_COMPLETED", "data": {"dropId": drop_id, "username": name, "qty": 1, "purchasedAt": ago(seconds)}}
            if name
            else {"type": "STOCK_UPDATED", "data": {"dropId": drop_id, "availableStock": left}}
        )
        for n, (seconds, left, name) in enumerate(stock)
    ]
    points = [{"at": ago(seconds), "sold": int(seconds == 300), "held": None, "available": None} for seconds, _, _ in stock]
    return {
        "position": "4",
        "from": ago(600),
        "to": ago(0),
        "events": events,
        "bucket_seconds": 10,
        "drops": [{"dropId": drop_id, "points": points}],
    }


@pytest.fixture
async def drop_id(api: Api) -> str:
    """A drop of which one unit is sold."""
    seller = await make_user(api.owner)
    drop_id: str = (await make_drop(api.http, seller))["id"]
    await api.owner.execute("update inventory.drops set created_at = now() - interval '1 day' where id = $1", UUID(drop_id))
    await buy(api, drop_id, seller)
    return drop_id


async def test_memory(api: Api, visitor: Visitor, drop_id: str) -> None:
    """The feed, the pace and the charts have what happened before; what happens then is added once."""
    asked: list[Any] = []

    async def answer(route: Route) -> None:
        asked.append(parse_qs(urlsplit(route.request.url).query))
        await route.fulfill(json={"success": True, "data": {"activity": activity_of(drop_id)}})

    context = await visitor.context()
    await context.route("**/api/activity?*", answer)
    page = await visitor.open(context)
    lines = ["1 came back to Air One", "1 sold of Air One", "1 held of Air One", "1 held of Air One"]
    await expect(feed_of(page).locator("p")).to_have_text(lines)
    await expect(feed_of(page).locator("time")).to_have_text(["3 min", "5 min", "6 min", "6 min"])
    await expect(feed_of(page).nth(1).locator("small")).to_have_text("ann")
    await expect(page.locator("#note-pace")).to_have_text("peak 1 in 10 min")
    path = await row_of(page, drop_id).locator(".sold-line").get_attribute("d")
    assert path is not None
    assert re.fullmatch(r"M0\.0 40\.0H[67]\d\.\dV32\.4H144\.0", path)  # one of five was sold in the middle
    await reserve(api.http, drop_id, await make_user(api.owner))
    await expect(feed_of(page).locator("p").first).to_have_text("1 held of Air One")
    await expect(feed_of(page)).to_have_count(5)
    await open_drop(page, drop_id)
    await eventually(lambda: is_true(len(asked) == 2))
    assert asked == [{"seconds": ["600"]}, {"seconds": ["3600"], "dropId": [drop_id]}]


async def is_true(value: bool) -> bool:
    """The value, for `eventually`."""
    return value


async def answer(status: int, body: Row, route: Route) -> None:
    """Answer a request with this."""
    await route.fulfill(status=status, json=body)


async def test_without_memory(visitor: Visitor, drop_id: str) -> None:
    """A server that remembers nothing, or does not answer, leaves a page that works."""
    for status in (200, 500):
        visitor.expected = r"Failed to load resource: the server responded with a status of 500 \(Internal Server Error\)"
        context = await visitor.context()
        nothing = {
            "success": True,
            "data": {"activity": {"from": ago(9), "to": ago(0), "bucket_seconds": 1, "events": [], "drops": []}},
        }
        await context.route("**/api/activity?*", partial(answer, status, nothing))
        page = await visitor.open(context)
        await expect_stock(page, drop_id, 4, 0, 1)


# Makes a tab look hidden or shown to the page.
SHOW = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_hidden_tab(api: Api, visitor: Visitor, drop_id: str) -> None:
    """A tab that is hidden for ten seconds ends its stream; shown again it goes on after its last event, without a snapshot."""
    context = await visitor.context()
    await without_worker(context)
    await context.clock.install()
    page = await visitor.open(context)
    await expect_stock(page, drop_id, 4, 0, 1)

    def streams() -> int:
        return sum("/api/events" in url for url in visitor.requests)

    async def flicker(page: Page, seconds: int) -> None:
        await page.evaluate(f"({SHOW})(true)")
        await context.clock.run_for(1000 * seconds)

    await flicker(page, 2)
    await page.evaluate(f"({SHOW})(false)")
    await expect(page.locator("#badge")).to_have_text("Live")
    assert streams() == 1
    await flicker(page, 11)
    await expect(page.locator("#badge")).to_have_text("Reconnecting")
    await reserve(api.http, drop_id, await make_user(api.owner))
    await context.clock.run_for(60_000)
    assert streams() == 1
    async with page.expect_request("**/api/events?*") as request:
        await page.evaluate(f"({SHOW})(false)")
    assert "lastEventId=" in (await request.value).url
    await expect(page.locator("#badge")).to_have_text("Live")
    await expect_stock(page, drop_id, 3, 1, 1)
    assert streams() == 2


async def test_a_lost_network(api: Api, visitor: Visitor, drop_id: str) -> None:
    """A browser that says it is offline is believed at once, and the page says how old its figures are."""
    visitor.expected = OUTAGE
    context = await visitor.context()
    page = await visitor.open(context)
    await expect_stock(page, drop_id, 4, 0, 1)
    await context.set_offline(True)
    await expect(page.locator("#badge")).to_have_text("Reconnecting")
    await expect(page.locator("#as-of")).to_have_text(re.compile(r"^as of \d+:\d\d:\d\d"))
    await reserve(api.http, drop_id, await make_user(api.owner))
    await context.set_offline(False)
    await expect(page.locator("#badge")).to_have_text("Live")
    await expect(page.locator("#as-of")).to_be_hidden()
    await expect_stock(page, drop_id, 3, 1, 1)
