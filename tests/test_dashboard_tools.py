"""The dashboard's development tools: users, drops, the buttons of a card and what they answer, and the rush."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from conftest import Database
from tests.browser import (
    OUTAGE,
    Visitor,
    card_of,
    chromium,
    end_all_drops,
    expect_answer,
    expect_stock,
    press,
    started_at,
    visiting,
)
from tests.helpers import Row, as_user, assert_healthy, assert_success, eventually, make_drop, make_due, make_user, reserve
from tests.servers import Service, free_port
from tests.streams import Stage, fresh_database, serving

pytestmark = pytest.mark.slow

TIMES = [
    ("now", -1, "a minute later", 60),
    ("in 10 seconds", 10, "10 minutes later", 600),
    ("in a minute", 60, "never", None),
    ("not yet (draft)", None, "an hour later", 3600),
]
"""What can be chosen: when a drop starts, in so many seconds, and how long it lasts."""

# Notes what the rush says while it runs, and where its progress is then.
NOTE_PROGRESS = """() => {
  const progress = document.getElementById("rush-progress"), line = document.querySelector("#rush-form .answer");
  window.said = [];
  new MutationObserver(() => window.said.push([line.textContent, progress.value, progress.hidden]))
    .observe(line, { childList: true });
}"""


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
    """Whoever uses the tools, and may find nothing to complain of."""
    async with visiting(browser, stage.url) as visitor:
        yield visitor


async def become(page: Page) -> str:
    """Make a user with the form; returns the name."""
    name = f"user-{uuid4().hex[:8]}"
    await page.get_by_label("New user").fill(name)
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form .answer")).to_have_text(f"You are {name}.")
    await expect(page.locator("#user option:checked")).to_have_text(name)
    return name


async def names(page: Page) -> list[str]:
    """The users to choose from."""
    return await page.locator("#user option").all_inner_texts()


async def message_of(stage: Stage, code: str) -> str:
    """The sentence of a refusal."""
    message: str = await stage.owner.fetchval("select message from api.errors() where code = $1", code)
    return message


async def expect_buttons(page: Page, drop_id: object, *shown: str) -> None:
    """The card has these buttons and no others."""
    await expect(card_of(page, drop_id).get_by_role("button")).to_have_text(list(shown))


async def expect_refused(page: Page, drop_id: object, message: str) -> None:
    """The card says so, in the colour of a refusal."""
    await expect_answer(page, drop_id, message)
    await expect(card_of(page, drop_id).locator(".answer")).to_contain_class("refusal")


async def newest_drop(stage: Stage) -> Row:
    """The drop created last."""
    return dict(await stage.owner.fetchrow("select * from inventory.drops order by id desc limit 1") or {})


# Users


async def test_users(stage: Stage, visitor: Visitor) -> None:
    """Make one and another, choose: each sees its own holds. Who was chosen is so after a reload, and the others are there."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    assert await names(page) == ["nobody yet: make one"]
    ann = await become(page)
    await press(page, drop_id, "Reserve")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    bea = await become(page)
    await expect_buttons(page, drop_id, "Reserve")
    await page.locator("#user").select_option(ann)
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await page.reload()
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect(page.locator("#user option:checked")).to_have_text(ann)
    assert await names(page) == [ann, bea]
    await page.locator("#user").select_option(bea)
    await page.reload()
    await expect_buttons(page, drop_id, "Reserve")
    await expect(page.locator("#user option:checked")).to_have_text(bea)


async def test_users_of_two_tabs(stage: Stage, visitor: Visitor) -> None:
    """What one tab makes, the other does not forget."""
    context = await visitor.context()
    tabs = [await visitor.open(context), await visitor.open(context)]
    made = [await become(tab) for tab in tabs]
    await tabs[0].reload()
    await expect(tabs[0].locator("#badge")).to_have_text("Live")
    assert await names(tabs[0]) == made


async def test_guest(stage: Stage, visitor: Visitor) -> None:
    """Who presses a button without being anybody becomes a guest."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect(page.locator("#user option:checked")).to_have_text(re.compile("^guest-"))


async def test_somebody_else_meanwhile(stage: Stage, visitor: Visitor) -> None:
    """A hold is of whoever pressed the button, though another is chosen when the answer comes."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    ann, bea = await become(page), await become(page)
    await page.locator("#user").select_option(ann)

    async def choose_another(route: Route) -> None:
        await page.locator("#user").select_option(bea)
        await route.continue_()

    await page.route("**/reserve", choose_another)
    await press(page, drop_id, "Reserve")
    await expect_stock(page, drop_id, 4, 1, 0)
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect_buttons(page, drop_id, "Reserve")
    await page.locator("#user").select_option(ann)
    await expect_buttons(page, drop_id, "Purchase", "Cancel")


async def test_holds_read_late(stage: Stage, visitor: Visitor) -> None:
    """What a user held before the button was pressed, answered after it was: the new hold is there all the same."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    read, reserved = asyncio.Event(), asyncio.Event()

    async def answer_late(route: Route) -> None:
        answer = await route.fetch()
        read.set()
        await asyncio.wait_for(reserved.wait(), 10)
        await route.fulfill(response=answer)

    async def reserve_later(route: Route) -> None:
        await asyncio.wait_for(read.wait(), 10)
        await route.continue_()

    await page.route("**/reservations/me", answer_late)
    await page.route("**/reserve", reserve_later)
    async with page.expect_event("requestfinished", lambda request: request.url.endswith("/reservations/me")):
        await press(page, drop_id, "Reserve")
        await expect_answer(page, drop_id, "A unit is held for you.")
        reserved.set()
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")


async def test_username_taken(stage: Stage, visitor: Visitor) -> None:
    """Is said in words, and nothing is chosen; so is a name that is none."""
    page = await visitor.open()
    taken, answer = await become(page), page.locator("#user-form .answer")
    await page.get_by_label("New user").fill(taken)
    await page.get_by_role("button", name="Make").click()
    await expect(answer).to_have_text(await message_of(stage, "USERNAME_TAKEN"))
    await expect(answer).to_contain_class("refusal")
    assert await names(page) == [taken]
    visitor.expected += r"|Failed to load resource: the server responded with a status of 400 \(Bad Request\)"
    await page.get_by_label("New user").fill("   ")
    await page.get_by_role("button", name="Make").click()
    await expect(answer).to_have_text(re.compile("^username: must not be blank"))
    await become(page)
    await expect(answer).not_to_contain_class("refusal")


# Drops


def seconds_between(begin: datetime, end: datetime | None) -> float | None:
    """None where there is no end."""
    return None if end is None else (end - begin).total_seconds()


async def test_create_drops(stage: Stage, visitor: Visitor) -> None:
    """With each of the starts and ends that can be chosen; they are created so, and shown."""
    page = await visitor.open()
    await become(page)
    form = page.locator("#drop-form")
    for starts, starts_in, ends, lasts in TIMES:
        name = f"{starts}, {ends}"
        await form.get_by_label("Name").fill(name)
        await form.get_by_label("Price").fill("12.34")
        await form.get_by_label("Units").fill("7")
        await form.get_by_label("Starts").select_option(starts)
        await form.get_by_label("Ends").select_option(ends)
        await form.get_by_role("button", name="Create").click()
        await expect(form.get_by_role("status")).to_have_text(f"{name} was created.")
        drop = await newest_drop(stage)
        assert (drop["name"], str(drop["price"]), drop["total_stock"]) == (name, "12.34", 7)
        assert seconds_between(drop["created_at"], drop["starts_at"]) == pytest.approx(starts_in, abs=2)
        assert seconds_between(drop["starts_at"] or drop["created_at"], drop["ends_at"]) == pytest.approx(lasts, abs=2)
        status = "draft" if starts_in is None else "live" if starts_in < 0 else "scheduled"
        await expect(card_of(page, drop["id"]).locator(".status")).to_have_text(status)
        await expect(card_of(page, drop["id"]).locator(".price")).to_have_text("12.34")
        await expect_stock(page, drop["id"], 7, 0, 0)
        await expect(card_of(page, drop["id"]).get_by_role("button")).to_be_enabled(enabled=status == "live")


# The buttons of a card


async def test_reserve_purchase_cancel(stage: Stage, visitor: Visitor) -> None:
    """Reserve, and the seconds left count down; purchase, and it is sold; reserve and cancel, and it is back."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    name = await become(page)
    hold = card_of(page, drop_id).locator(".hold")
    await expect_buttons(page, drop_id, "Reserve")
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect_stock(page, drop_id, 4, 1, 0)
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect(hold).to_have_text(re.compile("^held for (60|59) s$"))
    await context.clock.fast_forward(20_000)
    await expect(hold).to_have_text(re.compile("^held for (40|39|38) s$"))
    await press(page, drop_id, "Purchase")
    await expect_answer(page, drop_id, "It is yours.")
    await expect_stock(page, drop_id, 4, 0, 1)
    await expect_buttons(page, drop_id, "Reserve")
    await expect(hold).to_have_text("")
    await expect(card_of(page, drop_id).locator(".purchasers li")).to_have_text([re.compile(f"^{name} ")])
    await press(page, drop_id, "Reserve")
    await expect_stock(page, drop_id, 3, 1, 1)
    await press(page, drop_id, "Cancel")
    await expect_answer(page, drop_id, "The unit went back.")
    await expect_stock(page, drop_id, 4, 0, 1)
    await expect_buttons(page, drop_id, "Reserve")


async def test_double_click(stage: Stage, visitor: Visitor) -> None:
    """Reserves once, and there is nothing to refuse."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    await become(page)
    button = card_of(page, drop_id).get_by_role("button", name="Reserve")
    await button.evaluate("(element) => { element.click(); element.click(); }")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect_stock(page, drop_id, 4, 1, 0)
    assert [url.rpartition("/")[2] for url in visitor.requests].count("reserve") == 1
    await expect_answer(page, drop_id, "A unit is held for you.")


async def test_out_of_stock(stage: Stage, visitor: Visitor) -> None:
    """Is said in words; a drop that is sold out can be tried again, for a hold may come back."""
    other = await make_user(stage.owner)
    drop_id = (await make_drop(stage.http, other, total_stock=1))["id"]
    held = await reserve(stage.http, drop_id, other)
    page = await visitor.open()
    await expect(card_of(page, drop_id).locator(".status")).to_have_text("sold out")
    await press(page, drop_id, "Reserve")
    await expect_refused(page, drop_id, await message_of(stage, "OUT_OF_STOCK"))
    assert_success(await stage.http.delete(f"/reservations/{held['id']}", headers=as_user(other)), "reservation")
    await expect(card_of(page, drop_id).locator(".status")).to_have_text("live")
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect(card_of(page, drop_id).locator(".answer")).not_to_contain_class("refusal")


async def test_drop_not_active(stage: Stage, visitor: Visitor) -> None:
    """To a page that believes too early that a drop is live."""
    context = await visitor.context()
    ahead = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": True, "now": ahead}))
    starts_at = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    drop_id = (await make_drop(stage.http, await make_user(stage.owner), starts_at=starts_at))["id"]
    page = await visitor.open(context)
    await press(page, drop_id, "Reserve")
    await expect_refused(page, drop_id, await message_of(stage, "DROP_NOT_ACTIVE"))
    await expect_buttons(page, drop_id, "Reserve")


async def test_two_tabs_of_one_user(stage: Stage, visitor: Visitor) -> None:
    """One was quicker: the other is told so in words, and from then on shows how it is."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    context = await visitor.context()
    quick = await visitor.open(context)
    await become(quick)
    slow = await visitor.open(context)
    for button, code in [("Purchase", "NO_ACTIVE_RESERVATION"), ("Cancel", "RESERVATION_NOT_ACTIVE")]:
        await press(quick, drop_id, "Reserve")
        await expect_buttons(quick, drop_id, "Purchase", "Cancel")
        await press(slow, drop_id, "Reserve")
        await expect_refused(slow, drop_id, await message_of(stage, "ALREADY_RESERVED"))
        await expect_buttons(slow, drop_id, "Purchase", "Cancel")
        await press(quick, drop_id, button)
        await expect_buttons(quick, drop_id, "Reserve")
        await press(slow, drop_id, button)
        await expect_refused(slow, drop_id, await message_of(stage, code))
        await expect_buttons(slow, drop_id, "Reserve")


async def test_reservation_expired(stage: Stage, visitor: Visitor) -> None:
    """Too late, though nobody had noticed: said in words, and the unit is to be had again."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    words = [
        await message_of(stage, "RESERVATION_EXPIRED"),
        "Your hold ran out, and the unit went back.",
    ]  # the event's, if later
    page = await visitor.open()
    await become(page)
    for button in ("Purchase", "Cancel"):
        await press(page, drop_id, "Reserve")
        await expect_stock(page, drop_id, 4, 1, 0)
        held = await stage.owner.fetchval(
            "select id from inventory.reservations where drop_id = $1 and status = 'ACTIVE'", UUID(drop_id)
        )
        await make_due(stage.owner, str(held))
        await press(page, drop_id, button)
        await expect(card_of(page, drop_id).locator(".answer")).to_have_text(re.compile("|".join(words)))
        await expect(card_of(page, drop_id).locator(".answer")).to_contain_class("refusal")
        await expect_stock(page, drop_id, 5, 0, 0)
        await expect_buttons(page, drop_id, "Reserve")


async def test_unreachable(stage: Stage, visitor: Visitor) -> None:
    """No answer, or a proxy's, is said in words, too, and it can be tried again."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    await become(page)
    visitor.expected = OUTAGE
    faults: list[Callable[[Route], Awaitable[None]]] = [
        lambda route: route.abort(),
        lambda route: route.fulfill(status=503, body="<h1>Service Unavailable</h1>"),
    ]
    for fault in faults:
        await page.route("**/reserve", fault)
        await press(page, drop_id, "Reserve")
        await expect_refused(page, drop_id, "The server cannot be reached. Try again in a moment.")
        await page.unroute("**/reserve")
        await press(page, drop_id, "Reserve")
        await expect_answer(page, drop_id, "A unit is held for you.")
        await press(page, drop_id, "Cancel")
        await expect_answer(page, drop_id, "The unit went back.")


async def test_hold_released_elsewhere(stage: Stage, visitor: Visitor) -> None:
    """When its seconds are over a hold is not shown any more, though no event said that this one ran out."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    await become(page)
    await press(page, drop_id, "Reserve")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    [held] = await stage.owner.fetch("select id, user_id from inventory.reservations where drop_id = $1", UUID(drop_id))
    response = await stage.http.delete(f"/reservations/{held['id']}", headers=as_user(held["user_id"]))
    assert_success(response, "reservation")
    await expect_stock(page, drop_id, 5, 0, 0)
    await context.clock.fast_forward(65_000)
    await expect_buttons(page, drop_id, "Reserve")


# The rush


async def start_rush(page: Page, buyers: int, units: int) -> None:
    """Press Start."""
    form = page.locator("#rush-form")
    await page.evaluate(NOTE_PROGRESS)
    await form.locator("[name=buyers]").fill(str(buyers))
    await form.locator("[name=stock]").fill(str(units))
    await form.get_by_role("button", name="Start").click()


async def expect_end_of_rush(page: Page, text: str | re.Pattern[str], timeout_ms: float = 60_000) -> list[Any]:
    """It ends so, and could be started again; returns what it said meanwhile, as noted."""
    form = page.locator("#rush-form")
    await expect(form.get_by_role("button", name="Start")).to_be_enabled(timeout=timeout_ms)
    await expect(form.get_by_role("status")).to_have_text(text)
    await expect(page.locator("#rush-progress")).to_be_hidden()
    said: list[Any] = await page.evaluate("window.said")
    return said[:-1]


async def assert_sold(stage: Stage, drop_id: UUID, units: int, of: int) -> None:
    """The database says so, too, and nothing is held."""
    drop = await stage.owner.fetchrow("select * from inventory.drops where id = $1", drop_id)
    assert drop is not None
    assert (drop["total_stock"], drop["available_stock"]) == (of, of - units)
    paid = "select count(distinct user_id) from inventory.purchases where drop_id = $1 and status = 'paid'"
    assert await stage.owner.fetchval(paid, drop_id) == units
    assert await stage.owner.fetchval("select count(*) from inventory.purchases where drop_id = $1", drop_id) == units
    assert await stage.owner.fetchval("select inventory.activity_feed($1) ->> 'held_stock'", drop_id) == "0"
    await assert_healthy(stage.owner)


async def test_rush(stage: Stage, visitor: Visitor) -> None:
    """300 want one of 20 units: exactly those are sold. Progress is shown meanwhile, and in the end how it went."""
    page = await visitor.open()
    await start_rush(page, 300, 20)
    await expect(page.locator("#rush-progress")).to_be_visible()
    said = await expect_end_of_rush(page, "20 of 300 buyers got one, 280 found it sold out. Nothing was oversold: 20 sold of 20.")
    assert [re.sub(", .*", "", text) for text, _, _ in said] == [f"{n} of 300 buyers served" for n in range(1, 301)]
    assert said[-1][0] == "300 of 300 buyers served, 20 got one"
    assert [value for _, value, _ in said] == pytest.approx([n / 300 for n in range(1, 301)])
    assert not any(hidden for _, _, hidden in said)
    drop = await newest_drop(stage)
    await assert_sold(stage, drop["id"], 20, 20)
    await expect_stock(page, drop["id"], 0, 0, 20)
    await expect(card_of(page, drop["id"]).locator(".status")).to_have_text("sold out")
    await expect(card_of(page, drop["id"]).locator(".purchasers li")).to_have_count(3)


async def test_rush_with_units_left(stage: Stage, visitor: Visitor) -> None:
    """Fewer buyers than units: everybody gets one. It can be done again."""
    page = await visitor.open()
    for buyers, text in ((5, "5 of 5 buyers got one"), (1, "1 of 1 buyers got one")):
        await start_rush(page, buyers, 30)
        await expect_end_of_rush(page, f"{text}. Nothing was oversold: {buyers} sold of 30.")
        drop = await newest_drop(stage)
        await assert_sold(stage, drop["id"], buyers, 30)
        await expect_stock(page, drop["id"], 30 - buyers, 0, buyers)


@pytest.mark.slow
async def test_rush_with_a_stranger(stage: Stage, visitor: Visitor) -> None:
    """Somebody who is no part of it holds a unit in the end: that is not overselling, and not said to be."""
    stranger = await make_user(stage.owner)
    page = await visitor.open()
    await start_rush(page, 150, 100)

    async def has_begun() -> bool:
        return str((await newest_drop(stage)).get("name")) == "Rush for 100"

    await eventually(has_begun)
    drop = await newest_drop(stage)
    await reserve(stage.http, str(drop["id"]), stranger)
    await expect_end_of_rush(page, re.compile("^99 of 150 buyers got one.* Nothing was oversold"))
    await expect_stock(page, drop["id"], 0, 1, 99)


async def hasten(page: Page) -> None:
    """Let time pass until the rush is over."""

    async def has_ended() -> bool:
        await page.clock.run_for(1000)
        return await page.locator("#rush-form").get_by_role("button", name="Start").is_enabled()

    await eventually(has_ended, timeout_seconds=30)


async def test_rush_with_lost_answers(stage: Stage, visitor: Visitor) -> None:
    """What was done though nobody heard of it is not done twice, nor taken for a refusal."""
    visitor.expected = OUTAGE
    lost: set[str] = set()

    async def lose_first(route: Route) -> None:
        answer, what = await route.fetch(), route.request.url.rpartition("/")[2]
        await (route.fulfill(response=answer) if what in lost else route.abort())
        lost.add(what)

    context = await visitor.context()
    await context.clock.install()
    page = await visitor.open(context)
    await page.route(re.compile("/(reserve|purchase)$"), lose_first)
    await start_rush(page, 3, 3)
    await hasten(page)
    await expect_end_of_rush(page, "3 of 3 buyers got one. Nothing was oversold: 3 sold of 3.")
    await assert_sold(stage, (await newest_drop(stage))["id"], 3, 3)
    assert lost == {"reserve", "purchase"}


async def stop_in_the_midst(context: BrowserContext, service: Service) -> asyncio.Event:
    """Stop the server when the fifth buyer is about to purchase; the event is when that is done."""
    purchases, stopped = 0, asyncio.Event()

    async def count(route: Route) -> None:
        nonlocal purchases
        purchases += 1
        if purchases == 5:
            await asyncio.to_thread(service.stop)
            stopped.set()
        await route.continue_()

    await context.route("**/purchase", count)
    return stopped


@pytest.mark.slow
async def test_rush_and_the_server_restarts(stage: Stage, browser: Browser) -> None:
    """In the midst of it: the rush goes on, and sells exactly the stock."""
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        with started_at(port, stage.database_url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            page = await visitor.open(context)
            stopped = await stop_in_the_midst(context, first)
            await start_rush(page, 40, 15)
            await asyncio.wait_for(stopped.wait(), 10)
        with started_at(port, stage.database_url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            await expect_end_of_rush(page, "15 of 40 buyers got one, 25 found it sold out. Nothing was oversold: 15 sold of 15.")
            drop = await newest_drop(stage)
            await assert_sold(stage, drop["id"], 15, 15)
            await expect_stock(page, drop["id"], 0, 0, 15)
            await visitor.close()
            await asyncio.to_thread(second.stop)


@pytest.mark.slow
async def test_rush_and_the_server_is_gone(stage: Stage, browser: Browser) -> None:
    """For good: in the end the rush gives up and says so."""
    port = free_port()
    async with visiting(browser, f"http://127.0.0.1:{port}") as visitor:
        visitor.expected = OUTAGE
        context = await visitor.context()
        await context.clock.install()
        with started_at(port, stage.database_url) as service:
            await asyncio.to_thread(service.wait_until_ready)
            page = await visitor.open(context)
            stopped = await stop_in_the_midst(context, service)
            await start_rush(page, 12, 12)
            await asyncio.wait_for(stopped.wait(), 10)
        await hasten(page)
        await expect_end_of_rush(page, "The server cannot be reached. Try again in a moment.")
        await expect(page.locator("#rush-form .answer")).to_contain_class("refusal")
