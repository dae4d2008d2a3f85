"""A seller signs in with a token, where identity is by token: in production the page has no other way to know who asks."""

import asyncio
import re
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.dashboard.test_accessibility import DESKTOP, assert_accessible
from tests.support.browser import Visitor, visiting
from tests.support.dashboard import buy, end_all_drops, expect_outcome, make_named_user
from tests.support.factories import assert_healthy, make_drop, make_user, reserve
from tests.support.production_settings import PRODUCTION
from tests.support.row_checks import Row
from tests.support.streams import Api, serving
from tests.support.tokens import SECRET, token

pytestmark = pytest.mark.slow

REFUSED = r"Failed to load resource: the server responded with a status of 40[13] \((Unauthorized|Forbidden)\)"
TYPED = "[...document.querySelectorAll('input')].filter(({ value }) => value.includes('.')).length"
STORED = "Object.entries(sessionStorage).concat(Object.entries(localStorage)).filter(([, value]) => value.includes('.')).length"

GIVEN: list[str] = []
"""Every token of these tests. None may be in the log of the service."""


@pytest.fixture(scope="module")
async def production(service: Api) -> AsyncIterator[Api]:
    """The service in production, on the database of the other tests."""
    variables = PRODUCTION | {"EXPIRY_POLL_MS": "3600000", "LOG_LEVEL": "debug"}
    async with serving(service.database_url, **variables) as api:
        yield api
        log = api.service.log()
    assert [given for given in GIVEN if given.split(".")[1] in log] == []


@pytest.fixture
async def visitor(browser: Browser, service: Api, production: Api) -> AsyncIterator[Visitor]:
    """A visitor of it. The test fails if a page reports a problem."""
    await end_all_drops(service.owner)
    async with visiting(browser, production.url) as visitor:
        yield visitor
    await assert_healthy(service.owner)


@pytest.fixture
async def drop(service: Api) -> Row:
    """A live drop of five units, of which one is held and one is sold."""
    drop = await make_drop(service.http, await make_user(service.owner))
    await buy(service, drop["id"], await make_named_user(service, f"ann {uuid4().hex[:8]}"))
    await reserve(service.http, drop["id"], await make_named_user(service, f"bea {uuid4().hex[:8]}"))
    return drop


def sellers_token(name: str = "Sam Seller", **claims: object) -> str:
    """A token of a seller with this name."""
    GIVEN.append(token(SECRET, **({"role": "admin", "preferred_username": name} | claims)))
    return GIVEN[-1]


async def sign_in(page: Page, given: str) -> None:
    """Paste a token."""
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.get_by_label("Token").fill(given)
    await page.locator("#ask").get_by_role("button", name="Sign in").click()


async def expect_signed_out(page: Page) -> None:
    """Nothing of a seller's is shown, and no token is kept."""
    await expect(page.locator("#account")).to_have_text("Sign in")
    await expect(
        page.locator("#seller, #seller-actions, [data-tool], [data-filter=draft]").locator("visible=true")
    ).to_have_count(0)
    await expect(page.locator("#table-body tr")).to_have_count(0)
    assert await page.evaluate(STORED) == 0
    await page.wait_for_function(f"{TYPED} === 0")  # a dialog that closes forgets what was typed


async def open_drop(visitor: Visitor, drop: Row, fragment: str = "", **options: object) -> Page:
    """The page of a drop, connected."""
    page = await visitor.open(path=f"/drops/{drop['id']}{fragment}", **options)  # type: ignore[arg-type]
    await expect(page.locator("#badge")).to_have_text("Live")
    return page


async def test_sign_in_and_out(visitor: Visitor, drop: Row) -> None:
    """With a pasted token a seller sees holders, buyers and history, and acts; a reload keeps it; Sign out leaves nothing."""
    page = await open_drop(visitor, drop)
    await expect(page.locator("#drop-body")).to_be_visible()
    await expect_signed_out(page)
    await sign_in(page, sellers_token())
    await expect_outcome(page, "You are signed in as Sam Seller.")
    rows = page.locator("#table-body tr")
    await expect(rows).to_contain_text(["bea "])
    await page.reload()
    await expect(page.locator("#account")).to_have_text("Signed in as Sam Seller")
    await expect(rows).to_contain_text(["bea "])
    await page.get_by_role("tab", name="Buyers").click()
    await rows.get_by_role("button", name="Refund ann").click()
    await page.locator("#ask").get_by_role("button", name="Refund").click()
    await expect(rows).to_contain_text(["refunded"])
    await page.locator("#seller-actions").get_by_role("button", name="Pause").click()
    await expect(page.locator("#drop-status")).to_have_text("Paused")
    await page.get_by_role("tab", name="History").click()
    await expect(rows).to_contain_text(["Paused", "Refunded", "Created"])
    await expect(rows.first).to_contain_text("Sam Seller")
    assert await page.evaluate(STORED) == 1
    await page.wait_for_function(f"{TYPED} === 0")  # a dialog that closes forgets what was typed
    await page.get_by_role("button", name="Signed in as Sam Seller").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect_signed_out(page)
    await page.reload()
    await expect(page.locator("#drop-body")).to_be_visible()
    await expect_signed_out(page)
    assert not any("token" in url for url in visitor.requests)


async def test_a_new_drop(service: Api, visitor: Visitor) -> None:
    """A seller makes a draft in the drawer, and finds it; it is gone at once when the seller signs out."""
    page = await visitor.open(path=f"/#token={sellers_token()}")
    assert await page.evaluate("location.href") == f"{visitor.url}/"
    await page.get_by_role("button", name="Create a drop").first.click()
    await expect(page.locator("#tools form:visible")).to_have_count(1)
    await page.get_by_label("Name").fill("Air Secret")
    await page.get_by_label("Starts").select_option("not yet (draft)")
    await page.locator("#drop-form").get_by_role("button", name="Create").click()
    await expect(page.locator("#outcome")).to_have_text("Air Secret was created.")
    await page.get_by_role("button", name="Drafts").click()
    await page.get_by_role("link", name="Air Secret").click()
    await expect(page.locator("#drop-status")).to_have_text("Draft")
    await page.get_by_role("button", name="Signed in as").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_text("There is no such drop")).to_be_visible()
    await expect_signed_out(page)
    await page.locator(".crumb").get_by_role("link", name="Drops").click()
    await expect(page.get_by_text("No drops yet")).to_be_visible()


async def test_another_seller(visitor: Visitor, drop: Row) -> None:
    """An address with a token of the same seller renews it. That of another seller asks first, and says who is who."""
    sam, kim = str(uuid4()), str(uuid4())
    page = await open_drop(visitor, drop, f"#token={sellers_token(sub=sam)}")
    account, dialog = page.locator("#account"), page.locator("#ask")
    await expect(account).to_have_text("Signed in as Sam Seller")
    await page.evaluate(f"location.hash = 'token={sellers_token('Sam S.', sub=sam)}'")
    await expect(account).to_have_text("Signed in as Sam S.")
    for answer, name in (("Close", "Sam S."), ("Sign in", "Kim")):
        await page.evaluate(f"location.hash = 'token={sellers_token('Kim', sub=kim)}'")
        await expect(dialog).to_contain_text(
            f"You are signed in as Sam S. ({sam}). This address would sign you in as Kim ({kim})."
        )
        assert await page.evaluate("location.hash") == ""
        await dialog.get_by_role("button", name=answer).click()
        await expect(dialog).to_be_hidden()
        await expect(account).to_have_text(f"Signed in as {name}")


REASONS = {
    "expired": ({"exp": 1}, "The token has expired."),
    "a buyer": ({"role": "buyer"}, "This is not a seller\u2019s token. This takes a token with the claim role: admin."),
    "for another shop": ({"aud": "https://other.example"}, "The token is for somebody else (aud)."),
}


@pytest.mark.parametrize("kind", REASONS)
async def test_a_token_that_is_refused(visitor: Visitor, drop: Row, kind: str) -> None:
    """The page says why: in the dialog, after an address with the token, and in a session that it ends."""
    visitor.expected = REFUSED
    claims, reason = REASONS[kind]
    page = await open_drop(visitor, drop)
    await sign_in(page, sellers_token(**claims))
    await expect(page.locator("#ask .answer")).to_have_text(reason)
    await page.keyboard.press("Escape")
    await expect_signed_out(page)
    await page.evaluate(f"location.hash = 'token={sellers_token(**claims)}'")
    notice = page.locator("#session-notice")
    await expect(notice).to_have_text(f"This address did not sign you in. {reason}")
    await expect_signed_out(page)
    await sign_in(page, sellers_token())
    await expect(page.locator("#table-body tr")).to_have_count(1)
    await expect(notice).to_be_hidden()
    refused = {"authorization": f"Bearer {sellers_token(**claims)}"}
    await page.route("**/purchases?*", lambda route: route.continue_(headers=route.request.headers | refused))
    await page.get_by_role("tab", name="Buyers").click()
    await expect(notice).to_have_text(f"You are signed out. {reason}")
    await expect_signed_out(page)


async def test_nonsense(visitor: Visitor, drop: Row) -> None:
    """What is no token is refused, wherever it comes from."""
    visitor.expected = REFUSED
    page = await open_drop(visitor, drop)
    await sign_in(page, "no token \u2013")
    await expect(page.locator("#ask .answer")).to_have_text("The text is no token.")
    await page.get_by_label("Token").fill("Bearer nonsense")
    await page.locator("#ask").get_by_role("button", name="Sign in").click()
    await expect(page.locator("#ask .answer")).to_have_text("The token is not a well-formed JSON Web Token.")
    await page.evaluate("sessionStorage.setItem('lastpair.seller-token', 'non.sense')")
    await page.reload()
    await expect(page.locator("#session-notice")).to_contain_text("You are signed out.")
    await expect_signed_out(page)


@pytest.mark.parametrize("path", ["drops?status=draft&limit=200", "reservations?status=ACTIVE&limit=25"])
async def test_late_answers(service: Api, visitor: Visitor, drop: Row, path: str) -> None:
    """An answer that comes after Sign out shows nothing."""
    await make_drop(service.http, await make_user(service.owner), name="Air Secret", starts_at=None)
    page, is_signed_out = await open_drop(visitor, drop), asyncio.Event()

    async def answer_late(route: Route) -> None:
        response = await route.fetch()
        await is_signed_out.wait()
        await route.fulfill(response=response)

    async with page.expect_response(lambda response: response.url.endswith(path)) as response:
        await page.route(lambda url: url.endswith(path), answer_late)
        await sign_in(page, sellers_token())
        await page.locator("#account").get_by_text("Signed in").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect_signed_out(page)
        is_signed_out.set()
    assert (await response.value).ok
    await page.wait_for_timeout(500)
    await expect_signed_out(page)
    await page.locator(".crumb").get_by_role("link", name="Drops").click()
    await expect(page.locator(".row")).to_have_count(1)


async def test_accessible(visitor: Visitor, drop: Row) -> None:
    """axe-core finds nothing in the dialogs, the notice and what a seller sees; the keyboard signs in."""
    visitor.expected = REFUSED
    page = await open_drop(visitor, drop)
    await page.get_by_role("button", name="Sign in", exact=True).focus()
    await page.keyboard.press("Enter")
    await assert_accessible(page)
    await expect(page.get_by_label("Token")).to_be_focused()
    await page.keyboard.insert_text(sellers_token("W" * 200))
    await page.keyboard.press("Enter")
    await expect(page.locator("#ask")).to_be_hidden()
    await expect(page.locator("#account")).to_be_focused()
    await expect(page.locator("#table-body tr")).to_have_count(1)
    await assert_accessible(page)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    await page.evaluate(f"location.hash = 'token={sellers_token(exp=1)}'")
    await expect(page.locator("#session-notice")).to_be_visible()
    await assert_accessible(page)
    await page.set_viewport_size(DESKTOP)
    await page.locator("#account").click()
    await assert_accessible(page)


async def test_development(browser: Browser, service: Api) -> None:
    """Where nobody signs in there is no Sign in. A token is taken out of the address all the same."""
    async with visiting(browser, service.url) as visitor:
        page = await visitor.open(path=f"/#token={sellers_token()}")
        await expect(page.get_by_role("button", name=re.compile("^Act"))).to_be_visible()
        await expect(page.locator("#account")).to_be_hidden()
        assert await page.evaluate("location.href") == f"{service.url}/"
        assert await page.evaluate(STORED) == 0
