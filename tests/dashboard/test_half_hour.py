"""The dashboard for half an hour: it keeps no more after the last ten minutes than after the first."""

import asyncio
from json import dumps
from pathlib import Path

import pytest
from playwright.async_api import CDPSession, Page, Route, expect

from tests.dashboard.test_load import size_of
from tests.support.browser import Visitor
from tests.support.dashboard import set_clock
from tests.support.envelopes import assert_success
from tests.support.factories import make_drop, make_user
from tests.support.streams import Api

SCRIPT = Path(__file__).with_name("half_hour.js")
DROP_PAGE = "/drops/00000000-0000-7000-8000-000000000000"
MINUTES, STEPS_A_MINUTE, EVENTS_A_STEP = 10, 15, 80
"""Ten minutes three times. Every list and chart is full after the first: the chart of the pace is the longest of them."""

GROWTH_BYTES = 400_000
"""The heap may grow by so much in the 24,000 events of twenty minutes: 17 bytes an event. It was measured to grow by 80,000."""

GROWTH_NODES = 2500
"""On the page of a drop the list is hidden, and a row of it is filled when a new drop comes first: 60 rows of 40 nodes in
the end. A node that stays after each event would be 24,000."""


async def pass_minutes(page: Page) -> None:
    """Let ten minutes pass, with all that happens in them, all timers and all drawing. All rows come into the window."""
    for minute in range(MINUTES):
        for step in range(STEPS_A_MINUTE):
            assert await page.evaluate("([count, isNew]) => tell(count, isNew)", [EVENTS_A_STEP, step == 0]) == 1
            await page.clock.run_for(60_000 // STEPS_A_MINUTE)
        await page.evaluate("(y) => scrollTo(0, y)", 700 * (minute % MINUTES))
    await page.evaluate("scrollTo(0, 0)")


async def settled_size(session: CDPSession) -> tuple[int, int]:
    """The least of some measurements, because a collection leaves what the browser is still at work on."""
    sizes = []
    for _ in range(5):
        sizes.append(await size_of(session))
        await asyncio.sleep(0.2)
    return min(heap for heap, _ in sizes), min(nodes for _, nodes in sizes)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", DROP_PAGE])
async def test_memory_is_flat(api: Api, visitor: Visitor, path: str) -> None:
    """The list, and the page of a drop, with 50 drops of which two end each minute and two are new."""
    drop = await make_drop(api.http, await make_user(api.owner))
    [template] = assert_success(await api.http.get("/drops"), "drops")
    context = await visitor.context()
    await set_clock(context)
    if path != "/":  # the server does not have the drop, and so no list of its holders
        await context.route("**/dashboard/settings.json", not_in_development)
    await context.add_init_script(f"const TEMPLATE = {dumps(template, default=float)};\n{SCRIPT.read_text()}")
    page = await visitor.open(context, path)
    shown = page.locator("#drop-name" if path != "/" else ".row[data-drop-id]").first
    await expect(shown).to_contain_text("Drop")
    session = await context.new_cdp_session(page)
    await session.send("Performance.enable")
    sizes = []
    for _ in range(3):
        await pass_minutes(page)
        sizes.append(await settled_size(session))
    print(path, drop["id"], sizes)
    (heap, nodes), *later = sizes
    for heap_then, nodes_then in later:
        assert heap_then - heap < GROWTH_BYTES, sizes
        assert nodes_then - nodes < GROWTH_NODES, sizes
    await expect(page.locator("#badge")).to_have_text("Live")


async def not_in_development(route: Route) -> None:
    """The settings of the page in production."""
    await route.fulfill(json={"development": False})
