"""The rush: the dashboard starts it, watches it, and ends in one claim.

The server's side is stubbed in most tests, so that each state can be shown.
"""

import re
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.browser import REFUSED, Visitor
from tests.support.dashboard import open_tools
from tests.support.factories import make_drop, make_user
from tests.support.row_checks import Row
from tests.support.streams import Api

pytestmark = pytest.mark.slow

VIOLATION = {"drop_id": "d", "invariant": "no drop is oversold", "expected": 100, "found": 101}
BEGUN = "2026-01-01T12:00:00Z"


def rush_of(drop_id: str, **fields: object) -> Row:
    """A rush that has just begun, and these fields."""
    return {
        "id": "r1",
        "dropId": drop_id,
        "status": "running",
        "error": None,
        "buyers": 20_000,
        "stock": 100,
        "startedAt": BEGUN,
        "endedAt": None,
        "asked": 0,
        "reserved": 0,
        "sold": 0,
        "refused": 0,
        "p50_ms": None,
        "p99_ms": None,
        "requests_per_second": None,
        "seconds": [],
        "oversold": None,
        "audit": [],
    } | fields


def envelope(rush: Row) -> Row:
    """An answer with the rush."""
    return {"success": True, "data": {"rush": rush}, "meta": {"requestId": "1"}}


SECONDS = [
    {"second": n, "reserved": sold, "sold": sold, "refused": refused} for n, sold, refused in [(1, 100, 9040), (2, 0, 10860)]
]
HALFWAY: Row = {
    "asked": 9140,
    "reserved": 100,
    "sold": 80,
    "refused": 9040,
    "p50_ms": 41.2,
    "p99_ms": 187.6,
    "seconds": SECONDS[:1],
}
DONE: Row = HALFWAY | {
    "status": "done",
    "endedAt": "2026-01-01T12:00:02.200Z",
    "asked": 20_000,
    "sold": 100,
    "oversold": 0,
    "refused": 19_900,
    "requests_per_second": 9214,
    "seconds": SECONDS,
}


class Server:
    """What the stubbed endpoint answers, and what it was asked."""

    def __init__(self, drop_id: str) -> None:
        self.drop_id = drop_id
        self.rush = rush_of(drop_id)
        self.asked: list[Any] = []

    async def answer(self, route: Route) -> None:
        """Answer a POST and a GET alike."""
        self.asked.append(route.request.post_data_json)
        await route.fulfill(json=envelope(self.rush))


@pytest.fixture
async def server(api: Api, visitor: Visitor) -> Server:
    """The stub, and the drop of the rush."""
    return Server((await make_drop(api.http, await make_user(api.owner), name="Rush", total_stock=100))["id"])


@pytest.fixture
async def page(visitor: Visitor, server: Server) -> Page:
    """The list, whose requests for rushes the stub answers."""
    context = await visitor.context()
    await context.route("**/api/internal/rush", server.answer)
    return await visitor.open(context)


async def start(page: Page, buyers: int = 20_000, units: int = 100) -> None:
    """Fill in the form and start."""
    await open_tools(page, "Rush")
    await page.get_by_role("spinbutton", name="Buyers").fill(str(buyers))
    await page.locator("#rush-form").get_by_label("Units").fill(str(units))
    await page.locator("#rush-form").get_by_role("button", name="Start").click()


async def test_rush(page: Page, server: Server) -> None:
    """It shows the page of the rush's drop, the numbers as they come, each second, and in the end the claim of the audit."""
    await start(page)
    await expect(page).to_have_url(re.compile(f"/drops/{server.drop_id}$"))
    await expect(page.locator("#tools")).to_be_hidden()
    assert server.asked[0] == {"buyers": 20_000, "stock": 100}
    await expect(page.locator("#rush-terms")).to_have_text("20,000 buyers · 100 units")
    await expect(page.locator("#rush-sum")).to_have_text("0 of 20,000 asked")
    server.rush = rush_of(server.drop_id, **HALFWAY)
    await expect(page.locator("#rush-sum")).to_have_text("9,140 of 20,000 asked")
    await expect(page.locator("#rush-progress")).to_have_js_property("value", 9140 / 20_000)
    for name, text in {"sold": "80", "refused": "9,040", "p50": "41 ms", "p99": "188 ms", "rate": "\u2013"}.items():
        await expect(page.locator(f"#rush-{name}")).to_have_text(text)
    await expect(page.locator("#rush-seconds .value")).to_have_text(["9,140"])
    server.rush = rush_of(server.drop_id, **DONE)
    await expect(page.locator("#rush-sum")).to_have_text("100 sold · 0 oversold")
    await expect(page.locator("#rush-verdict")).to_have_text("The audit is clean.")
    await expect(page.locator("#rush-terms")).to_have_text("20,000 buyers · 100 units")
    await expect(page.locator("#rush-rate")).to_have_text("9,214")
    await expect(page.locator("#rush-took")).to_have_text("2 s")
    await expect(page.locator("#rush-seconds svg")).to_have_attribute(
        "aria-label", "Buyers answered each second: 1 s: 9,140, 2 s: 10,860"
    )
    asked = len(server.asked)
    await page.wait_for_timeout(600)
    assert len(server.asked) == asked  # what is over is not asked for any more


async def test_rush_of_the_service(api: Api, visitor: Visitor) -> None:
    """The same without the stub: 300 buyers go for 20 units, and the database says the same as the page."""
    page = await visitor.open()
    await start(page, 300, 20)
    await expect(page.locator("#rush-sum")).to_have_text("20 sold · 0 oversold", timeout=60_000)
    await expect(page.locator("#rush-verdict")).to_have_text("The audit is clean.")
    await expect(page.locator("#rush-refused")).to_have_text("280")
    await expect(page.locator("#drop-sold")).to_have_text("20")
    await expect(page.locator("#rush-seconds svg rect").first).to_be_visible()


async def test_it_is_there_after_a_reload(page: Page, server: Server) -> None:
    """A reload shows the rush on the page of its drop, and no other page asks for it."""
    server.rush = rush_of(server.drop_id, **DONE)
    await start(page)
    await expect(page.locator("#rush")).to_be_visible()
    await page.reload()
    await expect(page.locator("#rush-sum")).to_have_text("100 sold · 0 oversold")
    await page.get_by_role("link", name="Drops").click()
    await expect(page.locator("#rush")).to_be_hidden()
    asked = len(server.asked)
    await page.reload()
    await expect(page.locator("#badge")).to_have_text("Live")
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("fields", "claim", "verdict"),
    [
        ({"sold": 101, "oversold": 1, "audit": [VIOLATION]}, "101 sold · 1 oversold", "The audit found 1 problem."),
        ({"status": "failed", "error": "It was killed."}, "The rush failed.", "It was killed."),
    ],
)
async def test_what_went_wrong(page: Page, server: Server, fields: Row, claim: str, verdict: str) -> None:
    """Whatever the audit finds is said, in the colour of a warning."""
    server.rush = rush_of(server.drop_id, **DONE | fields)
    await start(page)
    await expect(page.locator("#rush-sum")).to_have_text(claim)
    await expect(page.locator("#rush-verdict")).to_have_text(verdict)
    await expect(page.locator("#rush-audit li")).to_have_text(
        ["no drop is oversold: 101 instead of 100"] if "audit" in fields else []
    )


async def test_refused(visitor: Visitor, page: Page) -> None:
    """A rush that is refused is said in the form."""
    visitor.expected = REFUSED
    error = {"success": False, "error": {"code": "RUSH_RUNS", "message": "A rush runs already."}, "meta": {}}
    await page.unroute_all()
    await page.route("**/api/internal/rush", lambda route: route.fulfill(status=409, json=error))
    await start(page)
    await expect(page.locator("#rush-form .answer")).to_have_text("A rush runs already.")
    await expect(page.locator("#rush-form .answer")).to_contain_class("refusal")
