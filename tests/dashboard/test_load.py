"""The dashboard under load: with 50 drops and 100 events a second for half a minute the page stays quick, small and right."""

import asyncio
import random
from collections import deque
from json import loads
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, CDPSession, expect

from tests.support.browser import visiting
from tests.support.dashboard import REFUND, expect_truth
from tests.support.factories import make_drop, make_user
from tests.support.streams import Api, newest_id

DROPS, EVENTS_A_SECOND, SECONDS, WARM_UP_SECONDS = 50, 100, 30, 5
TICKS_A_SECOND = 5
RESERVES, PURCHASES = 9, 6
"""The calls of a tick: a reserve is one event, a purchase two if it is the drop's only one. Once a second a refund makes two."""

LONGEST_TASK_MS = 200
"""Of processor time, because elapsed time measures the machine: beside other work a task of 74 ms took 331. The longest task
of the page was measured at 97 to 112 ms there, and a processor may be half as fast."""

TRACED = ["devtools.timeline", "disabled-by-default-devtools.timeline"]
HEAP_GROWTH_BYTES = 3_000_000
MORE_NODES = 1000
"""The nodes that may be added while the lists fill: the feed shows 60 lines, and a row is filled when it comes near."""

RESERVE = (
    "select code from api.reserve_batch(array(select row(drop_id, user_id, null, null, null)::api.reserve_request"
    " from unnest($1::uuid[], $2::uuid[]) q (drop_id, user_id)), 86400)"
)
PURCHASE = (
    "select code, data ->> 'id' as id"
    " from api.purchase_batch(array(select row(drop_id, user_id, null, null)::api.purchase_request"
    " from unnest($1::uuid[], $2::uuid[]) q (drop_id, user_id)))"
)


async def size_of(session: CDPSession) -> tuple[int, int]:
    """The bytes of the page's heap and the number of its DOM nodes, after a garbage collection."""
    await session.send("HeapProfiler.collectGarbage")
    heap: dict[str, Any] = await session.send("Runtime.getHeapUsage")
    metrics: dict[str, Any] = await session.send("Performance.getMetrics")
    [nodes] = [metric["value"] for metric in metrics["metrics"] if metric["name"] == "Nodes"]
    return int(heap["usedSize"]), int(nodes)


class Crowd:
    """Users who reserve and purchase on all drops, at a constant rate."""

    def __init__(self, api: Api, drops: list[UUID], users: list[UUID]) -> None:
        self._api = api
        self._drops = drops
        self._users = users
        self._held: deque[tuple[UUID, UUID]] = deque()
        self._bought: deque[UUID] = deque()
        self._chance = random.Random(7)  # noqa: S311 - a load to repeat, not a secret

    async def run(self, seconds: float) -> None:
        """Make EVENTS_A_SECOND. If the database is slow, it falls behind and catches up."""
        begin = monotonic()
        for tick in range(int(seconds * TICKS_A_SECOND)):
            await asyncio.sleep(begin + tick / TICKS_A_SECOND - monotonic())
            await self._reserve()
            if len(self._held) > 10 * PURCHASES:
                await self._purchase()
            if tick % TICKS_A_SECOND == 0 and self._bought:
                await self._api.owner.fetchval(REFUND, self._bought.popleft())

    async def _reserve(self) -> None:
        drops, taken = self._chance.sample(self._drops, RESERVES), set(self._held)
        users = [next(user for user in self._chance.sample(self._users, 100) if (drop, user) not in taken) for drop in drops]
        rows = await self._api.owner.fetch(RESERVE, drops, users)
        assert [row["code"] for row in rows] == [None] * RESERVES
        self._held.extend(zip(drops, users, strict=True))

    async def _purchase(self) -> None:
        drops, users = zip(*[self._held.popleft() for _ in range(PURCHASES)], strict=True)
        rows = await self._api.owner.fetch(PURCHASE, drops, users)
        assert [row["code"] for row in rows] == [None] * PURCHASES
        self._bought.append(UUID(rows[0]["id"]))


# A day with one drop that sells a unit each second, and one more drop each minute that ends at once; returns what is kept.
A_DAY = """async () => {
  const { applyEvent } = await import("/lastpair.js");
  const { State } = await import("/dashboard/state.js");
  const { Feed } = await import("/dashboard/feed.js");
  const feed = new Feed();
  let now = 0;
  const state = new State(() => now, {
    onChange() {}, onHappening: (happening) => feed.add(happening), onHoldExpired() {},
  });
  const units = { total_stock: 100000, available_stock: 100000 };
  const drop = (id, status) => ({ id, name: id, status, starts_at: null, ends_at: null, variants: [], ...units });
  const told = (type, data) => {
    const event = { type, data, id: String(now) };
    applyEvent(state.rows, event);
    state.apply(state.rows.get(data.dropId ?? data.drop.id), event);
  };
  told("DROP_CREATED", { drop: drop("sells", "live") });
  for (let second = 1; second <= 24 * 60 * 60; second++) {
    now = 1000 * second;
    told("STOCK_UPDATED", { dropId: "sells", availableStock: 100000 - second });
    told("PURCHASE_COMPLETED", { dropId: "sells", username: "ann", qty: 1 });
    if (second % 60 === 0) told("DROP_CREATED", { drop: drop(`ends-${second}`, "ended") });
    state.removeOver();
  }
  const { series: { points }, sold_stock } = state.drops.get("sells");
  const [{ at }] = points, { sold, left } = points.at(-1);
  const { drops, rows } = state, sizes = { drops: drops.size, rows: rows.size, feed: feed.entries.length, points: points.length };
  return { ...sizes, at, sold, left, sold_stock };
}"""


@pytest.mark.slow
async def test_a_day(api: Api, browser: Browser) -> None:
    """A page keeps the whole day of a drop in few points, and sixty lines of the feed, however long it is open."""
    async with visiting(browser, api.url) as visitor:
        page = await visitor.open()
        kept = await page.evaluate(A_DAY)
        assert kept.pop("points") in range(80, 161)
        sold = 24 * 60 * 60
        assert kept == {
            "drops": 1 + 6,
            "rows": 1 + 6,
            "feed": 60,
            "at": 0,
            "sold": sold,
            "left": 100_000 - sold,
            "sold_stock": sold,
        }


@pytest.mark.slow
async def test_half_a_minute(api: Api, browser: Browser) -> None:
    """No task takes long, heap and nodes do not grow, and in the end the page shows what the database holds."""
    users = [UUID(await make_user(api.owner)) for _ in range(100)]
    drops = [UUID((await make_drop(api.http, str(users[0]), name=f"Air {n}", total_stock=5000))["id"]) for n in range(DROPS)]
    crowd = Crowd(api, drops, users)
    async with visiting(browser, api.url) as visitor:
        context = await visitor.context()
        await browser.start_tracing(categories=TRACED)
        page = await visitor.open(context)
        await expect(page.locator(".row")).to_have_count(DROPS)
        session = await context.new_cdp_session(page)
        await session.send("Performance.enable")
        await crowd.run(WARM_UP_SECONDS)
        trace = loads(await browser.stop_tracing())["traceEvents"]  # without the garbage collections of size_of
        heap_before, nodes_before = await size_of(session)
        newest_before = await newest_id(api.owner)
        await browser.start_tracing(categories=TRACED)
        await crowd.run(SECONDS - WARM_UP_SECONDS)
        trace += loads(await browser.stop_tracing())["traceEvents"]
        events = await api.owner.fetchval("select count(*) from inventory.events where id > $1", newest_before)
        heap, nodes = await size_of(session)
        tasks = task_durations_ms(trace, api.url)
        print(f"{heap_before=} {heap=} {nodes_before=} {nodes=} {events=} {len(tasks)=} longest={sorted(tasks)[-5:]}")
        assert events >= EVENTS_A_SECOND * (SECONDS - WARM_UP_SECONDS) * 0.95
        assert len(tasks) > SECONDS * TICKS_A_SECOND  # on a slow machine one task shows several events
        assert max(tasks) < LONGEST_TASK_MS
        assert heap - heap_before < HEAP_GROWTH_BYTES
        assert nodes - nodes_before < MORE_NODES
        await expect_truth(page, api.owner, drops)
        assert await page.locator("#feed li").count() <= 60


def task_durations_ms(trace: list[dict[str, Any]], url: str) -> list[float]:
    """The processor time of each task in the thread of the page from this URL. Chromium's own pages have other threads."""
    parsed = [event for event in trace if event["name"] == "ParseHTML" and "beginData" in event["args"]]
    threads = {(event["pid"], event["tid"]) for event in parsed if event["args"]["beginData"]["url"].startswith(url)}
    assert len(threads) == 1
    tasks = [event for event in trace if event["name"] == "RunTask" and (event["pid"], event["tid"]) in threads]
    return [task["tdur"] / 1000 for task in tasks if "tdur" in task]
