"""The part of `make screenshots` that shows payments: on the buyer's page, and to the seller on the dashboard.

A service of its own has a provider of its own, which tells what the pictures need.
"""

import asyncio
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from playwright.async_api import Page, expect

from tests.support.browser import chromium
from tests.support.buyer_page import BOUGHT, press
from tests.support.payment_provider import SECRET, OwnProvider, own_provider
from tests.support.servers import started
from tests.support.waiting import eventually
from tools.buyer_screenshots import SNEAKER, make_drop, show
from tools.photographer import Look, Photographer, looks

BUYERS = ("ada", "alan", "barbara", "claude", "donald", "edsger", "frances", "grace", "john", "ken", "linus", "margaret")


async def take() -> None:
    """Take the pictures."""
    async with own_provider() as provider, chromium() as browser:
        with (
            TemporaryDirectory(prefix="lastpair-screenshots-") as folder,
            started(
                DATA_DIR=folder,
                PAYMENT_PROVIDER="webhook",
                PAYMENT_WEBHOOK_SECRET=SECRET,
                PAYMENT_PROVIDER_URL=provider.url,
                EXPIRY_POLL_MS="500",
            ) as service,
        ):
            await asyncio.to_thread(service.wait_until_ready)
            provider.webhook_url = f"{service.url}/api/webhooks/payments"
            async with httpx.AsyncClient(base_url=f"{service.url}/api", timeout=60) as http:
                photographer = Photographer(browser, service.url)
                async with asyncio.TaskGroup() as group:
                    for look in looks("desktop", "phone"):
                        group.create_task(take_buyer(photographer, provider, http, look))
                await take_seller(photographer, provider, http)
            await asyncio.to_thread(service.stop)


async def take_buyer(photographer: Photographer, provider: OwnProvider, http: httpx.AsyncClient, look: Look) -> None:
    """What a buyer sees who is declined, cancels, buys again, pays, and gets the money back."""
    async with photographer.page(look) as page:
        await page.route("**/sneaker.svg", lambda route: route.fulfill(path=SNEAKER))
        await show(page, photographer.url, await make_drop(http, timedelta(minutes=-60), variants=None, total_stock=60))
        payment = await buy(page)
        await photographer.save(page, "buyer-to-pay", look)
        await provider.tell(payment, "failed")
        await expect(page.locator("#panel-title")).to_contain_text("declined")
        await photographer.save(page, "buyer-declined", look)
        await press(page, "Cancel")
        await expect(page.locator("#panel-title")).to_contain_text("You cancelled")
        await photographer.save(page, "buyer-not-paid", look)
        payment = await buy(page)
        await tell_paid(provider, payment)
        await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
        await photographer.save(page, "buyer-paid", look)
        await provider.tell(payment, "refunded", refunded_amount=payment["amount"])
        await expect(page.locator("#pill")).to_have_text("Refunded")
        await photographer.save(page, "buyer-refunded", look)


async def buy(page: Page) -> Any:
    """Reserve one and buy it; returns its payment when it can be paid."""
    await press(page, "Reserve")
    async with page.expect_response("**/purchase") as answer:
        await press(page, "Go on to pay $180.00")
    payment = (await (await answer.value).json())["data"]["payment"]
    await expect(page.get_by_role("link", name="Pay $180.00")).to_be_visible()
    return payment


async def take_seller(photographer: Photographer, provider: OwnProvider, http: httpx.AsyncClient) -> None:
    """The money of a drop: most have paid, some have not or were declined, and some things went wrong."""
    drop = await make_drop(http, timedelta(minutes=-60), variants=None, total_stock=60, limit_per_user=3)
    payments = [await purchase(http, drop, name, 1 + n % 3) for n, name in enumerate(BUYERS)]
    await eventually(
        lambda: len({told["payment"]["id"] for told in provider.told} & {row["id"] for row in payments}) == len(BUYERS)
    )
    await provider.tell(payments[0], "paid", amount=1.0, currency="USD")  # another amount than was asked for
    for payment in payments[3:]:
        await tell_paid(provider, payment)
    await provider.tell(payments[1], "failed")
    await provider.tell(payments[3], "refunded", refunded_amount=payments[3]["amount"])
    seller = {"X-User-Id": drop["created_by"]}
    bought = (await http.get(f"/drops/{drop['id']}/purchases", headers=seller)).raise_for_status().json()["data"]["purchases"]
    paid = [row for row in bought if row["status"] == "paid"]
    provider.fails = True
    for row in paid[:2]:
        (await http.post(f"/purchases/{row['id']}/refund", json={"qty": 1}, headers=seller)).raise_for_status()
    path = f"/drops/{drop['id']}"
    await photographer.take("money-holders", path)
    for tab, name in (("Payments", "payments"), ("Buyers", "buyers"), ("Problems", "problems"), ("Told to the provider", "told")):
        await photographer.take(f"money-{name}", path, show_tab(tab))
    provider.fails = False


def show_tab(name: str) -> Any:
    """Show this tab, at the top of the window, as soon as it has rows."""

    async def prepare(page: Page) -> None:
        await page.get_by_role("tab", name=name).click()
        await expect(page.locator("#table-body tr").first).to_be_visible()
        await page.locator("#seller").evaluate("(element) => element.scrollIntoView()")

    return prepare


async def purchase(http: httpx.AsyncClient, drop: Any, name: str, units: int) -> Any:
    """Reserve and buy so many units as a new user; returns the payment."""
    user = (await http.post("/internal/users", json={"username": name})).raise_for_status().json()["data"]["user"]
    headers = {"X-User-Id": user["id"]}
    (await http.post(f"/drops/{drop['id']}/reserve", json={"qty": units}, headers=headers)).raise_for_status()
    return (await http.post(f"/drops/{drop['id']}/purchase", headers=headers)).raise_for_status().json()["data"]["payment"]


async def tell_paid(provider: OwnProvider, payment: Any) -> None:
    """The buyer has paid at the provider."""
    provider.statuses[payment["id"]] = {"status": "paid"}
    answer = await provider.tell(payment, "paid", amount=float(payment["amount"]), currency=payment["currency"])
    answer.raise_for_status()
