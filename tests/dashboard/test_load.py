"""The dashboard under load: 50 drops and 100 events a second for half a minute, and the page stays quick, small and right."""

import asyncio
import random
from collections import deque
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, CDPSession, expect

from tests.support.browser import visiting
from tests.support.dashboard import REFUND, expect_truth
from tests.support.factories import make_drop, make_user
from tests.support.streams import Stage, newest_id

DROPS, EVENTS_A_SECOND, SECONDS, WARM_UP_SECONDS = 50, 100, 30, 5
TICKS_A_SECOND = 5
RESERVES, PURCHASES = 9, 6
"""A tick's: a reserve is one event, a purchase two, if it is the drop's only one. Once a second comes a refund, with two."""

LONGEST_TASK_MS = 200
HEAP_GROWTH_BYTES = 3_000_000
MORE_NODES = 1000
"""So many may come while the lists fill up: the news shows 100 lines, a card three purchasers."""

NOTE_LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const { startTime, duration } of list.getEntries()) window.longTasks.push([startTime, duration]);
}).observe({ type: "longtask", buffered: true });
"""

RESERVE = (
    "select code from api.reserve_batch(array(select row(drop_id, user_id, null)::api.reserve_request"
    " from unnest($1::uuid[], $2::uuid[]) q (drop_id, user_id)), 86400)"
)
PURCHASE = (
    "select code, data ->> 'id' as id from api.purchase_batch(array(select row(drop_id, user_id, null)::api.purchase_request"
    " from unnest($1::uuid[], $2::uuid[]) q (drop_id, user_id)))"
)


async def size_of(session: CDPSession) -> tuple[int, int]:
    """The bytes of the page's heap and the number of its DOM nodes, without what nobody needs any more."""
    await session.send("HeapProfiler.collectGarbage")
    heap: dict[str, Any] = await session.send("Runtime.getHeapUsage")
    metrics: dict[str, Any] = await session.send("Performance.getMetrics")
    [nodes] = [metric["value"] for metric in metrics["metrics"] if metric["name"] == "Nodes"]
    return int(heap["usedSize"]), int(nodes)


class Crowd:
    """Users who reserve and purchase on all drops, so many a second."""

    def __init__(self, stage: Stage, drops: list[UUID], users: list[UUID]) -> None:
        self._stage = stage
        self._drops = drops
        self._users = users
        self._held: deque[tuple[UUID, UUID]] = deque()
        self._bought: deque[UUID] = deque()
        self._chance = random.Random(7)  # noqa: S311 - a load to repeat, not a secret

    async def run(self, seconds: float) -> None:
        """Do what makes EVENTS_A_SECOND. Falls behind when the database does, and makes up for it."""
        begin = monotonic()
        for tick in range(int(seconds * TICKS_A_SECOND)):
            await asyncio.sleep(begin + tick / TICKS_A_SECOND - monotonic())
            await self._reserve()
            if len(self._held) > 10 * PURCHASES:
                await self._purchase()
            if tick % TICKS_A_SECOND == 0 and self._bought:
                await self._stage.owner.fetchval(REFUND, self._bought.popleft())

    async def _reserve(self) -> None:
        drops, taken = self._chance.sample(self._drops, RESERVES), set(self._held)
        users = [next(user for user in self._chance.sample(self._users, 100) if (drop, user) not in taken) for drop in drops]
        rows = await self._stage.owner.fetch(RESERVE, drops, users)
        assert [row["code"] for row in rows] == [None] * RESERVES
        self._held.extend(zip(drops, users, strict=True))

    async def _purchase(self) -> None:
        drops, users = zip(*[self._held.popleft() for _ in range(PURCHASES)], strict=True)
        rows = await self._stage.owner.fetch(PURCHASE, drops, users)
        assert [row["code"] for row in rows] == [None] * PURCHASES
        self._bought.append(UUID(rows[0]["id"]))


# A day of one drop that sells a unit a second, and of another each minute that ends at once; what is remembered in the end.
A_DAY = """async () => {
  const { State } = await import("/dashboard/state.js");
  let now = 0;
  const state = new State(() => now, { onChange() {}, onNews() {}, onSoldUnknown() {}, onHoldExpired() {} });
  const units = { total_stock: 100000, available_stock: 100000 };
  const drop = (id, status) => ({ id, name: id, status, starts_at: null, ends_at: null, ...units });
  const told = (type, data) => state.apply(type, data, String(now));
  told("DROP_CREATED", { drop: drop("sells", "live") });
  for (let second = 1; second <= 24 * 60 * 60; second++) {
    now = 1000 * second;
    told("STOCK_UPDATED", { dropId: "sells", availableStock: 100000 - second });
    told("PURCHASE_COMPLETED", { dropId: "sells", username: "ann" });
    if (second % 60 === 0) told("DROP_CREATED", { drop: drop(`ends-${second}`, "ended") });
    state.removeOver();
  }
  const { history, sold_stock } = state.drops.get("sells");
  return { drops: state.drops.size, news: state.news.length, history: history.length, sold: sold_stock };
}"""


@pytest.mark.slow
async def test_a_day(stage: Stage, browser: Browser) -> None:
    """What a page remembers does not grow with how long it is open: five minutes of each drop, and a hundred lines."""
    async with visiting(browser, stage.url) as visitor:
        page = await visitor.open()
        assert await page.evaluate(A_DAY) == {"drops": 1 + 6, "news": 100, "history": 5 * 60 + 2, "sold": 24 * 60 * 60}


@pytest.mark.slow
async def test_half_a_minute(stage: Stage, browser: Browser) -> None:
    """No task takes long, the heap and the number of nodes stay as they are, and in the end the page is right."""
    users = [UUID(await make_user(stage.owner)) for _ in range(100)]
    drops = [UUID((await make_drop(stage.http, str(users[0]), name=f"Air {n}", total_stock=5000))["id"]) for n in range(DROPS)]
    crowd = Crowd(stage, drops, users)
    async with visiting(browser, stage.url) as visitor:
        context = await visitor.context()
        await context.add_init_script(NOTE_LONG_TASKS)
        page = await visitor.open(context)
        await expect(page.locator(".card")).to_have_count(DROPS)
        session = await context.new_cdp_session(page)
        await session.send("Performance.enable")
        await crowd.run(WARM_UP_SECONDS)
        heap_before, nodes_before = await size_of(session)
        newest_before = await newest_id(stage.owner)
        await crowd.run(SECONDS - WARM_UP_SECONDS)
        events = await stage.owner.fetchval("select count(*) from inventory.events where id > $1", newest_before)
        heap, nodes = await size_of(session)
        long_tasks = await page.evaluate("window.longTasks")
        print(f"{heap_before=} {heap=} {nodes_before=} {nodes=} {events=} {long_tasks=}")
        assert events >= EVENTS_A_SECOND * (SECONDS - WARM_UP_SECONDS) * 0.95
        assert [task for task in long_tasks if task[1] > LONGEST_TASK_MS] == []
        assert heap - heap_before < HEAP_GROWTH_BYTES
        assert nodes - nodes_before < MORE_NODES
        await expect_truth(page, stage.owner, drops)
        assert await page.locator("#news li").count() <= 100
