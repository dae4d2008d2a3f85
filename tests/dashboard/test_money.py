"""What the page shows of the money with a payment provider: the sums, the payments, what went wrong, refunds of some units."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.buyer.test_accessibility import check
from tests.support.browser import Visitor, visiting
from tests.support.database import Database
from tests.support.envelopes import as_user
from tests.support.factories import assert_healthy, make_user
from tests.support.row_checks import Row
from tests.support.tills import OwnTill, Till, till_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
async def any_till(database: Database) -> AsyncIterator[Till]:
    """A shop with a provider of its own."""
    async with till_of("webhook", database) as found:
        yield found


@pytest.fixture
async def till(any_till: Till) -> AsyncIterator[OwnTill]:
    """The same. The test ends with a clean audit."""
    assert isinstance(any_till, OwnTill)
    yield any_till
    any_till.fail(fails=False)
    await any_till.let_calls_be_due()
    await any_till.payments.work_off()
    await assert_healthy(any_till.owner)


@pytest.fixture
async def visitor(browser: Browser, till: Till) -> AsyncIterator[Visitor]:
    """A visitor of the shop."""
    async with visiting(browser, till.url) as visitor:
        yield visitor


async def paid(till: Till, drop: Row, name: str = "", qty: int = 1) -> Row:
    """A purchase that is paid, by a new user; returns its payment."""
    user = await (till.owner.fetchval("select id::text from api.create_user($1)", name) if name else make_user(till.owner))
    _, payment = await till.buy(drop, user, qty)
    await till.pay(payment)
    await till.becomes(payment, "paid")
    return payment


async def expect_money(page: Page, sold_for: str, refunded: str, still_open: str, purchases: str) -> None:
    """The sums of the drop."""
    await expect(page.locator("#money dd")).to_have_text([sold_for, refunded, still_open, purchases])


async def test_sums_and_payments(till: OwnTill, visitor: Visitor) -> None:
    """The sums are what was paid and refunded, and what is open. The page learns of what happens at the provider."""
    drop = await till.drop(price=100, total_stock=9)
    await paid(till, drop, "ada")
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await expect_money(page, "$100.00", "$0.00", "$0.00", "1 paid")
    await expect(page.locator("#drop-revenue")).to_have_text("$100.00")
    _, payment = await till.buy(drop, await make_user(till.owner), 2)
    await expect_money(page, "$100.00", "$0.00", "$200.00", "1 paid, 1 to be paid")
    await page.get_by_role("tab", name="Payments").click()
    await expect(page.locator("#table-body tr")).to_have_count(2)
    await expect(page.locator("#table-body tr").first).to_contain_text("To be paid")
    await till.decline(payment)
    await expect(page.locator("#table-body tr").first).to_contain_text("Declined")
    await till.pay(payment)
    await expect(page.locator("#table-body tr").first).to_contain_text("Paid")
    await till.refund_there(payment)
    await expect_money(page, "$300.00", "$200.00", "$0.00", "1 paid, 1 refunded")
    await expect(page.locator("#drop-revenue")).to_have_text("$100.00")
    await page.get_by_role("link", name="Drops").first.click()
    await expect(page.locator("#total-revenue")).to_contain_text("≈")  # other drops may have prices that changed


async def test_what_is_not_paid_is_not_sold(till: OwnTill, visitor: Visitor) -> None:
    """Units that wait for their payment count as held, whether the page has seen them bought or came later."""
    drop = await till.drop(price=100, total_stock=9)
    await paid(till, drop)
    early = await visitor.open(path=f"/drops/{drop['id']}")
    await expect(early.locator("#drop-bar")).to_have_attribute("aria-label", "1 sold, 0 held, 8 left of 9")
    _, payment = await till.buy(drop, await make_user(till.owner), 2)
    late = await visitor.open(path=f"/drops/{drop['id']}")
    for page in (early, late):
        await expect(page.locator("#drop-bar")).to_have_attribute("aria-label", "1 sold, 2 held, 6 left of 9")
        await expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("1 sold, 2 held, 6 left now"))
    await till.pay(payment)
    for page in (early, late):
        await expect(page.locator("#drop-bar")).to_have_attribute("aria-label", "3 sold, 0 held, 6 left of 9")
    _, payment = await till.buy(drop, await make_user(till.owner))
    page = await visitor.open()
    row = page.locator(f'.row[data-drop-id="{drop["id"]}"]')
    await expect(row.locator(".bar")).to_have_attribute("aria-label", "3 sold, 1 held, 5 left of 9")
    await expect(row.locator("[data-part=revenue]")).to_have_text("≈ $300")
    await till.http.delete(f"/payments/{payment['id']}", headers=as_user(payment["user_id"]))
    await expect(row.locator(".bar")).to_have_attribute("aria-label", "3 sold, 0 held, 6 left of 9")


async def test_refund_of_some_units(till: OwnTill, visitor: Visitor) -> None:
    """A seller refunds some units of a purchase, and the rest later."""
    drop = await till.drop(price=100, total_stock=9)
    await paid(till, drop, "grace", 3)
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await page.get_by_role("tab", name="Buyers").click()
    await page.get_by_role("button", name="Refund grace").click()
    await expect(page.locator("#ask")).to_contain_text("grace gets back what the units cost, $300.00 for all 3.")
    await page.locator("#ask").get_by_label("Units").fill("2")
    await page.get_by_role("button", name="Refund", exact=True).click()
    await expect(page.locator("#table-body tr")).to_contain_text("2 of 3 refunded")
    await expect_money(page, "$300.00", "$200.00", "$0.00", "1 paid")
    await page.get_by_role("button", name="Refund grace").click()
    await expect(page.locator("#ask")).to_contain_text("grace gets $100.00 back, and the unit goes back to stock.")
    await page.get_by_role("button", name="Refund", exact=True).click()
    await expect(page.locator("#table-body tr")).to_contain_text("refunded")
    await expect_money(page, "$300.00", "$300.00", "$0.00", "1 refunded")


async def test_what_went_wrong(till: OwnTill, visitor: Visitor) -> None:
    """What the provider told and somebody has to look at, and what it was told in vain, with Retry."""
    drop = await till.drop(price=100, total_stock=9)
    payment = await paid(till, drop, "linus")
    _, wrong = await till.buy(drop, await make_user(till.owner))
    await till.tell(wrong, "paid", amount=1.0, currency="USD")
    till.fail(fails=True)
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await page.get_by_role("tab", name="Problems").click()
    await expect(page.locator("#table-body tr")).to_contain_text("Another amount than was asked for")
    await page.get_by_role("tab", name="Buyers").click()
    await page.get_by_role("button", name="Refund linus").click()
    await page.get_by_role("button", name="Refund", exact=True).click()
    await expect(page.locator("#ask")).to_be_hidden()

    async def has_failed() -> bool:
        await till.let_calls_be_due()
        await till.payments.work_off()
        return bool(
            await till.owner.fetchval(
                "select last_error is not null from inventory.provider_calls where action = 'refund' and payment_id = $1",
                payment["id"],
            )
        )

    await eventually(has_failed, timeout_seconds=60)
    await page.get_by_role("tab", name="Told to the provider").click()
    retry = page.get_by_role("button", name="Retry: Refund")
    await expect(retry).to_be_visible()
    till.fail(fails=False)
    await retry.click()
    await expect(page.locator("#outcome")).to_have_text("The provider is asked again soon.")
    await till.payments.work_off()
    await expect(retry).to_have_count(0)
    await expect(page.locator("#table-body")).not_to_contain_text("Not done yet")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_axe(till: OwnTill, visitor: Visitor, scheme: str, width: int) -> None:
    """Axe finds nothing in any of the tabs, and nothing is wider than the screen."""
    drop = await till.drop(price=100, total_stock=9)
    await paid(till, drop)
    _, wrong = await till.buy(drop, await make_user(till.owner))
    await till.tell(wrong, "paid", amount=1.0, currency="USD")
    context = await visitor.context(color_scheme=scheme, viewport=ViewportSize(width=width, height=900), reduced_motion="reduce")
    page = await visitor.open(context, f"/drops/{drop['id']}")
    await expect(page.locator("#money")).to_be_visible()
    for tab in ("Payments", "Problems", "Told to the provider"):
        await page.get_by_role("tab", name=tab).click()
        await expect(page.locator("#table-body tr").first).to_be_visible()
        await check(page)


async def test_the_buyers_of_the_page(till: OwnTill, visitor: Visitor) -> None:
    """In development one buys on the page too, and is told that it is to be paid."""
    drop = await till.drop(price=100, total_stock=9)
    page = await visitor.open(path=f"/drops/{drop['id']}")
    await page.locator("#buy").click()
    await expect(page.locator("#buy")).to_have_text(re.compile("^Pay "))
    await page.locator("#buy").click()
    await expect(page.locator("#outcome")).to_have_text(re.compile(r"^Air One is to be paid until .*, at the provider\.$"))
