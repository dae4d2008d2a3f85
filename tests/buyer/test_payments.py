"""The buyer's page with a payment provider: what it says from the purchase until the money has come, or has gone back."""

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, Route, ViewportSize, expect

from lastpair.settings import Settings
from lastpair.web.buyer_page import buyer_policy
from tests.buyer.test_accessibility import DESKTOP, PHONE, check
from tests.support.browser import Visitor, visiting
from tests.support.buyer_page import BOUGHT, button, expect_said, open_drop, press
from tests.support.database import Database
from tests.support.envelopes import as_user
from tests.support.factories import assert_healthy
from tests.support.row_checks import Row
from tests.support.tills import Till, till_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

FORM = """
window.Stripe = (key) => ({
  elements: ({ clientSecret, appearance }) => {
    const form = document.createElement("p");
    form.textContent = `The form of ${key} for ${clientSecret}`;
    form.dataset.theme = appearance.theme;
    const element = { mount: (place) => place.append(form), destroy: () => form.remove() };
    return { create: () => element, getElement: () => element, update: () => {} };
  },
  confirmPayment: async () => window.confirmed?.() ?? {},
});
"""
"""Stands in for Stripe's script: it shows a form, and `confirmed` says what becomes of the payment."""


@pytest.fixture(scope="module", params=["webhook", "stripe"])
async def any_till(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[Till]:
    """A shop with each provider."""
    async with till_of(request.param, database) as found:
        yield found


@pytest.fixture
async def till(any_till: Till) -> AsyncIterator[Till]:
    """The same. The test ends with a clean audit."""
    yield any_till
    await any_till.payments.work_off()
    await assert_healthy(any_till.owner)


@pytest.fixture
async def visitor(browser: Browser, till: Till) -> AsyncIterator[Visitor]:
    """A visitor of the shop, for whom the stand-in is Stripe's script."""
    async with visiting(browser, till.url) as visitor:
        visitor.allowed_hosts = {"js.stripe.com"}
        yield visitor


async def context_of(visitor: Visitor, **options: Any) -> BrowserContext:
    """A window to Stripe's stand-in."""
    context = await visitor.context(**options)

    async def answer(route: Route) -> None:
        await route.fulfill(body=FORM, content_type="text/javascript")

    await context.route("https://js.stripe.com/**", answer)
    return context


async def buy(till: Till, visitor: Visitor, context: BrowserContext | None = None, **fields: Any) -> tuple[Page, Row]:
    """The page after a purchase, and its payment, as soon as it can be paid."""
    drop = await till.drop(**{"price": 180, "total_stock": 3, **fields})
    page = await open_drop(visitor, drop, context or await context_of(visitor))
    return page, await buy_on(till, page, drop)


async def buy_on(till: Till, page: Page, drop: Row, units: int = 1) -> Row:
    """Reserve and buy; returns the payment, as soon as it can be paid."""
    if units > 1:
        await page.get_by_label("How many").fill(str(units))
    await press(page, "Reserve" if units == 1 else f"Reserve {units}")
    await press(page, f"Go on to pay ${180 * units}.00")
    await expect(page.locator("#panel-title")).to_have_text(re.compile(rf"Pay \${180 * units}\.00 until \d"))
    row = await till.owner.fetchrow(
        "select id::text, user_id::text from inventory.payments where drop_id = $1 order by created_at desc", UUID(drop["id"])
    )
    assert row

    async def can_be_paid() -> bool:
        await till.let_calls_be_due()
        await till.payments.work_off()
        payment = await till.payment(dict(row))
        return bool(payment["client_secret"] or payment["url"])

    await eventually(can_be_paid, timeout_seconds=60)
    await expect(way_to_pay(till, page)).to_be_visible()
    return await till.payment(dict(row))


def way_to_pay(till: Till, page: Page) -> Locator:
    """The link to the provider's page, or the button below Stripe's form."""
    role: Any = "link" if till.name == "webhook" else "button"
    return page.get_by_role(role, name=re.compile(r"^Pay \$"))


async def test_pay(till: Till, visitor: Visitor) -> None:
    """After the purchase the time to pay runs, also after a reload. As soon as the provider tells, it is bought."""
    page, payment = await buy(till, visitor)
    await expect(page.locator("#pill")).to_have_text("To be paid")
    await expect(page.get_by_role("timer")).to_have_attribute("aria-label", re.compile(r"^\d+ minutes? \d+ seconds? left$"))
    await expect(page.locator("#receipt")).to_contain_text("Total$180.00")
    await page.reload()
    await expect(way_to_pay(till, page)).to_be_visible()
    if till.name == "webhook":
        await expect(way_to_pay(till, page)).to_have_attribute("href", payment["url"])
        assert not any("stripe" in url for url in visitor.requests)
    else:
        await expect(page.get_by_text(f"The form of pk_test_lastpair for {payment['client_secret']}")).to_be_visible()
    await till.pay(payment)
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
    await expect_said(page, BOUGHT)
    await expect(page.locator("#receipt")).to_contain_text("Paid$180.00")
    await expect(page.get_by_text("The form of")).to_have_count(0)
    await page.reload()
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)


async def test_declined_then_paid(till: Till, visitor: Visitor) -> None:
    """A declined payment may be tried again, and the units are kept meanwhile."""
    page, payment = await buy(till, visitor)
    await till.decline(payment)
    await expect(page.locator("#panel-title")).to_have_text("The payment was declined, try again.")
    await expect(page.locator("#panel-text")).to_contain_text("Nothing was charged.")
    await expect(way_to_pay(till, page)).to_be_visible()
    await till.pay(payment)
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)


async def test_cancelled(till: Till, visitor: Visitor) -> None:
    """Who cancels gives the units back, in all tabs, and can reserve again."""
    context = await context_of(visitor)
    page, _ = await buy(till, visitor, context)
    other = await context.new_page()
    await other.goto(page.url)
    await expect(way_to_pay(till, other)).to_be_visible()
    await press(page, "Cancel")
    await expect(page.locator("#panel-title")).to_have_text("You cancelled, so Air One went back. Nothing was charged.")
    await expect_said(page, "You cancelled, so Air One went back. Nothing was charged.")
    await expect(button(page, "Reserve")).to_be_visible()
    await expect(page.locator(".bar")).to_have_attribute("aria-label", "0 sold, 0 held, 3 left of 3")
    await expect(button(other, "Reserve")).to_be_visible()


async def test_time_runs_out(till: Till, visitor: Visitor) -> None:
    """What is not paid in time goes back, and is reserved anew."""
    context = await context_of(visitor)
    await context.clock.install()
    page, payment = await buy(till, visitor, context)
    await till.make_due(payment)
    await till.payments.expire()
    await expect(page.locator("#panel-title")).to_have_text(
        re.compile(r"^(The payment was cancelled|Time ran out before it was paid), so Air One went back\.$")
    )
    await expect(button(page, "Reserve")).to_be_visible()


async def test_the_clock_ends_it(till: Till, visitor: Visitor) -> None:
    """The page needs no event to know that the time to pay is over."""
    context = await context_of(visitor)
    await context.clock.install()
    page, _ = await buy(till, visitor, context)

    async def is_told() -> bool:
        await context.clock.fast_forward("20:00:00")  # again, because a late answer sets the page's clock right
        return await page.locator("#panel-title").inner_text() == "Time ran out before it was paid, so Air One went back."

    await eventually(is_told)


async def test_refunds(till: Till, visitor: Visitor) -> None:
    """A refund of some units is told with what was bought; after a refund of all nothing is."""
    drop = await till.drop(price=180, total_stock=3)
    page = await open_drop(visitor, drop, await context_of(visitor))
    payment = await buy_on(till, page, drop, 2)
    await till.pay(payment)
    await expect(page.locator("#panel-title")).to_have_text("They\u2019re yours.")
    bought = await till.owner.fetchval("select id from inventory.purchases where payment_id = $1", UUID(payment["id"]))
    seller = as_user(till.seller)
    assert (await till.http.post(f"/purchases/{bought}/refund", json={"qty": 1}, headers=seller)).status_code == 200
    await expect(page.locator("#receipt")).to_contain_text("Refunded$180.00 for 1 of 2")
    assert (await till.http.post(f"/purchases/{bought}/refund", headers=seller)).status_code == 200
    await expect(page.locator("#panel-title")).to_have_text("You get $360.00 back.")
    await expect(page.locator("#pill")).to_have_text("Refunded")
    await page.reload()
    await expect(page.locator("#panel-title")).to_have_text("You get $360.00 back.")
    await press(page, "Reserve another")
    await expect(button(page, "Reserve")).to_be_visible()


async def test_without_own_events(till: Till, visitor: Visitor) -> None:
    """Where the buyer's own events do not come, the page asks."""
    context = await context_of(visitor)

    async def refuse(route: Route) -> None:
        if "x-user-id" in await route.request.all_headers():
            await route.abort()
        else:
            await route.continue_()

    await context.route("**/api/events?*", refuse)
    visitor.expected = r"Failed to load resource: net::ERR_FAILED"
    page, payment = await buy(till, visitor, context)
    await till.pay(payment)
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)


async def test_stripes_form(till: Till, visitor: Visitor) -> None:
    """What Stripe's form says is told; after it worked the page waits for the money, and believes nobody but the service."""
    if till.name != "stripe":
        return
    page, payment = await buy(till, visitor)
    await page.evaluate("window.confirmed = () => ({ error: { message: 'Your card was declined.' } })")
    await press(page, "Pay $180.00")
    await expect(page.locator("#answer")).to_have_text("Your card was declined.")
    await page.evaluate("window.confirmed = () => ({ paymentIntent: { status: 'succeeded' } })")
    await press(page, "Pay $180.00")
    await expect(page.locator("#panel-title")).to_have_text("Your payment is on its way.")
    await expect(page.get_by_role("button")).to_have_count(0)
    await till.pay(payment)
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)


async def test_no_way_to_pay_here(till: Till, visitor: Visitor) -> None:
    """Where the page has neither an address nor Stripe's key, it names the payment and asks to pay in the shop."""
    context = await context_of(visitor, viewport=PHONE)

    async def without_key(route: Route) -> None:
        response = await route.fetch()
        page = (await response.text()).replace("&quot;pk_test_lastpair&quot;", "null")
        await route.fulfill(response=response, body=page.replace("isProviderTold&quot;:true", "isProviderTold&quot;:false"))

    async def without_address(route: Route) -> None:
        response = await route.fetch()
        answer = await response.json()
        await route.fulfill(response=response, json=answer | {"data": {"payment": answer["data"]["payment"] | {"url": None}}})

    await context.route("**/d/*", without_key)
    await context.route("**/api/payments/*", without_address)
    drop = await till.drop(price=180, total_stock=3)
    page = await open_drop(visitor, drop, context)
    await press(page, "Reserve")
    await press(page, "Go on to pay $180.00")
    await expect(page.locator("#panel-text")).to_contain_text("Pay in the shop that led you here.")
    await expect(page.locator("#receipt")).to_contain_text("Payment")
    await check(page)
    assert not any("stripe" in url for url in visitor.requests)
    await press(page, "Cancel")
    await expect(button(page, "Reserve")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_axe(till: Till, visitor: Visitor, scheme: str, viewport: ViewportSize) -> None:
    """Each state, on a phone and a desktop, light and dark."""
    context = await context_of(visitor, color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    page, payment = await buy(till, visitor, context)
    await check(page)
    await till.decline(payment)
    await expect(page.locator("#panel-title")).to_contain_text("declined")
    await check(page)
    await till.pay(payment)
    await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
    await till.refund_there(payment)
    await expect(page.locator("#pill")).to_have_text("Refunded")
    await check(page)


async def test_keyboard(till: Till, visitor: Visitor) -> None:
    """The focus goes to what comes next, and Tab from there to Cancel."""
    page, _ = await buy(till, visitor)
    await page.reload()
    await expect(way_to_pay(till, page)).to_be_visible()
    await way_to_pay(till, page).focus()
    await page.keyboard.press("Tab")
    await expect(button(page, "Cancel")).to_be_focused()
    await page.wait_for_timeout(600)
    await page.keyboard.press("Enter")
    await expect(button(page, "Reserve")).to_be_focused()


def test_policy() -> None:
    """Stripe is allowed only with a publishable key and as the provider."""
    key: dict[str, Any] = {"stripe_publishable_key": "pk_test_x"}
    plain = buyer_policy(Settings.model_construct(app_env="production"))
    assert "stripe" not in plain
    assert buyer_policy(Settings.model_construct(app_env="production", payment_provider="stripe")) == plain
    assert buyer_policy(Settings.model_construct(app_env="production", payment_provider="webhook", **key)) == plain
    rules = buyer_policy(Settings.model_construct(app_env="production", payment_provider="stripe", **key)).split("; ")
    assert {
        "script-src 'self' https://js.stripe.com https://*.js.stripe.com",
        "connect-src 'self' https://api.stripe.com",
        "frame-src https://js.stripe.com https://*.js.stripe.com https://hooks.stripe.com",
    } < set(rules)
