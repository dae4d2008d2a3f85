"""The dashboard's development tools: users, new drops, the buttons of a card and their answers."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from tests.support.browser import OUTAGE, Visitor
from tests.support.dashboard import become, card_of, expect_answer, expect_stock, newest_drop, press, set_clock
from tests.support.envelopes import as_user, assert_success
from tests.support.factories import make_drop, make_due, make_user, reserve
from tests.support.streams import Api

pytestmark = pytest.mark.slow

TIMES = [
    ("now", -1, "a minute later", 60),
    ("in 10 seconds", 10, "10 minutes later", 600),
    ("in a minute", 60, "never", None),
    ("not yet (draft)", None, "an hour later", 3600),
]
"""The choices of the form: when a drop starts, in seconds from now, and how long it lasts, in seconds."""


async def names(page: Page) -> list[str]:
    """The names of the users that can be chosen."""
    return await page.locator("#user option").all_inner_texts()


async def message_of(api: Api, code: str) -> str:
    """The sentence of a refusal."""
    message: str = await api.owner.fetchval("select message from api.errors() where code = $1", code)
    return message


async def expect_buttons(page: Page, drop_id: object, *shown: str) -> None:
    """The card has these buttons and no others."""
    await expect(card_of(page, drop_id).get_by_role("button")).to_have_text(list(shown))


async def expect_refused(page: Page, drop_id: object, message: str) -> None:
    """The card shows this message in the colour of a refusal."""
    await expect_answer(page, drop_id, message)
    await expect(card_of(page, drop_id).locator(".answer")).to_contain_class("refusal")


async def active_hold(api: Api, drop_id: str) -> str:
    """The id of the one active hold of the drop."""
    return str(
        await api.owner.fetchval("select id from inventory.reservations where drop_id = $1 and status = 'ACTIVE'", UUID(drop_id))
    )


async def test_users(drop_id: str, page: Page) -> None:
    """Each user sees its own holds. After a reload the same user is chosen, and the others can be chosen."""
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


async def test_users_of_two_tabs(api: Api, visitor: Visitor) -> None:
    """A tab keeps the users that another tab made."""
    context = await visitor.context()
    tabs = [await visitor.open(context), await visitor.open(context)]
    made = [await become(tab) for tab in tabs]
    await tabs[0].reload()
    await expect(tabs[0].locator("#badge")).to_have_text("Live")
    assert await names(tabs[0]) == made


async def test_guest(drop_id: str, page: Page) -> None:
    """A visitor without a user becomes a guest by pressing a button."""
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect(page.locator("#user option:checked")).to_have_text(re.compile("^guest-"))


async def test_another_user_before_the_answer(drop_id: str, page: Page) -> None:
    """A hold belongs to the user who pressed the button, even if another is chosen before the answer comes."""
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


async def test_holds_read_late(drop_id: str, page: Page) -> None:
    """If the list of holds was read before a reserve and arrives after it, the new hold is still shown."""
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


@pytest.mark.parametrize(
    "restriction",
    [
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });",
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };",
        "localStorage.setItem('lastpair.users', '{'); localStorage.setItem('lastpair.user', '{');",
        "delete Crypto.prototype.randomUUID; delete Crypto.prototype.subtle;",
    ],
    ids=["no storage", "full storage", "bad storage", "plain HTTP"],
)
async def test_a_restricted_browser(visitor: Visitor, drop_id: str, restriction: str) -> None:
    """The tools work without storage until a reload, with bad values in it, and over plain HTTP, without all of cryptography."""
    context = await visitor.context()
    await context.add_init_script(f"if (location.protocol === 'http:') {{ {restriction} }}")
    page = await visitor.open(context)
    names_made = [await become(page), await become(page)]
    assert await names(page) == names_made
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")


async def test_username_taken(api: Api, visitor: Visitor, page: Page) -> None:
    """A taken name and a blank name are refused in words, and no user is chosen."""
    taken, answer = await become(page), page.locator("#user-form .answer")
    await page.get_by_label("New user").fill(taken)
    await page.get_by_role("button", name="Make").click()
    await expect(answer).to_have_text(await message_of(api, "USERNAME_TAKEN"))
    await expect(answer).to_contain_class("refusal")
    assert await names(page) == [taken]
    visitor.expected += r"|Failed to load resource: the server responded with a status of 400 \(Bad Request\)"
    await page.get_by_label("New user").fill("   ")
    await page.get_by_role("button", name="Make").click()
    await expect(answer).to_have_text(re.compile("^username: must not be blank"))
    await become(page)
    await expect(answer).not_to_contain_class("refusal")


def seconds_between(begin: datetime, end: datetime | None) -> float | None:
    """The seconds between two times; None without an end."""
    return None if end is None else (end - begin).total_seconds()


async def test_create_drops(api: Api, page: Page) -> None:
    """A drop is created and shown with each start and end that can be chosen."""
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
        drop = await newest_drop(api)
        assert (drop["name"], str(drop["price"]), drop["total_stock"]) == (name, "12.34", 7)
        assert seconds_between(drop["created_at"], drop["starts_at"]) == pytest.approx(starts_in, abs=2)
        assert seconds_between(drop["starts_at"] or drop["created_at"], drop["ends_at"]) == pytest.approx(lasts, abs=2)
        status = "draft" if starts_in is None else "live" if starts_in < 0 else "scheduled"
        if status == "draft":  # nobody sees a draft
            await expect(card_of(page, drop["id"])).to_have_count(0)
            continue
        await expect(card_of(page, drop["id"]).locator(".status")).to_have_text(status)
        await expect(card_of(page, drop["id"]).locator(".price")).to_have_text("$12.34")
        await expect_stock(page, drop["id"], 7, 0, 0)
        await expect(card_of(page, drop["id"]).get_by_role("button")).to_be_enabled(enabled=status == "live")


async def test_reserve_purchase_cancel(visitor: Visitor, drop_id: str) -> None:
    """After Reserve the seconds count down; Purchase sells the unit; Cancel gives it back."""
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
    await expect(hold).to_have_text(re.compile("^held for (60|5[0-9]) s, "))
    await context.clock.fast_forward(20_000)
    await expect(hold).to_have_text(re.compile("^held for (40|3[0-9]) s, "))
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


async def test_double_click(visitor: Visitor, drop_id: str, page: Page) -> None:
    """A double click reserves once and is not refused."""
    await become(page)
    button = card_of(page, drop_id).get_by_role("button", name="Reserve")
    await button.evaluate("(element) => { element.click(); element.click(); }")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect_stock(page, drop_id, 4, 1, 0)
    assert [url.rpartition("/")[2] for url in visitor.requests].count("reserve") == 1
    await expect_answer(page, drop_id, "A unit is held for you.")


async def test_out_of_stock(api: Api, visitor: Visitor) -> None:
    """The refusal is shown in words. A drop that is sold out can be tried again, because a hold may come back."""
    other = await make_user(api.owner)
    drop_id = (await make_drop(api.http, other, total_stock=1))["id"]
    held = await reserve(api.http, drop_id, other)
    page = await visitor.open()
    await expect(card_of(page, drop_id).locator(".status")).to_have_text("sold out")
    await press(page, drop_id, "Reserve")
    await expect_refused(page, drop_id, await message_of(api, "OUT_OF_STOCK"))
    assert_success(await api.http.delete(f"/reservations/{held['id']}", headers=as_user(other)), "reservation")
    await expect(card_of(page, drop_id).locator(".status")).to_have_text("live")
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect(card_of(page, drop_id).locator(".answer")).not_to_contain_class("refusal")


async def test_drop_not_active(api: Api, visitor: Visitor) -> None:
    """The refusal is shown on a page whose clock takes a drop for live too early."""
    context = await visitor.context()
    ahead = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": True, "now": ahead}))
    starts_at = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    drop_id = (await make_drop(api.http, await make_user(api.owner), starts_at=starts_at))["id"]
    page = await visitor.open(context)
    await press(page, drop_id, "Reserve")
    await expect_refused(page, drop_id, await message_of(api, "DROP_NOT_ACTIVE"))
    await expect_buttons(page, drop_id, "Reserve")


async def test_two_tabs_of_one_user(api: Api, visitor: Visitor, drop_id: str) -> None:
    """The slower tab is told in words, and then shows the state that the quicker one made. What was cancelled stays so."""
    context = await visitor.context()
    quick = await visitor.open(context)
    await become(quick)
    slow = await visitor.open(context)
    for button in ("Purchase", "Cancel"):
        await press(quick, drop_id, "Reserve")
        await expect_buttons(quick, drop_id, "Purchase", "Cancel")
        await press(slow, drop_id, "Reserve")
        await expect_refused(slow, drop_id, await message_of(api, "ALREADY_RESERVED"))
        await expect_buttons(slow, drop_id, "Purchase", "Cancel")
        await press(quick, drop_id, button)
        await expect_buttons(quick, drop_id, "Reserve")
        await press(slow, drop_id, button)
        if button == "Purchase":
            await expect_refused(slow, drop_id, await message_of(api, "NO_ACTIVE_RESERVATION"))
        else:
            await expect_answer(slow, drop_id, "The unit went back.")
        await expect_buttons(slow, drop_id, "Reserve")


async def test_reservation_expired(api: Api, visitor: Visitor, drop_id: str) -> None:
    """A hold that expired before any sweep is refused in words, and the unit is free again."""
    # The second sentence is the event's, if that comes later than the answer.
    words = [await message_of(api, "RESERVATION_EXPIRED"), "Your hold ran out, and the unit went back."]
    page = await visitor.open()
    await become(page)
    for button in ("Purchase", "Cancel"):
        await press(page, drop_id, "Reserve")
        await expect_stock(page, drop_id, 4, 1, 0)
        await make_due(api.owner, await active_hold(api, drop_id))
        await press(page, drop_id, button)
        await expect(card_of(page, drop_id).locator(".answer")).to_have_text(re.compile("|".join(words)))
        await expect(card_of(page, drop_id).locator(".answer")).to_contain_class("refusal")
        await expect_stock(page, drop_id, 5, 0, 0)
        await expect_buttons(page, drop_id, "Reserve")


async def test_unreachable(visitor: Visitor, drop_id: str, page: Page) -> None:
    """No answer, or a proxy's, is said in words, and the button works again afterwards."""
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


async def test_lost_answer(api: Api, visitor: Visitor, drop_id: str, page: Page) -> None:
    """A button whose answer was lost gives the same answer when pressed again: the unit is held and bought once."""
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
    await press(page, drop_id, "Reserve")  # this hold expires before the button is pressed again
    await expect_refused(page, drop_id, "The server cannot be reached. Try again in a moment.")
    await expect_stock(page, drop_id, 3, 1, 1)
    await make_due(api.owner, await active_hold(api, drop_id))
    await api.owner.fetch("select from api.expire_reservations()")
    await expect_stock(page, drop_id, 4, 0, 1)
    await press(page, drop_id, "Reserve")
    await expect_answer(page, drop_id, "A unit is held for you.")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    await expect_stock(page, drop_id, 3, 1, 1)


async def test_hold_released_elsewhere(api: Api, visitor: Visitor, drop_id: str) -> None:
    """A hold that was released elsewhere, without an event for it, is shown until its seconds are over."""
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)
    await become(page)
    await press(page, drop_id, "Reserve")
    await expect_buttons(page, drop_id, "Purchase", "Cancel")
    [held] = await api.owner.fetch("select id, user_id from inventory.reservations where drop_id = $1", UUID(drop_id))
    response = await api.http.delete(f"/reservations/{held['id']}", headers=as_user(held["user_id"]))
    assert_success(response, "reservation")
    await expect_stock(page, drop_id, 5, 0, 0)
    await context.clock.fast_forward(65_000)
    await expect_buttons(page, drop_id, "Reserve")
