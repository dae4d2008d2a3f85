"""What one does with the tools and as a buyer: users, new drops, reserve, pay, let go, and what the page says of it."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from tests.support.browser import OUTAGE, REFUSED, Visitor
from tests.support.dashboard import (
    become,
    close_tools,
    expect_outcome,
    expect_stock,
    newest_drop,
    open_tools,
    press,
    row_of,
    set_clock,
)
from tests.support.envelopes import as_user, assert_success
from tests.support.factories import make_drop, make_due, make_user, reserve
from tests.support.streams import Api
from tests.support.waiting import PATIENCE_SECONDS

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


async def expect_buttons(page: Page, *shown: str) -> None:
    """The page of the drop offers these buttons to a buyer and no others; their texts begin so."""
    await expect(page.locator("#buyer").get_by_role("button")).to_have_text([re.compile(f"^{text}") for text in shown])


async def expect_refused(page: Page, message: str) -> None:
    """The page says this of the drop in the colour of a refusal."""
    await expect_outcome(page, f"Air One: {message}")
    await expect(page.locator("#outcome")).to_contain_class("refusal")


async def click(page: Page, button: str) -> None:
    """Press the button for buyers whose text begins so, on the page of a drop."""
    await page.locator("#buyer").get_by_role("button", name=re.compile(f"^{button}")).click()


async def choose_user(page: Page, name: str) -> None:
    """Choose a user in the drawer."""
    await open_tools(page, "Act")
    await page.locator("#user").select_option(name)
    await close_tools(page)


@pytest.fixture
async def page(visitor: Visitor, drop_id: str) -> Page:
    """The page of a drop of five units, connected."""
    return await open_page(visitor, drop_id)


async def open_page(visitor: Visitor, drop_id: str, context: BrowserContext | None = None) -> Page:
    """The page of a drop, connected; in this context or in a new one."""
    page = await visitor.open(context, path=f"/drops/{drop_id}")
    await expect(page.locator("#drop-body")).to_be_visible()
    return page


async def expect_figures(page: Page, left: int, held: int, sold: int) -> None:
    """The page of the drop shows these numbers."""
    label = f"{sold} sold, {held} held, {left} left of {left + held + sold}"
    await expect(page.locator("#drop-bar")).to_have_attribute("aria-label", label)
    for name, units in (("left", left), ("held", held), ("sold", sold)):
        await expect(page.locator(f"#drop-{name}")).to_have_text(str(units))


HELD = re.compile(r"^Air One is held for you\. Pay within \d+:\d\d, or it goes back\.$")
YOURS, WENT_BACK = "Air One is yours.", "Air One went back. Nothing was paid."
UNREACHABLE = "The server cannot be reached. Try again in a moment."


async def active_hold(api: Api, drop_id: str) -> str:
    """The id of the one active hold of the drop."""
    return str(
        await api.owner.fetchval("select id from inventory.reservations where drop_id = $1 and status = 'ACTIVE'", UUID(drop_id))
    )


async def test_users(drop_id: str, page: Page) -> None:
    """Each user sees its own holds. After a reload the same user is chosen, and the others can be chosen."""
    assert await names(page) == ["A new guest"]
    ann = await become(page)
    await click(page, "Reserve")
    await expect_buttons(page, "Pay", "Let it go")
    bea = await become(page)
    await expect_buttons(page, "Reserve")
    await choose_user(page, ann)
    await expect_buttons(page, "Pay", "Let it go")
    await page.reload()
    await expect_buttons(page, "Pay", "Let it go")
    await expect(page.get_by_role("button", name=f"Acting as {ann}")).to_be_visible()
    assert await names(page) == [ann, bea]
    await choose_user(page, bea)
    await page.reload()
    await expect_buttons(page, "Reserve")
    await expect(page.locator("#user option:checked")).to_have_text(bea)


async def test_users_of_two_tabs(api: Api, visitor: Visitor) -> None:
    """A tab keeps the users that another tab made."""
    context = await visitor.context()
    tabs = [await visitor.open(context), await visitor.open(context)]
    made = [await become(tab) for tab in tabs]
    await tabs[0].reload()
    await expect(tabs[0].locator("#badge")).to_have_text("Live")
    assert await names(tabs[0]) == made


async def test_guest(page: Page) -> None:
    """A visitor without a user becomes a guest by pressing a button."""
    await click(page, "Reserve")
    await expect_outcome(page, HELD)
    await expect(page.locator("#user option:checked")).to_have_text(re.compile("^guest-"))


async def test_another_user_before_the_answer(page: Page) -> None:
    """A hold belongs to the user who pressed the button, even if another is chosen before the answer comes."""
    ann, bea = await become(page), await become(page)
    await choose_user(page, ann)

    async def choose_another(route: Route) -> None:
        await choose_user(page, bea)
        await route.continue_()

    await page.route("**/reserve", choose_another)
    await click(page, "Reserve")
    await expect_figures(page, 4, 1, 0)
    await expect_outcome(page, HELD)
    await expect_buttons(page, "Reserve")
    await choose_user(page, ann)
    await expect_buttons(page, "Pay", "Let it go")


async def test_holds_read_late(page: Page) -> None:
    """If the list of holds was read before a reserve and arrives after it, the new hold is still shown."""
    read, reserved = asyncio.Event(), asyncio.Event()

    async def answer_late(route: Route) -> None:
        answer = await route.fetch()
        read.set()
        await asyncio.wait_for(reserved.wait(), PATIENCE_SECONDS)
        await route.fulfill(response=answer)

    async def reserve_later(route: Route) -> None:
        await asyncio.wait_for(read.wait(), PATIENCE_SECONDS)
        await route.continue_()

    await page.route("**/reservations/me", answer_late)
    await page.route("**/reserve", reserve_later)
    async with page.expect_event("requestfinished", lambda request: request.url.endswith("/reservations/me")):
        await click(page, "Reserve")
        await expect_outcome(page, HELD)
        reserved.set()
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    await expect_buttons(page, "Pay", "Let it go")


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
    page = await open_page(visitor, drop_id, context)
    names_made = [await become(page), await become(page)]
    assert await names(page) == names_made
    await click(page, "Reserve")
    await expect_outcome(page, HELD)
    await expect_buttons(page, "Pay", "Let it go")


async def test_username_taken(api: Api, visitor: Visitor, page: Page) -> None:
    """A taken name and a blank name are refused in words, and no user is chosen."""
    taken, answer = await become(page), page.locator("#user-form .answer")
    visitor.expected = REFUSED
    await open_tools(page, "Act")
    await page.get_by_label("New buyer").fill(taken)
    await page.get_by_role("button", name="Make").click()
    await expect(answer).to_have_text(await message_of(api, "USERNAME_TAKEN"))
    await expect(answer).to_contain_class("refusal")
    assert await names(page) == [taken]
    visitor.expected += r"|Failed to load resource: the server responded with a status of 400 \(Bad Request\)"
    await page.get_by_label("New buyer").fill("   ")
    await page.get_by_role("button", name="Make").click()
    await expect(page.locator("#user-form small")).to_have_text(re.compile("^Must not be blank"))
    await expect(page.get_by_label("New buyer")).to_be_focused()
    await close_tools(page)
    await become(page)
    await expect(answer).not_to_contain_class("refusal")
    await expect(page.locator("#user-form small")).to_have_count(0)


def seconds_between(begin: datetime, end: datetime | None) -> float | None:
    """The seconds between two times; None without an end."""
    return None if end is None else (end - begin).total_seconds()


async def test_create_drops(api: Api, visitor: Visitor) -> None:
    """A drop is created and shown with each start and end that can be chosen."""
    page = await visitor.open()
    await become(page)
    form = page.locator("#drop-form")
    for starts, starts_in, ends, lasts in TIMES:
        name = f"{starts}, {ends}"
        await open_tools(page, "Create a drop")
        await expect(form.get_by_label("Name")).to_be_focused()
        await form.get_by_label("Name").fill(name)
        await form.get_by_label("Price").fill("12.34")
        await form.get_by_label("Units").fill("7")
        await form.get_by_label("Starts").select_option(starts)
        await form.get_by_label("Ends").select_option(ends)
        await form.get_by_role("button", name="Create").click()
        await expect_outcome(page, f"{name} was created.")
        await expect(page.locator("#tools")).to_be_hidden()
        drop = await newest_drop(api)
        assert (drop["name"], str(drop["price"]), drop["total_stock"]) == (name, "12.34", 7)
        assert seconds_between(drop["created_at"], drop["starts_at"]) == pytest.approx(starts_in, abs=5)
        assert seconds_between(drop["starts_at"] or drop["created_at"], drop["ends_at"]) == pytest.approx(lasts, abs=5)
        status = "Draft" if starts_in is None else "Live" if starts_in < 0 else "Scheduled"
        if status == "Draft":  # no event tells of a draft
            await expect(row_of(page, drop["id"])).to_have_count(0)
            await page.get_by_role("button", name="Drafts").click()
        await expect(row_of(page, drop["id"]).locator(".status")).to_have_text(status)
        await expect(row_of(page, drop["id"]).locator(".terms")).to_have_text("$12.34")
        await expect_stock(page, drop["id"], 7, 0, 0)
        await expect(row_of(page, drop["id"]).get_by_role("button")).to_have_count(1 if status == "Live" else 0)


async def test_create_sizes(api: Api, visitor: Visitor) -> None:
    """A drop with sizes, in another currency. Sizes of another number or price are on a line of their own."""
    page = await visitor.open()
    form = page.locator("#drop-form")
    await open_tools(page, "Create a drop")
    await form.get_by_label("Name").fill("Geta")
    await form.get_by_label("Price").fill("12000")
    await form.get_by_label("Currency").fill("jpy")
    await form.get_by_label("Units").fill("3")
    for _ in range(3):
        await form.get_by_role("button", name="Add sizes").click()
    await expect(form.get_by_label("Sizes", exact=True).nth(2)).to_be_focused()
    await form.get_by_role("button", name="Remove these sizes").nth(2).click()
    await expect(form.get_by_role("button", name="Remove these sizes").nth(1)).to_be_focused()
    await expect(form.get_by_label("Units", exact=True)).to_be_hidden()
    await form.get_by_label("Sizes", exact=True).nth(0).fill("S, M,")
    await form.get_by_label("Sizes", exact=True).nth(1).fill("L")
    await form.get_by_label("Units each").nth(1).fill("1")
    await form.get_by_label("Price each").nth(1).fill("15000")
    await form.get_by_role("button", name="Create").click()
    await expect_outcome(page, "Geta was created.")
    drop = await newest_drop(api)
    await expect(row_of(page, drop["id"]).locator(".terms")).to_have_text("from ¥12,000 · 3 sizes")
    await expect_stock(page, drop["id"], 7, 0, 0)
    sizes = await api.owner.fetch(
        "select name, total_stock, price from inventory.variants where drop_id = $1 order by position", drop["id"]
    )
    assert [tuple(size) for size in sizes] == [("S", 3, None), ("M", 3, None), ("L", 1, 15000)]


async def test_create_for_a_real_sale(api: Api, visitor: Visitor) -> None:
    """A drop with a date for its start and its end, a picture, a limit and terms of holds. The form is empty then, and closed."""
    page = await visitor.open(timezone_id="America/New_York")
    form = page.locator("#drop-form")
    await open_tools(page, "Create a drop")
    for name in ("Starts", "Ends"):
        await form.get_by_label(name).select_option("at a time…")
    await form.get_by_text("Picture, limit and holds").click()
    given = {
        "Name": "Air Date", "Time of the start": "2036-12-24T18:00", "Time of the end": "2036-12-24T19:30",
        "Picture": "https://shop.example/shoe.jpg", "Limit per buyer": "2", "Seconds of a hold": "300",
        "Seconds more for a hold": "60", "Seconds to the next hold": "30",
    }  # fmt: skip
    for label, text in given.items():
        await form.get_by_label(label).fill(text)
    await page.keyboard.press("Enter")
    await expect_outcome(page, "Air Date was created.")
    drop = await newest_drop(api)
    assert (drop["starts_at"], drop["ends_at"]) == (
        datetime(2036, 12, 24, 23, 0, tzinfo=UTC),
        datetime(2036, 12, 25, 0, 30, tzinfo=UTC),
    )
    terms = ("image_url", "limit_per_user", "hold_seconds", "extension_seconds", "rehold_after_seconds")
    assert [drop[term] for term in terms] == ["https://shop.example/shoe.jpg", 2, 300, 60, 30]
    await open_tools(page, "Create a drop")
    await expect(form.get_by_label("Name")).to_have_value("")
    for label in ("Time of the start", "Time of the end", "Picture"):
        await expect(form.get_by_label(label)).to_be_hidden()
        await expect(form.get_by_label(label)).to_have_value("")


async def test_create_once(api: Api, visitor: Visitor) -> None:
    """Enter twice makes one drop, and so does Create again after a lost answer, and after a refusal that says nothing of it."""
    page = await visitor.open()
    await become(page)
    form = page.locator("#drop-form")
    await open_tools(page, "Create a drop")
    await form.get_by_label("Name").fill("Air Once")
    await form.evaluate("(form) => { form.requestSubmit(); form.requestSubmit(); }")
    await expect_outcome(page, "Air Once was created.")
    await open_tools(page, "Create a drop")
    await page.keyboard.press("Enter")  # the form is empty
    await form.get_by_label("Name").fill("Air Lost")
    visitor.expected = rf"{OUTAGE}|Failed to load resource: the server responded with a status of 429 \(Too Many Requests\)"

    async def lose_answer(route: Route) -> None:
        await route.fetch()
        await route.abort()

    async def limit(route: Route) -> None:
        await route.fulfill(status=429, json={"success": False, "error": {"code": "RATE_LIMITED", "message": "Wait."}})

    for answer, text in ((lose_answer, UNREACHABLE), (limit, "Wait.")):
        await page.route("**/api/drops", answer, times=1)
        await page.keyboard.press("Enter")
        await expect(form.get_by_role("status")).to_have_text(text)
        await expect(form.get_by_label("Name")).to_have_value("Air Lost")
    await page.keyboard.press("Enter")
    await expect_outcome(page, "Air Lost was created.")
    made = "select name::text, count(*) from inventory.drops where name in ('Air Once', 'Air Lost') group by 1 order by 1"
    assert [tuple(row) for row in await api.owner.fetch(made)] == [("Air Lost", 1), ("Air Once", 1)]


async def test_a_text_that_is_selected_out_of_the_drawer(visitor: Visitor) -> None:
    """The mouse button comes up on the backdrop. The drawer stays; a click on the backdrop closes it."""
    page = await visitor.open()
    await open_tools(page, "Create a drop")
    await page.get_by_label("Name").fill("Air")
    await page.get_by_label("Name").hover()
    await page.mouse.down()
    await page.mouse.move(5, 300)
    await page.mouse.up()
    await expect(page.locator("#tools")).to_be_visible()
    await page.mouse.click(5, 300)
    await expect(page.locator("#tools")).to_be_hidden()


@pytest.mark.parametrize("time", ["122026-02-04T18:30", "0026-02-04T18:30"])
async def test_a_time_that_nobody_means(visitor: Visitor, time: str) -> None:
    """A year of six digits or of two is not sent."""
    page = await visitor.open()
    await open_tools(page, "Create a drop")
    await page.locator("#drop-form").get_by_label("Starts").select_option("at a time…")
    field = page.get_by_label("Time of the start")
    await field.evaluate("(field, time) => { field.value = time; }", time)
    assert await field.evaluate("(field) => [field.value !== '', field.validity.valid]") == [True, False]


async def test_refused_fields(visitor: Visitor) -> None:
    """What the API refuses is said beside the field, which is focused, also among the sizes and in what was closed."""
    visitor.expected = r"Failed to load resource: the server responded with a status of 400 \(Bad Request\)"
    page = await visitor.open()
    form = page.locator("#drop-form")
    create, notes = form.get_by_role("button", name="Create"), form.locator("small")
    await open_tools(page, "Create a drop")
    await form.get_by_label("Name").fill(" ")
    await form.get_by_label("Price").fill("1.234")
    await form.get_by_text("Picture, limit and holds").click()
    await form.get_by_label("Picture").fill("ftp://shoe")
    await form.get_by_text("Picture, limit and holds").click()
    await create.click()
    picture = re.compile(r"^Must be an https URL or a path .*localhost\.$")
    await expect(notes).to_have_text([re.compile("^Must not be blank"), picture])
    await expect(form.get_by_label("Name")).to_be_focused()
    await expect(form.get_by_label("Name")).to_have_accessible_description(re.compile("^Must not be blank"))
    await expect(form.get_by_label("Picture")).to_be_visible()
    await form.get_by_label("Name").fill("Air Size")
    await form.get_by_label("Picture").fill("")
    await create.click()
    await expect(notes).to_have_text(["Must be less than 10000000000 with at most two decimals."])
    await expect(form.get_by_label("Price")).to_be_focused()
    await form.get_by_label("Price").fill("1")
    for sizes in ("41, 42", "x" * 201):
        await form.get_by_role("button", name="Add sizes").click()
        await form.get_by_label("Sizes", exact=True).last.fill(sizes)
    await create.click()
    await expect(notes).to_have_count(1)
    await expect(form.get_by_label("Sizes", exact=True).last).to_be_focused()
    await form.get_by_label("Sizes", exact=True).last.fill("41")
    await create.click()
    await expect(notes).to_have_text(["Two variants of a drop have the same name."])
    await expect(form.get_by_label("Sizes", exact=True).first).to_be_focused()
    await form.get_by_label("Sizes", exact=True).last.fill("43")
    await form.get_by_label("Ends").select_option("at a time…")
    await form.get_by_label("Time of the end").fill("2020-01-01T00:00")
    await create.click()
    await expect(form.get_by_label("Time of the end")).to_be_focused()
    await expect(notes).to_have_text(["Must be later than starts_at."])
    await form.get_by_label("Ends").select_option("never")
    await form.get_by_text("Picture, limit and holds").click()
    await form.get_by_label("Limit per buyer").evaluate("(field) => { field.value = '0'; }")
    await create.click()  # the browser refuses this
    await expect(form.get_by_label("Limit per buyer")).to_be_focused()


async def test_buttons_of_a_row(visitor: Visitor, drop_id: str) -> None:
    """The button of a row reserves; then it counts the time down and pays."""
    context = await visitor.context()
    await set_clock(context)
    page = await visitor.open(context)
    button = row_of(page, drop_id).get_by_role("button")
    await press(page, drop_id, "Reserve")
    await expect_outcome(page, HELD)
    await expect_stock(page, drop_id, 4, 1, 0)
    await expect(button).to_have_text(re.compile(r"^Pay (1:00|0:[2-5]\d)$"))
    await context.clock.fast_forward(20_000)
    await expect(button).to_have_text(re.compile(r"^Pay 0:(40|[0-3]\d)$"))
    await press(page, drop_id, "Pay")
    await expect_outcome(page, YOURS)
    await expect_stock(page, drop_id, 4, 0, 1)
    await expect(button).to_have_text("Reserve")


async def test_reserve_pay_let_go(visitor: Visitor, drop_id: str) -> None:
    """After Reserve the time runs; Pay sells the unit; Let it go gives it back."""
    context = await visitor.context()
    await set_clock(context)
    page = await open_page(visitor, drop_id, context)
    name, note = await become(page), page.locator("#buy-note")
    await expect_buttons(page, "Reserve")
    await click(page, "Reserve")
    await expect_outcome(page, HELD)
    await expect_figures(page, 4, 1, 0)
    await expect_buttons(page, "Pay", "Let it go")
    await expect(note).to_have_text(re.compile(r"^One is held for (1:00|0:[2-5]\d)\. It costs \$199\.90\.$"))
    await context.clock.fast_forward(20_000)
    await expect(note).to_have_text(re.compile(r"^One is held for 0:(40|[0-3]\d)\."))
    await click(page, "Pay")
    await expect_outcome(page, YOURS)
    await expect_figures(page, 4, 0, 1)
    await expect_buttons(page, "Reserve")
    await expect(note).to_have_text("")
    await expect(page.locator("#purchasers li")).to_have_text([re.compile(f"^{name}")])
    await click(page, "Reserve")
    await expect_figures(page, 3, 1, 1)
    await click(page, "Let it go")
    await expect_outcome(page, WENT_BACK)
    await expect_figures(page, 4, 0, 1)
    await expect_buttons(page, "Reserve")


async def test_double_click(visitor: Visitor, page: Page) -> None:
    """A double click reserves once and is not refused."""
    await become(page)
    await page.locator("#buy").evaluate("(element) => { element.click(); element.click(); }")
    await expect_buttons(page, "Pay", "Let it go")
    await expect_figures(page, 4, 1, 0)
    assert [url.rpartition("/")[2] for url in visitor.requests].count("reserve") == 1
    await expect_outcome(page, HELD)


async def test_sold_out(api: Api, visitor: Visitor) -> None:
    """What cannot be had is not asked for: the button is off, and says whether units may come back."""
    other = await make_user(api.owner)
    drop_id = (await make_drop(api.http, other, total_stock=1))["id"]
    held = await reserve(api.http, drop_id, other)
    page = await open_page(visitor, drop_id)
    note, button = page.locator("#buy-note"), page.locator("#buy")
    await expect(page.locator("#drop-status")).to_have_text("Sold out")
    await expect(button).to_be_disabled()
    await expect(note).to_have_text("None is left now. 1 held and not paid yet, so some may come back.")
    assert_success(await api.http.delete(f"/reservations/{held['id']}", headers=as_user(other)), "reservation")
    await expect(page.locator("#drop-status")).to_have_text("Live")
    await click(page, "Reserve")
    await expect_outcome(page, HELD)
    await click(page, "Pay")
    await expect(note).to_have_text("All are sold.")
    await expect(button).to_have_text("Sold out")
    await expect(button).to_be_disabled()
    assert [url.rpartition("/")[2] for url in visitor.requests].count("reserve") == 1


async def test_too_late(api: Api, visitor: Visitor, page: Page, drop_id: str) -> None:
    """A refusal that the page could not foresee is said in words."""
    visitor.expected = REFUSED
    other = await make_user(api.owner)

    async def take_all(route: Route) -> None:
        await reserve(api.http, drop_id, other, {"qty": 5})
        await route.continue_()

    await page.route("**/reserve", take_all)
    await click(page, "Reserve")
    await expect_refused(page, await message_of(api, "OUT_OF_STOCK"))


async def test_drop_not_active(api: Api, visitor: Visitor) -> None:
    """The refusal is shown on a page whose clock takes a drop for live too early."""
    visitor.expected = REFUSED
    context = await visitor.context()
    ahead = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": True, "now": ahead}))
    starts_at = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    drop_id = (await make_drop(api.http, await make_user(api.owner), starts_at=starts_at))["id"]
    page = await open_page(visitor, drop_id, context)
    await click(page, "Reserve")
    await expect_refused(page, await message_of(api, "DROP_NOT_ACTIVE"))
    await expect_buttons(page, "Reserve")


async def test_two_tabs_of_one_user(api: Api, visitor: Visitor, drop_id: str) -> None:
    """The slower tab is told in words, and then shows the state that the quicker one made. What was let go stays so."""
    visitor.expected = REFUSED
    context = await visitor.context()
    quick = await open_page(visitor, drop_id, context)
    await become(quick)
    slow = await open_page(visitor, drop_id, context)
    for button in ("Pay", "Let it go"):
        await click(quick, "Reserve")
        await expect_buttons(quick, "Pay", "Let it go")
        await click(slow, "Reserve")
        await expect_refused(slow, await message_of(api, "ALREADY_RESERVED"))
        await expect_buttons(slow, "Pay", "Let it go")
        await click(quick, button)
        await expect_buttons(quick, "Reserve")
        await click(slow, button)
        if button == "Pay":
            await expect_refused(slow, await message_of(api, "NO_ACTIVE_RESERVATION"))
        else:
            await expect_outcome(slow, WENT_BACK)
        await expect_buttons(slow, "Reserve")


async def test_reservation_expired(api: Api, visitor: Visitor, drop_id: str, page: Page) -> None:
    """A hold that expired before any sweep is refused in words, and the unit is free again."""
    visitor.expected = REFUSED
    # The second sentence is the event's, if that comes later than the answer.
    refusal = f"Air One: {await message_of(api, 'RESERVATION_EXPIRED')}"
    words = re.compile(f"{re.escape(refusal)}|Time ran out, so Air One went back. Nothing was paid.")
    await become(page)
    for button in ("Pay", "Let it go"):
        await click(page, "Reserve")
        await expect_figures(page, 4, 1, 0)
        await make_due(api.owner, await active_hold(api, drop_id))
        await click(page, button)
        await expect_outcome(page, words)
        await expect(page.locator("#outcome")).to_contain_class("refusal")
        await expect_figures(page, 5, 0, 0)
        await expect_buttons(page, "Reserve")


async def test_unreachable(visitor: Visitor, page: Page) -> None:
    """No answer, or a proxy's, is said in words, and the button works again afterwards."""
    await become(page)
    visitor.expected = OUTAGE
    faults: list[Callable[[Route], Awaitable[None]]] = [
        lambda route: route.abort(),
        lambda route: route.fulfill(status=503, body="<h1>Service Unavailable</h1>"),
    ]
    for fault in faults:
        await page.route("**/reserve", fault)
        await click(page, "Reserve")
        await expect_refused(page, UNREACHABLE)
        await page.unroute("**/reserve")
        await click(page, "Reserve")
        await expect_outcome(page, HELD)
        await click(page, "Let it go")
        await expect_outcome(page, WENT_BACK)


async def test_lost_answer(api: Api, visitor: Visitor, drop_id: str, page: Page) -> None:
    """A button whose answer was lost gives the same answer when pressed again: the unit is held and bought once."""
    await become(page)
    visitor.expected = OUTAGE

    async def lose_answer(route: Route) -> None:
        await route.fetch()
        await route.abort()

    for button, what, outcome in (("Reserve", "reserve", HELD), ("Pay", "purchase", YOURS)):
        await page.route(f"**/{what}", lose_answer, times=1)
        await click(page, button)
        await expect_refused(page, UNREACHABLE)
        await click(page, button)
        await expect_outcome(page, outcome)
    await expect_figures(page, 4, 0, 1)
    await page.route("**/reserve", lose_answer, times=1)
    await click(page, "Reserve")  # this hold expires before the button is pressed again
    await expect_refused(page, UNREACHABLE)
    await expect_figures(page, 3, 1, 1)
    await make_due(api.owner, await active_hold(api, drop_id))
    await api.owner.fetch("select from api.expire_reservations()")
    await expect_figures(page, 4, 0, 1)
    await click(page, "Reserve")
    await expect_outcome(page, HELD)
    await expect_buttons(page, "Pay", "Let it go")
    await expect_figures(page, 3, 1, 1)


async def test_hold_released_elsewhere(api: Api, visitor: Visitor, drop_id: str) -> None:
    """A hold that was released elsewhere, without an event for it, is shown until its time is over."""
    context = await visitor.context()
    await set_clock(context)
    page = await open_page(visitor, drop_id, context)
    await become(page)
    await click(page, "Reserve")
    await expect_buttons(page, "Pay", "Let it go")
    [held] = await api.owner.fetch("select id, user_id from inventory.reservations where drop_id = $1", UUID(drop_id))
    response = await api.http.delete(f"/reservations/{held['id']}", headers=as_user(held["user_id"]))
    assert_success(response, "reservation")
    await expect_figures(page, 5, 0, 0)
    await context.clock.fast_forward(65_000)
    await expect_buttons(page, "Reserve")
