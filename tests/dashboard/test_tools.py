"""The dashboard's development tools: users, drops, the buttons of a card and what they answer."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.api import as_user, assert_success
from tests.support.browser import OUTAGE, Visitor
from tests.support.dashboard import become, card_of, expect_answer, expect_stock, newest_drop, press, set_clock
from tests.support.factories import make_drop, make_due, make_user, reserve
from tests.support.streams import Stage

pytestmark = pytest.mark.slow

TIMES = [
    ("now", -1, "a minute later", 60),
    ("in 10 seconds", 10, "10 minutes later", 600),
    ("in a minute", 60, "never", None),
    ("not yet (draft)", None, "an hour later", 3600),
]
"""What can be chosen: when a drop starts, in so many seconds, and how long it lasts."""


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


async def test_nothing_can_be_stored(stage: Stage, visitor: Visitor) -> None:
    """In a browser that allows it to no page, or in which another page has left something odd, it all works until a reload."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    for trouble in (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });",
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };",
        "localStorage.setItem('lastpair.users', '{'); localStorage.setItem('lastpair.user', '{');",
    ):
        context = await visitor.context()
        await context.add_init_script(f"if (location.protocol === 'http:') {{ {trouble} }}")
        page = await visitor.open(context)
        names_made = [await become(page), await become(page)]
        assert await names(page) == names_made
        await press(page, drop_id, "Reserve")
        await expect_buttons(page, drop_id, "Purchase", "Cancel")


async def test_plain_http(stage: Stage, visitor: Visitor) -> None:
    """A phone reaches a development machine over plain HTTP, where a page is not given all of a browser's cryptography."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    context = await visitor.context()
    await context.add_init_script("delete Crypto.prototype.randomUUID; delete Crypto.prototype.subtle;")
    page = await visitor.open(context)
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")


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


async def test_reserve_purchase_cancel(stage: Stage, visitor: Visitor) -> None:
    """Reserve, and the seconds left count down; purchase, and it is sold; reserve and cancel, and it is back."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)
    name = await become(page)
    hold = card_of(page, drop_id).locator(".hold")
    await expect_buttons(page, drop_id, "Reserve")
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect_stock(page, drop_id, 4, 1, 0)
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect(hold).to_have_text(re.compile("^held for (60|5[0-9]) s$"))
    await context.clock.fast_forward(20_000)
    await expect(hold).to_have_text(re.compile("^held for (40|3[0-9]) s$"))
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


async def test_lost_answer(stage: Stage, visitor: Visitor) -> None:
    """Pressed again, a button whose answer was lost answers as it did: the unit was held, and bought, once."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    page = await visitor.open()
    await become(page)
    visitor.expected = OUTAGE

    async def lose_answer(route: Route) -> None:
        await route.fetch()
        await route.abort()

    for button, what, answer in (("Reserve", "reserve", "A unit is held for you."), ("Purchase", "purchase", "It is yours.")):
        await page.route(f"**/{what}", lose_answer, times=1)
        await press(page, drop_id, button)
        await expect_refused(page, drop_id, "The server cannot be reached. Try again in a moment.")
        await press(page, drop_id, button)
        await expect_answer(page, drop_id, answer)
    await expect_stock(page, drop_id, 4, 0, 1)
    await page.route("**/reserve", lose_answer, times=1)
    await press(page, drop_id, "Reserve")  # which is another one, and runs out before it is asked for again
    await expect_refused(page, drop_id, "The server cannot be reached. Try again in a moment.")
    await expect_stock(page, drop_id, 3, 1, 1)
    held = await stage.owner.fetchval(
        "select id from inventory.reservations where status = 'ACTIVE' and drop_id = $1", UUID(drop_id)
    )
    await make_due(stage.owner, str(held))
    await stage.owner.fetch("select from api.expire_reservations()")
    await expect_stock(page, drop_id, 4, 0, 1)
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect_stock(page, drop_id, 3, 1, 1)


async def test_hold_released_elsewhere(stage: Stage, visitor: Visitor) -> None:
    """When its seconds are over a hold is not shown any more, though no event said that this one ran out."""
    drop_id = (await make_drop(stage.http, await make_user(stage.owner)))["id"]
    context = await visitor.context()
    await set_clock(context)
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
