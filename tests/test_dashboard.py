"""The dashboard in a browser: it shows how things are whatever happens, and anybody can use it."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json import dumps
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Locator, Page, Route, ViewportSize, expect
from starlette.applications import Starlette

from app.pages import FOLDER, page_routes
from app.settings import Settings
from conftest import Database
from tests import browser as finder
from tests.browser import (
    OUTAGE,
    Visitor,
    card_of,
    chromium,
    end_all_drops,
    expect_answer,
    expect_stock,
    expect_truth,
    press,
    started_at,
    visiting,
)
from tests.helpers import (
    Row,
    as_user,
    assert_healthy,
    assert_success,
    eventually,
    make_drop,
    make_due,
    make_user,
    purchase,
    reserve,
)
from tests.market import Market
from tests.servers import free_port
from tests.streams import Stage, fresh_database, serving

EVIL = "<img src=x onerror=alert(1)>"
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
NARROWEST = 320
REFUND = "select id from api.refund_purchase($1)"
UPDATE = "select id from api.update_drop($1, $2)"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all tests; each opens windows of its own."""
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
async def service(browser: Browser, database: Database) -> AsyncIterator[Stage]:
    """A service for all tests, on a database of its own."""
    async with fresh_database(database) as url, serving(url) as stage:
        yield stage


@pytest.fixture
async def stage(service: Stage) -> AsyncIterator[Stage]:
    """The service, without an open drop. In the end no invariant is violated."""
    await end_all_drops(service.owner)
    yield service
    await assert_healthy(service.owner)


@pytest.fixture
async def visitor(browser: Browser, stage: Stage) -> AsyncIterator[Visitor]:
    """Whoever looks at it, and may find nothing to complain of."""
    async with visiting(browser, stage.url) as visitor:
        yield visitor


async def make_named_user(stage: Stage, name: str) -> str:
    """A new user of this name; returns the id."""
    return str(await stage.owner.fetchval("select id from api.create_user($1)", name))


async def buy(stage: Stage, drop_id: str, user: str) -> Row:
    """Reserve and purchase."""
    await reserve(stage.http, drop_id, user)
    return await purchase(stage.http, drop_id, user)


async def update_drop(stage: Stage, drop_id: str, **changes: object) -> None:
    """Change a drop by SQL."""
    assert await stage.owner.fetchval(UPDATE, UUID(drop_id), dumps(changes))


def feed_of(page: Page) -> Locator:
    """The lines of the feed, newest first."""
    return page.locator("#feed li")


# What is shown


async def test_nothing_there_yet(stage: Stage, visitor: Visitor) -> None:
    """It says what to do first, until there is a drop."""
    page = await visitor.open()
    await expect(page.get_by_text("There are no drops yet. Create one with the form, or simulate a rush.")).to_be_visible()
    await expect(page.get_by_text("Nothing yet.")).to_have_count(0)  # said by the style sheet: it is no content
    await make_drop(stage.http, await make_user(stage.owner), name="Air One")
    await expect(page.get_by_role("heading", name="Air One")).to_be_visible()
    await expect(page.get_by_text("There are no drops yet")).to_be_hidden()


async def test_card(stage: Stage, visitor: Visitor) -> None:
    """A drop's name, price, status, stock as bar, numbers and line, and its three latest purchasers, newest first."""
    seller = await make_user(stage.owner)
    drop_id = (await make_drop(stage.http, seller, name="Air One", price=1234.5, total_stock=8))["id"]
    for n in range(4):
        await buy(stage, drop_id, await make_named_user(stage, f"buyer {n}"))
    await reserve(stage.http, drop_id, seller)
    page = await visitor.open()
    card = card_of(page, drop_id)
    await expect(card.get_by_role("heading", level=3)).to_have_text("Air One")
    await expect(card.locator(".price")).to_have_text("1,234.50")
    await expect(card.locator(".status")).to_have_text("live")
    await expect(card.locator(".countdown")).to_have_text("")
    await expect_stock(page, drop_id, 3, 1, 4)
    for part, share in {"left": 37.5, "held": 12.5, "sold": 50}.items():
        await expect(card.locator(f".bar .{part}")).to_have_attribute("style", f"width: {share}%;")
    await expect(card.locator(".purchasers li")).to_have_text([re.compile(rf"^buyer {n} \d") for n in (3, 2, 1)])
    await buy(stage, drop_id, await make_named_user(stage, "buyer 4"))
    await expect(card.locator(".purchasers li")).to_have_text([re.compile(rf"^buyer {n} \d") for n in (4, 3, 2)])
    await update_drop(stage, drop_id, name="Air Two", price=10, total_stock=10)
    await expect(card.get_by_role("heading", level=3)).to_have_text("Air Two")
    await expect(card.locator(".price")).to_have_text("10.00")
    await expect_stock(page, drop_id, 4, 1, 5)
    # The line ends on the right at the height of what is left: 4 of 10 are 2 + 44 * 0.6 from the top.
    await expect(card.locator(".chart .line")).to_have_attribute("d", re.compile(r"(M[\d.]+ |V)28\.4H300$"))


async def test_status(stage: Stage, visitor: Visitor) -> None:
    """What becomes of a drop is said at once, on its card and in the feed; only a live one can be reserved."""
    seller = await make_user(stage.owner)
    page = await visitor.open()
    cases: list[tuple[Row, str, str]] = [
        ({"status": "ended"}, "ended", "has ended"),
        ({"status": "cancelled"}, "cancelled", "is cancelled"),
        ({"total_stock": 1}, "sold out", "has none left"),
    ]
    for changes, status, news in cases:
        drop_id = (await make_drop(stage.http, seller, name=f"Soon {status}"))["id"]
        await buy(stage, drop_id, seller)
        reserve_button = card_of(page, drop_id).get_by_role("button", name="Reserve")
        await expect(reserve_button).to_be_enabled()
        await update_drop(stage, drop_id, **changes)
        await expect(card_of(page, drop_id).locator(".status")).to_have_text(status)
        await expect(feed_of(page).first).to_contain_text(f"Soon {status} {news}")
        await expect(reserve_button).to_be_enabled(enabled=status == "sold out")


async def test_feed(stage: Stage, visitor: Visitor) -> None:
    """What just happened to all drops, newest first, with times; of a rush only how the stock is."""
    page = await visitor.open()
    users = [await make_named_user(stage, name) for name in ("ann", "bea")]
    first, second = [(await make_drop(stage.http, users[0], name=name))["id"] for name in ("Air One", "Air Two")]
    for user in users:
        await reserve(stage.http, first, user)
    await purchase(stage.http, first, users[1])
    held = await reserve(stage.http, second, users[0])
    await make_due(stage.owner, held["id"])
    await stage.http.post("/internal/expire-now")
    lines = [
        "Air Two has 5 left",
        "Air Two got a unit back: a hold ran out",
        "Air Two has 4 left",
        "Air One was bought by bea",
        "Air One has 3 left",
        "Air Two was added",
        "Air One was added",
    ]
    await expect(feed_of(page)).to_have_text([re.compile(rf"^\d+:\d\d:\d\d [AP]M {line}$") for line in lines])


async def test_stock_moves(stage: Stage, visitor: Visitor) -> None:
    """As anybody reserves, purchases, cancels or refunds, over HTTP or by SQL: left, held and sold are right after each."""
    users = [await make_user(stage.owner) for _ in range(8)]
    drop_id = (await make_drop(stage.http, users[0], total_stock=2000))["id"]
    page = await visitor.open()
    await expect_stock(page, drop_id, 2000, 0, 0)
    await reserve(stage.http, drop_id, users[0])
    await expect_stock(page, drop_id, 1999, 1, 0)
    bought = await purchase(stage.http, drop_id, users[0])
    await expect_stock(page, drop_id, 1999, 0, 1)
    held = await reserve(stage.http, drop_id, users[1])
    await expect_stock(page, drop_id, 1998, 1, 1)
    await stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(users[2]))
    await expect_stock(page, drop_id, 1997, 2, 1)
    assert_success(await stage.http.delete(f"/reservations/{held['id']}", headers=as_user(users[1])), "reservation")
    await expect_stock(page, drop_id, 1998, 1, 1)
    await stage.owner.fetchval("select id from api.purchase($1, $2)", UUID(drop_id), UUID(users[2]))
    await expect_stock(page, drop_id, 1998, 0, 2)
    batch = [UUID(user) for user in users[3:]]
    await stage.owner.fetch("select * from api.reserve_batch($1, $2, $3)", UUID(drop_id), batch, [None] * 5)
    await expect_stock(page, drop_id, 1993, 5, 2)
    await stage.owner.fetch("select * from api.purchase_batch($1, $2, $3)", UUID(drop_id), batch[:4], [None] * 4)
    await expect_stock(page, drop_id, 1993, 1, 6)
    assert await stage.owner.fetchval(REFUND, UUID(bought["id"]))  # not one of the latest
    await expect_stock(page, drop_id, 1994, 1, 5)
    await update_drop(stage, drop_id, total_stock=1006)
    await expect_stock(page, drop_id, 1000, 1, 5)
    await stage.owner.execute("update inventory.reservations set expires_at = now() where drop_id = $1", UUID(drop_id))
    assert await stage.http.post("/internal/expire-now")
    await expect_stock(page, drop_id, 1001, 0, 5)


async def test_refund_after_the_end(stage: Stage, visitor: Visitor) -> None:
    """Of a drop that is over, as most are: it counts, too. Whoever holds a unit still holds it."""
    seller, buyer = await make_user(stage.owner), await make_user(stage.owner)
    drop_id = (await make_drop(stage.http, seller))["id"]
    bought = await buy(stage, drop_id, seller)
    await reserve(stage.http, drop_id, buyer)
    page = await visitor.open()
    await expect_stock(page, drop_id, 3, 1, 1)
    await update_drop(stage, drop_id, status="ended")
    await stage.owner.fetchval(REFUND, UUID(bought["id"]))
    await expect_stock(page, drop_id, 4, 1, 0)


async def test_refund_and_sale_in_one(stage: Stage, visitor: Visitor) -> None:
    """One transaction that takes a unit back and sells another: as many are sold as before."""
    seller, *buyers = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, seller))["id"]
    bought = await buy(stage, drop_id, seller)
    for buyer in buyers:
        await reserve(stage.http, drop_id, buyer)
    page = await visitor.open()
    await expect_stock(page, drop_id, 2, 2, 1)
    async with stage.owner.acquire() as connection, connection.transaction():
        await connection.fetchval(REFUND, UUID(bought["id"]))
        await connection.fetchval("select id from api.purchase($1, $2)", UUID(drop_id), UUID(buyers[0]))
    await expect_stock(page, drop_id, 3, 1, 1)


async def test_sale_while_the_page_asks_about_a_refund(stage: Stage, visitor: Visitor) -> None:
    """The answer may have the sale in it before its event has come, and no stock changes by it; it is not counted twice."""
    seller, buyer = await make_user(stage.owner), await make_named_user(stage, "carla")
    drop_id = (await make_drop(stage.http, seller))["id"]
    bought = await buy(stage, drop_id, seller)
    await reserve(stage.http, drop_id, buyer)
    page = await visitor.open()
    asked = 0

    async def sell_first(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            await purchase(stage.http, drop_id, buyer)
        await route.continue_()

    await page.route(lambda url: "dropId=" in url, sell_first)
    await stage.owner.fetchval(REFUND, UUID(bought["id"]))
    await expect(page.locator("#feed")).to_contain_text("was bought by carla")
    await expect_stock(page, drop_id, 4, 0, 1)
    await reserve(stage.http, drop_id, seller)
    await expect_stock(page, drop_id, 3, 1, 1)


@pytest.mark.slow
async def test_clock(stage: Stage, visitor: Visitor) -> None:
    """Nobody says so, and yet a drop turns live at starts_at and is over at ends_at, though the browser's clock be wrong."""
    seller = await make_user(stage.owner)
    fast = await visitor.context()
    await fast.clock.install(time=datetime.now(UTC) + timedelta(hours=1))
    pages = [await visitor.open(), await visitor.open(fast)]
    moment = datetime.now(UTC) + timedelta(seconds=2)
    coming = (await make_drop(stage.http, seller, name="Coming", starts_at=moment.isoformat()))["id"]
    going = (await make_drop(stage.http, seller, name="Going", ends_at=moment.isoformat()))["id"]
    for page in pages:
        await expect(card_of(page, coming).locator(".status")).to_have_text("scheduled")
        await expect(card_of(page, coming).locator(".countdown")).to_have_text(re.compile("^starts in [12] s$"))
        await expect(card_of(page, coming).get_by_role("button", name="Reserve")).to_be_disabled()
        await expect(card_of(page, going).locator(".status")).to_have_text("live")
        await expect(card_of(page, going).locator(".countdown")).to_have_text(re.compile("^ends in [12] s$"))
        await expect(card_of(page, going).get_by_role("button", name="Reserve")).to_be_enabled()
    assert datetime.now(UTC) < moment

    async def watch(page: Page) -> None:
        await card_of(page, coming).locator(".status", has_text="live").wait_for()
        assert moment <= datetime.now(UTC) < moment + timedelta(seconds=3)
        await expect(card_of(page, coming).get_by_role("button", name="Reserve")).to_be_enabled()
        await expect(card_of(page, coming).locator(".countdown")).to_have_text("")
        await expect(card_of(page, going).locator(".status")).to_have_text("ended")
        await expect(card_of(page, going).get_by_role("button", name="Reserve")).to_be_disabled()

    await asyncio.gather(*map(watch, pages))
    statuses = await stage.owner.fetch("select status from inventory.drops where id = any ($1)", [UUID(coming), UUID(going)])
    assert [row["status"] for row in statuses] == ["scheduled", "live"]
    await press(pages[0], coming, "Reserve")
    for page in pages:
        await expect_stock(page, coming, 4, 1, 0)
    await stage.owner.fetch("select id from api.advance_drops()")
    await expect(feed_of(pages[0]).filter(has_text="Coming is live")).to_be_visible()
    await expect(feed_of(pages[0]).filter(has_text="Going has ended")).to_be_visible()


@pytest.mark.slow
async def test_hold_runs_out(stage: Stage, browser: Browser) -> None:
    """By the clock: the seconds go by, the unit comes back, the card says so and can be reserved again."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    impatience = {"RESERVATION_TTL_SECONDS": "1", "EXPIRY_POLL_MS": "50"}
    async with serving(stage.database_url, **impatience) as brief, visiting(browser, brief.url) as visitor:
        page = await visitor.open()
        await press(page, drop_id, "Reserve")
        await expect_stock(page, drop_id, 4, 1, 0)
        await expect(card_of(page, drop_id).locator(".hold")).to_have_text("held for 1 s")
        await expect_stock(page, drop_id, 5, 0, 0)
        await expect_answer(page, drop_id, "Your hold ran out, and the unit went back.")
        await expect(card_of(page, drop_id).locator(".hold")).to_have_text("")
        await expect(card_of(page, drop_id).get_by_role("button", name="Reserve")).to_be_visible()


@pytest.mark.slow
async def test_two_tabs_agree(stage: Stage, visitor: Visitor) -> None:
    """After many changes, one of them opened in the midst: with each other and with the database."""
    context = await visitor.context()
    async with Market(stage, buyers=6).open() as market:
        tabs = [await visitor.open(context)]
        await market.answered(60)
        tabs.append(await visitor.open(context))
        await market.answered(60)
    paid = await stage.owner.fetch("select id from inventory.purchases where status = 'paid' order by id")
    assert len(paid) >= 6
    for row in paid[::3]:
        await stage.owner.fetchval(REFUND, row["id"])
    await market.finish()
    for tab in tabs:
        await expect(tab.get_by_role("heading", name="The end")).to_have_count(len(market.drops))
        await expect_truth(tab, stage.owner, market.drops)
    shown = [await tab.locator(".card").all_inner_texts() for tab in tabs]
    assert shown[0] == shown[1]


# Lost connections


@dataclass
class Outage:
    """A page of a service that can be stopped and started again."""

    page: Page
    visitor: Visitor
    port: int
    drop_id: str
    users: list[str]

    async def badges(self) -> list[str]:
        """What the badge has said."""
        said: list[str] = await self.page.evaluate("window.badges")
        return said


async def make_changes(stage: Stage, outage: Outage) -> None:
    """What nobody tells the page: of five units one is sold and two are held then."""
    for user in outage.users[:3]:
        await stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(outage.drop_id), UUID(user))
    await stage.owner.fetchval("select id from api.purchase($1, $2)", UUID(outage.drop_id), UUID(outage.users[0]))


@pytest.mark.slow
@pytest.mark.parametrize("pruned", [False, True])
async def test_server_restarts(stage: Stage, browser: Browser, pruned: bool) -> None:
    """The badge says so, and then all is right without a reload: by what was missed, or by a SNAPSHOT where that is forgotten."""
    users = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, users[0]))["id"]
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        with started_at(port, stage.database_url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            page = await visitor.open(context)
            outage = Outage(page, visitor, port, drop_id, users)
            await press(page, drop_id, "Reserve")
            await expect_stock(page, drop_id, 4, 1, 0)
            await asyncio.to_thread(first.stop)
            await expect(page.locator("#badge")).to_have_text("Reconnecting")
        [mine] = await stage.owner.fetch("select id from inventory.reservations where drop_id = $1", UUID(drop_id))
        await make_due(stage.owner, str(mine["id"]))
        await stage.owner.fetch("select from api.expire_reservations()")
        await make_changes(stage, outage)
        if pruned:
            await stage.owner.fetchval("select api.prune_events(0)")
            assert await stage.owner.fetchval("select count(*) from inventory.events") == 1
        with started_at(port, stage.database_url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            await expect(page.locator("#badge")).to_have_text("Resynced" if pruned else "Live")
            await expect_stock(page, drop_id, 2, 2, 1)
            if pruned:
                await context.clock.fast_forward(5000)
                await expect(page.locator("#badge")).to_have_text("Live")
            assert await outage.badges() == ["Live", "Reconnecting", "Live", *(["Resynced", "Live"] if pruned else [])]
            await stage.owner.fetchval("select id from api.reserve($1, $2)", UUID(drop_id), UUID(users[0]))
            await expect_stock(page, drop_id, 1, 3, 1)
            # The hold that ran out meanwhile is gone, too, and the keyboard is where it was.
            await expect(card_of(page, drop_id).get_by_role("button")).to_have_text(["Reserve"])
            await expect(card_of(page, drop_id).get_by_role("button")).to_be_focused()
            assert visitor.requests.count(f"{visitor.url}/") == 1
            await visitor.close()
            await asyncio.to_thread(second.stop)


@pytest.mark.slow
async def test_server_that_answers_503(stage: Stage, browser: Browser) -> None:
    """An EventSource gives up then; the page does not."""
    users = [await make_user(stage.owner) for _ in range(3)]
    drop_id = (await make_drop(stage.http, users[0]))["id"]
    port = free_port()
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if b"/api/events" in request:
            refused.set()

    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        with started_at(port, stage.database_url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            page = await visitor.open()
            outage = Outage(page, visitor, port, drop_id, users)
            await expect_stock(page, drop_id, 5, 0, 0)
            await asyncio.to_thread(first.stop)
        server = await asyncio.start_server(refuse, "127.0.0.1", port)
        await asyncio.wait_for(refused.wait(), 10)
        await expect(page.locator("#badge")).to_have_text("Reconnecting")
        server.close()
        await server.wait_closed()
        await make_changes(stage, outage)
        with started_at(port, stage.database_url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            await expect(page.locator("#badge")).to_have_text("Live")
            await expect_stock(page, drop_id, 2, 2, 1)
            assert await outage.badges() == ["Live", "Reconnecting", "Live"]
            assert visitor.requests.count(f"{visitor.url}/") == 1
            await visitor.close()
            await asyncio.to_thread(second.stop)


# For everybody


async def test_names_are_text(stage: Stage, visitor: Visitor) -> None:
    """Whatever drops and users are called, it is shown to the letter wherever it is shown, and nothing else comes of it."""
    user = await make_named_user(stage, EVIL)
    drop_id = (await make_drop(stage.http, user, name=EVIL))["id"]
    await buy(stage, drop_id, user)
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    await page.get_by_label("New user").fill(f"{EVIL} 2")
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_have_text(f"You are {EVIL} 2.")
    await expect(page.locator("#user option:checked")).to_have_text(f"{EVIL} 2")
    await expect(card_of(page, drop_id).get_by_role("heading", level=3)).to_have_text(EVIL)
    await expect(card_of(page, drop_id).locator(".purchasers li")).to_contain_text([f"{EVIL} "])
    await press(page, drop_id, "Reserve")
    await press(page, drop_id, "Purchase")
    await expect(feed_of(page).first).to_contain_text(f"{EVIL} was bought by {EVIL} 2")
    await context.clock.fast_forward(5000)
    await expect(page.locator("#announcer")).to_have_text(f"{EVIL}: 3 of 5 left.")
    assert await page.locator("img, script:not([src])").count() == 0
    assert f"{visitor.url}/x" not in visitor.requests


async def focus_on(page: Page, button: Locator) -> None:
    """Go there with the Tab key."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await button.evaluate("(element) => element === document.activeElement"):
            return
    pytest.fail("the Tab key does not get there")


async def test_keyboard(stage: Stage, visitor: Visitor) -> None:
    """Tab to Reserve, Enter, Enter: bought. Where the keyboard is can be seen, and it is not lost when a button goes away."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    reserve_button, purchase_button, cancel_button = [
        card_of(page, drop_id).get_by_role("button", name=name) for name in ("Reserve", "Purchase", "Cancel")
    ]
    await focus_on(page, reserve_button)
    await expect(reserve_button).to_have_css("outline-style", "solid")
    await page.keyboard.press("Enter")
    await expect(purchase_button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect_answer(page, drop_id, "It is yours.")
    await expect_stock(page, drop_id, 4, 0, 1)
    await expect(reserve_button).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(purchase_button).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(cancel_button).to_be_focused()
    await page.keyboard.press("Space")
    await expect_answer(page, drop_id, "The unit went back.")
    await expect(reserve_button).to_be_focused()
    await focus_on(page, page.locator("#feed"))  # which scrolls


async def test_live_region(stage: Stage, visitor: Visitor) -> None:
    """Whoever listens is told the stock of what changed, every few seconds and in few words."""
    seller = await make_user(stage.owner)
    drops = [(await make_drop(stage.http, seller, name=f"Air {n}"))["id"] for n in range(6)]
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    announcer = page.locator("#announcer")
    await expect(announcer).to_have_attribute("aria-live", "polite")
    await expect_stock(page, drops[0], 5, 0, 0)
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("")
    await reserve(stage.http, drops[0], seller)
    await expect_stock(page, drops[0], 4, 1, 0)
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("Air 0: 4 of 5 left.")
    for drop_id in drops[1:]:
        await reserve(stage.http, drop_id, seller)
        await expect_stock(page, drop_id, 4, 1, 0)
    await context.clock.fast_forward(5000)
    await expect(announcer).to_have_text("Air 3: 4 of 5 left. Air 4: 4 of 5 left. Air 5: 4 of 5 left, and 2 others changed.")


async def show_everything(stage: Stage, page: Page, name: str = "Air One", **fields: object) -> None:
    """A sale in full swing on the page: drops in every status, a hold, answers and refusals."""
    seller = await make_user(stage.owner)
    later = {"starts_at": (datetime.now(UTC) + timedelta(days=3)).isoformat()}
    kinds: list[Row] = [{"starts_at": None}, later, {}, {"total_stock": 1}, {}, {}, {}]
    drops = [(await make_drop(stage.http, seller, **{"name": name} | fields | kind))["id"] for kind in kinds]
    live, sold_out, ended, cancelled, refused = drops[2:]
    buyer = await make_user(stage.owner)
    for drop_id in (live, sold_out):
        await buy(stage, drop_id, buyer)
    await expect(page.locator(".card")).to_have_count(len(drops))
    await press(page, live, "Reserve")
    await press(page, sold_out, "Reserve")
    await expect_answer(
        page, sold_out, "Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled."
    )
    await press(page, refused, "Reserve")
    await expect(card_of(page, refused).get_by_role("button", name="Purchase")).to_be_visible()
    await update_drop(stage, ended, status="ended")
    await update_drop(stage, cancelled, status="cancelled")
    await expect(card_of(page, cancelled).locator(".status")).to_have_text("cancelled")


async def open_tools(page: Page) -> None:
    """Unfold the development tools, should they be folded up."""
    if await page.locator("#tools").get_attribute("open") is None:
        await page.get_by_text("Development tools").click()


async def assert_accessible(page: Page) -> None:
    """axe-core finds nothing serious or critical, whatever the window's width and colours."""
    for size in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=scheme)
            results = await Axe().run(page)
            bad = [
                (violation["id"], [(node["target"], node["failureSummary"]) for node in violation["nodes"]])
                for violation in results.response["violations"]
                if violation["impact"] in ("serious", "critical")
            ]
            assert (size, scheme, bad) == (size, scheme, [])


@pytest.mark.slow
async def test_accessible(stage: Stage, visitor: Visitor) -> None:
    """With nothing there and in full swing, wide and narrow, in both colour schemes."""
    page = await visitor.open()
    await expect(page.get_by_text("There are no drops yet.")).to_be_visible()
    await assert_accessible(page)
    await show_everything(stage, page)
    await assert_accessible(page)


# What sticks out of its box, and could not be seen. Purchasers are cut off on purpose: a line each.
STICKS_OUT = """[...document.querySelectorAll(":is(.card, .tool, .feed) *")]
  .filter((part) => !part.closest(".purchasers"))
  .filter((part) => part.getBoundingClientRect().right > part.closest(".card, .tool, .feed").getBoundingClientRect().right)
  .map((part) => part.outerHTML.slice(0, 50))"""


async def assert_fits(page: Page) -> None:
    """Nothing is wider than the window, nor than the box it is in."""
    width: Any = await page.evaluate("document.documentElement.scrollWidth")
    assert page.viewport_size
    assert width <= page.viewport_size["width"]
    assert await page.evaluate(STICKS_OUT) == []


async def test_narrow(stage: Stage, visitor: Visitor) -> None:
    """Nothing has to be scrolled sideways on a phone, whatever things are called and however many there are."""
    page = await visitor.open(viewport={"width": NARROWEST, "height": 600}, is_mobile=True)
    await expect(page.get_by_text("There are no drops yet.")).to_be_visible()
    widths = (NARROWEST, PHONE["width"])
    for is_open in (False, True):
        if is_open:
            await open_tools(page)
        for width in widths:
            await page.set_viewport_size({"width": width, "height": 600})
            await assert_fits(page)
    await page.get_by_label("New user").fill("W" * 200)
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_contain_text("WWW")
    await show_everything(stage, page, name="W" * 200, price=9_999_999_999.99, total_stock=2_147_483_647)
    for width in widths:
        await page.set_viewport_size({"width": width, "height": 600})
        await assert_fits(page)


async def test_reduced_motion(stage: Stage, visitor: Visitor) -> None:
    """Whoever wants none sees none; the others see the bar glide."""
    seller = await make_user(stage.owner)
    drop_id = (await make_drop(stage.http, seller))["id"]
    pages = {}
    for motion in ("reduce", "no-preference"):
        context = await visitor.context(reduced_motion=motion)
        await context.add_init_script("window.transitions = 0; addEventListener('transitionrun', () => window.transitions++);")
        pages[motion] = await visitor.open(context)
        await expect_stock(pages[motion], drop_id, 5, 0, 0)
    await reserve(stage.http, drop_id, seller)
    for page in pages.values():
        await expect_stock(page, drop_id, 4, 1, 0)
    await eventually(lambda: pages["no-preference"].evaluate("window.transitions"))
    await eventually(lambda: pages["reduce"].evaluate("new Promise((resolve) => requestAnimationFrame(() => resolve(true)))"))
    assert await pages["reduce"].evaluate("window.transitions") == 0
    assert await pages["reduce"].evaluate("document.getAnimations().length") == 0


# What is sent


OTHER_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}
FILES = sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.parametrize("path", ["/", *(f"/dashboard/{name}" for name in [*FILES, "settings.json"])])
async def test_headers(service: Stage, path: str) -> None:
    """The page and all it loads forbid everything from elsewhere and everything inline, and are asked about each time."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        response = await client.get(path)
        assert response.status_code == 200
        headers = {name: response.headers.get_list(name) for name in OTHER_HEADERS}
        assert headers == {name: [value] for name, value in OTHER_HEADERS.items()}
        [policy] = [value.split("; ") for value in response.headers.get_list("content-security-policy")]
        assert policy[0] == "default-src 'none'"
        assert {source for rule in policy for source in rule.split()[1:]} == {"'none'", "'self'"}
        assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} < set(policy)
        script = "text/javascript" if response.headers["content-type"].startswith("text/") else "application/javascript"
        types = {"html": "text/html", "js": script, "css": "text/css", "svg": "image/svg+xml", "json": "application/json"}
        assert response.headers["content-type"].partition(";")[0] == types[path.rpartition(".")[2] if path != "/" else "html"]
        if "etag" in response.headers:
            again = await client.get(path, headers={"If-None-Match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["content-security-policy"] == response.headers["content-security-policy"]


async def test_all_that_is_requested(stage: Stage, visitor: Visitor) -> None:
    """The page loads its own files, and nothing else, each of them once."""
    await visitor.open()
    paths = sorted(urlsplit(url).path for url in visitor.requests)
    files = [f"/dashboard/{name}" for name in FILES if name.endswith((".js", ".css"))]
    assert [path for path in paths if not path.endswith("icon.svg")] == sorted(
        ["/", "/api/events", "/dashboard/settings.json", *files]
    )


async def test_production(stage: Stage, visitor: Visitor) -> None:
    """There are no tools and no buttons, and what happens is shown all the same."""
    now = datetime.now(UTC).isoformat()
    context = await visitor.context()
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": False, "now": now}))
    page = await visitor.open(context)
    await expect(page.locator("#empty")).to_have_text(
        "There are no drops yet. As soon as one is created through the API it appears here."
    )
    seller = await make_user(stage.owner)
    drop_id = (await make_drop(stage.http, seller))["id"]
    await reserve(stage.http, drop_id, seller)
    await expect_stock(page, drop_id, 4, 1, 0)
    await expect(page.locator("#tools")).to_be_hidden()
    await expect(page.get_by_role("button")).to_have_count(0)
    assert {urlsplit(url).path for url in visitor.requests if "/api/" in url} == {"/api/events"}


@pytest.mark.parametrize("environment", ["development", "production"])
async def test_settings_of_the_page(environment: Any) -> None:
    """May it use the development helpers? And what time is it?"""
    app = Starlette(routes=page_routes(Settings.model_construct(app_env=environment)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        settings = (await client.get("/dashboard/settings.json")).json()
    assert settings["development"] == (environment == "development")
    assert abs(datetime.fromisoformat(settings["now"]) - datetime.now(UTC)) < timedelta(seconds=5)


# The tests themselves


async def test_complaints_are_heard(stage: Stage, browser: Browser) -> None:
    """A visitor notes whatever the console says, exceptions, violations of the policy, dialogs and other hosts."""
    visitor = Visitor(browser, stage.url)
    try:
        page = await visitor.open()
        assert visitor.problems == []
        await page.evaluate("""() => {
          console.info("hm");
          setTimeout(() => { throw new Error("oops"); });
          Promise.reject(new Error("ah"));
          document.body.append(Object.assign(document.createElement("img"), { src: "http://elsewhere.test/picture" }));
          fetch("/nowhere");
          setTimeout(() => alert("dialog"));
        }""")
        wanted = ["info: hm", "oops", "ah", "img-src http://elsewhere.test/picture", "404", "dialog: dialog"]

        async def are_all_there() -> bool:
            return all(any(word in problem for problem in visitor.problems) for word in wanted)

        await eventually(are_all_there)
        wanted = ["host: http://localhost"]
        await page.goto(stage.url.replace("127.0.0.1", "localhost"))
        await eventually(are_all_there)
    finally:
        await visitor.close()


@pytest.mark.parametrize("ci", ["", "true"])
def test_no_browser(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    """Without one, and no way to install it, tests are skipped, and say how to mend it; under CI they fail."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(finder, "NAMES", ["no-such-browser"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match="Chromium is not to be had"):
        finder.find_chromium()
