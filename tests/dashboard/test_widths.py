"""Nothing lies over anything else in a window of any width, however long names, numbers and prices are."""

from datetime import UTC, datetime, timedelta
from json import dumps
from typing import Any

import pytest
from playwright.async_api import Page, ViewportSize, expect

from tests.support.browser import Visitor
from tests.support.dashboard import row_of
from tests.support.factories import make_drop, make_user, purchase, reserve
from tests.support.row_checks import Row
from tests.support.streams import Api

pytestmark = pytest.mark.slow

HEIGHT = 2400  # so that all rows are near the window
WINDOW = ViewportSize(width=1280, height=HEIGHT)
WIDTHS = [320, 375, 390, 480, 600, 640, 700, 720, 721, 768, 820, 880, 900, 901, 960, 1024, 1100, 1160, 1161, 1200, 1240, 1241]
WIDTHS += [1280, 1366, 1400, 1440, 1456, 1470, 1500, 1536, 1600, 1680, 1920, 2560]
LONG_NAME = "The extraordinarily long name of a shoe by three brands, a museum and a city, in its second edition"
MOST = 9_999_999

# Texts and pictures of the elements that lie over each other or go beyond the box around them. What an element cuts off at its
# edge does not count, because nobody sees it.
OVERLAPS = """async ([boxes, parts]) => {
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const seen = ({ width, height }) => width > 0.5 && height > 0.5;
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const cut = (rect, element) => {
    let { left, top, right, bottom } = rect;
    for (let around = element; around; around = around.parentElement) {
      if (getComputedStyle(around).overflowX === "visible") continue;
      const edge = around.getBoundingClientRect();
      [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
    }
    return { left, top, right, bottom, width: right - left, height: bottom - top };
  };
  const range = document.createRange(), found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push("the page is wider than the window");
  for (const box of document.querySelectorAll(boxes)) {
    const edge = box.getBoundingClientRect();
    const drawn = [...box.querySelectorAll(parts)].filter((part) => part.checkVisibility({ visibilityProperty: true }));
    const pieces = drawn.flatMap((part) => {
      range.selectNodeContents(part);
      const rects = part.childNodes.length && !(part instanceof SVGElement)
        ? [range.getBoundingClientRect()] : [part.getBoundingClientRect()];
      return rects.map((rect) => cut(rect, part)).filter(seen).map((rect) => ({ part, rect }));
    });
    const name = ({ part }) => `${part.dataset.part ?? part.id ?? part.className} "${part.textContent}"`;
    for (const [n, piece] of pieces.entries()) {
      if (piece.rect.left < edge.left - 1 || piece.rect.right > edge.right + 1) found.push(`${name(piece)} leaves its box`);
      for (const other of pieces.slice(n + 1)) {
        if (meet(piece.rect, other.rect)) found.push(`${name(piece)} over ${name(other)}`);
      }
    }
  }
  return found;
}"""


# The texts of which a part is cut off.
CUT = """(parts) => [...document.querySelectorAll(parts)]
  .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
  .map(({ textContent }) => textContent)"""


async def assert_no_overlaps(page: Page, boxes: str, parts: str) -> None:
    """In none of the boxes do the parts lie over each other, and none goes beyond its box, at any width."""
    overlaps: dict[int, Any] = {}
    for width in WIDTHS:
        await page.set_viewport_size(ViewportSize(width=width, height=HEIGHT))
        found = await page.evaluate(OVERLAPS, [boxes, parts])
        if found:
            overlaps[width] = found
    assert not overlaps, dumps(overlaps, indent=1, ensure_ascii=False)


async def make_large(api: Api, seller: str, **fields: object) -> Row:
    """A drop of very many units, of which very many are sold and some are held."""
    drop = await make_drop(api.http, seller, **{"name": LONG_NAME, "total_stock": MOST} | fields)
    await reserve(api.http, drop["id"], seller, {"qty": 1_234_567})
    await purchase(api.http, drop["id"], seller)
    await reserve(api.http, drop["id"], seller, {"qty": 1_111_111})
    return drop


@pytest.fixture
async def drops(api: Api) -> list[Row]:
    """Drops with little and with much to show."""
    seller, now = await make_user(api.owner), datetime.now(UTC)
    return [
        await make_large(api, seller, price=7.125, currency="KWD", ends_at=(now + timedelta(hours=23, minutes=59)).isoformat()),
        await make_large(api, seller, price=8, currency="JPY", ends_at=(now + timedelta(days=300)).isoformat()),
        await make_large(api, seller, price=1299.5),
        await make_drop(api.http, seller, name="Air One", starts_at=(now + timedelta(days=300)).isoformat()),
        await make_drop(
            api.http,
            seller,
            total_stock=None,
            price=12_345.678,
            currency="KWD",
            variants=[{"name": f"Size {n}", "total_stock": 200_000, "price": 12_345.678 + n} for n in range(20)],
        ),
    ]


async def test_rows(api: Api, visitor: Visitor, drops: list[Row]) -> None:
    """The counts of a row leave the chart, the price and the button alone."""
    page = await visitor.open(viewport=WINDOW)
    for drop in drops:
        await expect(row_of(page, drop["id"]).locator(".bar")).to_be_visible()
    await expect(row_of(page, drops[0]["id"]).locator(".counts")).to_contain_text("1,111,111 held")
    await assert_no_overlaps(
        page, ".row", ".name a, .terms, .status, .countdown, .bar, .counts > span, .spark, .money > *, .do > *"
    )


@pytest.mark.parametrize("length", [60, 120, 200])
async def test_names_are_whole(api: Api, visitor: Visitor, length: int) -> None:
    """Of a row neither the name nor its time is cut, however long the name is."""
    seller, now = await make_user(api.owner), datetime.now(UTC)
    name = f"{LONG_NAME}, {LONG_NAME}"[: length - 20] + "W" * 20
    for hours in (0.2, 23.9, 24 * 300 + 5):
        for when in ("starts_at", "ends_at"):
            await make_drop(api.http, seller, name=name, **{when: (now + timedelta(hours=hours)).isoformat()})
    page = await visitor.open(viewport=WINDOW)
    await expect(page.locator(".row .countdown")).to_have_count(6)
    cut: dict[int, Any] = {}
    for width in WIDTHS:
        await page.set_viewport_size(ViewportSize(width=width, height=HEIGHT))
        found = await page.evaluate(CUT, ".row :is(.name a, .countdown)")
        if found:
            cut[width] = found
    assert not cut, dumps(cut, indent=1, ensure_ascii=False)
    await assert_no_overlaps(page, ".row", ".name a, .terms, .status, .countdown, .bar, .counts > span")


@pytest.mark.usefixtures("drops")
async def test_totals(visitor: Visitor) -> None:
    """Each total has a place of its own."""
    page = await visitor.open(viewport=WINDOW)
    await expect(page.locator("#total-sold")).to_have_text("3,703,701")
    await assert_no_overlaps(page, ".totals > div", "dt, dd")


async def test_page_of_a_drop(visitor: Visitor, drops: list[Row]) -> None:
    """The figures of a drop, and its sizes."""
    page = await visitor.open(path=f"/drops/{drops[0]['id']}", viewport=WINDOW)
    await expect(page.locator("#drop-held")).to_have_text("1,111,111")
    await assert_no_overlaps(page, ".stock-box .figures", "dt, dd")
    page = await visitor.open(path=f"/drops/{drops[-1]['id']}", viewport=WINDOW)
    await expect(page.locator(".size")).to_have_count(20)
    await assert_no_overlaps(page, ".size", ".size-name, .bar, .size-left, .size-price")
