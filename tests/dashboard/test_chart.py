"""The chart of a drop: a sale of any length fills it, with labels of time that have room."""

import asyncio
import re
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import Visitor
from tests.support.dashboard import buy, open_drop, update_drop
from tests.support.factories import make_user
from tests.support.streams import Api
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

# Draws a sale of 100 units that begins `waitMs` after the drop is known and takes `saleMs`, as it looks `laterMs` after its end.
DRAW = """async ([width, waitMs, saleMs, laterMs, isOver]) => {
  const { Chart } = await import("/dashboard/chart.js");
  const element = document.createElement("div");
  element.className = "chart";
  element.style.width = `${width}px`;
  document.body.replaceChildren(element);
  const begin = Date.parse("2026-05-04T13:37:11.128Z");
  const point = (at, sold) => ({ at, sold, held: 0, left: 100 - sold });
  const sales = Array.from({ length: 100 }, (_, n) => point(begin + waitMs + (saleMs * n) / 99, n + 1));
  new Chart(element).render([point(begin, 0), ...sales], begin + waitMs + saleMs + laterMs, isOver);
  const labels = [...element.querySelectorAll("text[text-anchor=middle]")];
  const line = element.querySelector(".sold-line").getAttribute("d");
  const corners = [...line.matchAll(/H([\\d.]+)/g)].map(([, x]) => Number(x));
  return {
    labels: labels.map((label) => label.textContent),
    boxes: labels.map((label) => label.getBBox()).map(({ x, width }) => [x, x + width]),
    begin: corners[0],
    end: corners.at(-2),
    edge: corners.at(-1),
  };
}"""

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
PADDING_PX = 16  # a little less than the box has


@pytest.fixture
async def page(visitor: Visitor) -> Page:
    """A blank page with the style sheet of the dashboard."""
    context = await visitor.context()
    blank = '<!doctype html><link rel="stylesheet" href="/dashboard/style.css">'
    await context.route("**/blank", lambda route: route.fulfill(body=blank, content_type="text/html"))
    page = await context.new_page()
    await page.goto("/blank")
    return page


@pytest.mark.parametrize("width", [300, 940])
@pytest.mark.parametrize("sale_ms", [500, 5 * SECOND, MINUTE, HOUR, 24 * HOUR, 30 * 24 * HOUR])
async def test_a_sale_that_is_over(page: Page, width: int, sale_ms: int) -> None:
    """Whatever was before and after, the sale takes most of the width, and labels tell its times."""
    for wait_ms, later_ms in ((0, 0), (20, 100), (3 * HOUR, MINUTE), (0, 30 * HOUR)):
        drawn = await page.evaluate(DRAW, [width, wait_ms, sale_ms, later_ms, True])
        assert drawn["end"] - drawn["begin"] > 0.75 * (width - 48), drawn
        assert_readable(drawn, width)


@pytest.mark.parametrize("sale_ms", [10 * SECOND, MINUTE, HOUR, 24 * HOUR])
async def test_a_sale_that_goes_on(page: Page, sale_ms: int) -> None:
    """The line ends now, at the right edge, and begins near the left one with the first sale."""
    drawn = await page.evaluate(DRAW, [940, 3 * HOUR, sale_ms, 0, False])
    assert drawn["begin"] < 48 + 0.15 * (940 - 48)
    assert drawn["edge"] == pytest.approx(940)
    assert_readable(drawn, 940)


async def test_one_sale(page: Page) -> None:
    """A sale at one moment is in the middle."""
    drawn = await page.evaluate(DRAW, [940, HOUR, 0, MINUTE, True])
    assert drawn["begin"] == drawn["end"] == pytest.approx(48 + (940 - 48) / 2, abs=1)
    assert_readable(drawn, 940)


def assert_readable(drawn: dict[str, Any], width: int) -> None:
    """Enough labels, each another one, which do not touch each other or the edge."""
    labels, boxes = drawn["labels"], drawn["boxes"]
    assert (2 if width < 400 else 4) <= len(labels) <= 16, labels
    assert all(label != after for label, after in pairwise(labels)), labels
    assert all(box[1] + 4 < after[0] for box, after in pairwise(boxes)), boxes
    assert boxes[0][0] >= 0
    assert boxes[-1][1] <= width


async def test_a_sale_before_the_page_was_opened(api: Api, visitor: Visitor, drop_id: str) -> None:
    """The remembered events have the time of each sale, so the chart of a page that is opened later is the same."""
    for n in range(5):
        await asyncio.sleep(0.1 * n)  # so that no two gaps between the sales are equal
        await buy(api, drop_id, await make_user(api.owner))
    page = await visitor.open()
    await open_drop(page, drop_id)

    async def corners(name: str) -> list[float]:
        line = await page.locator(f"#chart .{name}").get_attribute("d")
        return [float(x) for x in re.findall(r"H([\d.]+)V", line or "")]

    async def has_all() -> bool:
        return len(await corners("sold-line")) == 5

    await eventually(has_all)
    rows = await api.owner.fetch("select created_at from inventory.purchases where drop_id = $1 order by 1", UUID(drop_id))
    times = [row["created_at"].timestamp() for row in rows]
    places = await corners("sold-line")
    gaps = [(after - before) / (places[-1] - places[0]) for before, after in pairwise(places)]
    assert gaps == pytest.approx([(after - before) / (times[-1] - times[0]) for before, after in pairwise(times)], abs=0.15)


async def test_an_estimate_is_called_one(api: Api, visitor: Visitor, drop_id: str) -> None:
    """What was before the page was opened is reckoned from what the server remembers, and the chart says so, in words as well."""
    early = await visitor.open(path=f"/drops/{drop_id}")
    await expect(early.locator("#drop-left")).to_have_text("5")
    await buy(api, drop_id, await make_user(api.owner))
    late = await visitor.open(path=f"/drops/{drop_id}")
    chart = late.locator("#chart")
    await expect(chart.locator(".estimate")).to_have_text(re.compile(r"^Estimate before \d+:\d\d:\d\d"))
    await expect(chart).to_have_attribute("aria-label", re.compile(r"1 sold, 0 held, 4 left now\. Estimate before \d"))
    await buy(api, drop_id, await make_user(api.owner))
    await expect(late.locator("#drop-sold")).to_have_text("2")
    await chart.focus()
    await late.keyboard.press("ArrowLeft")
    await expect(chart).to_have_attribute("aria-label", re.compile(r"^\d[^,]*: 2 sold, 0 held, 3 left$"))
    await expect(chart.locator(".tip")).not_to_contain_text("estimate")
    for _ in range(9):
        await late.keyboard.press("ArrowLeft")
    await expect(chart).to_have_attribute("aria-label", re.compile(r"^\d.*, estimate: 0 sold, 0 held, 5 left$"))
    await expect(chart.locator(".tip")).to_contain_text("estimate")
    await update_drop(api, drop_id, status="ended")
    over = await visitor.open(path=f"/drops/{drop_id}")
    await expect(over.locator("#chart .estimate")).to_have_text("Estimate")
    await expect(over.locator("#chart")).to_have_attribute("aria-label", re.compile(r" left now\. Estimate\. Arrow keys"))


async def test_what_was_seen_is_no_estimate(page: Page) -> None:
    """A chart of which the page has seen everything says nothing of an estimate."""
    await page.evaluate(DRAW, [940, HOUR, MINUTE, 0, False])
    await expect(page.locator(".estimate")).to_have_text("")


# What the page sees, in between what the server tells: first little of the past, then more of it, then little again.
PAST = """async () => {
  const { Series } = await import("/dashboard/series.js");
  const series = new Series(), point = (at, sold) => ({ at, sold, held: 0, left: 100 - sold });
  series.add(point(5000, 40));
  series.addOlder([point(1000, 10), point(6000, 99)]);
  series.add(point(7000, 50));
  series.addOlder([point(1000, 10), point(2000, 20), point(3000, 30)]);
  series.addOlder([point(1000, 10)]);
  return series.points.map(({ at, sold }) => [at, sold]);
}"""


async def test_the_finer_past(page: Page) -> None:
    """Of what the server tells of the past, the most is shown, in front of what the page has seen itself."""
    assert await page.evaluate(PAST) == [[1000, 10], [2000, 20], [3000, 30], [5000, 40], [7000, 50]]


# A burst of sales between two silences, in more points than a series keeps.
BURST = """async () => {
  const { Series } = await import("/dashboard/series.js");
  const series = new Series(), point = (at, sold) => ({ at, sold, held: 0, left: 1000 - sold });
  series.add(point(100_000, 1000));
  series.addOlder([point(0, 0), ...Array.from({ length: 1000 }, (_, n) => point(50_000 + n, n + 1))]);
  return [series.points[0], series.points.at(-2), series.seenAt(0), series.points.length].map((found) => found.sold ?? found);
}"""


async def test_a_burst(page: Page) -> None:
    """However few points are kept of a burst, its last one is among them, because that value holds until the next point."""
    first, last_of_burst, seen, count = await page.evaluate(BURST)
    assert (first, last_of_burst, seen) == (0, 1000, 1000)
    assert count <= 160


@pytest.mark.parametrize("units", [9, 999_999, 5_000_000, 2_147_483_647])
async def test_units_have_room(page: Page, units: int) -> None:
    """The labels of the axis of units are within the box around the chart, however many units there are."""
    begins: list[float] = await page.evaluate(
        """async (left) => {
          const { Chart } = await import("/dashboard/chart.js");
          const element = document.createElement("div");
          element.className = "chart";
          document.body.replaceChildren(element);
          new Chart(element).render([{ at: 0, sold: 0, held: 0, left }], 60_000, false);
          return [...element.querySelectorAll(".grid text[x='40']")].map((label) => label.getBBox().x);
        }""",
        units,
    )
    assert len(begins) > 2
    assert min(begins) > -PADDING_PX
