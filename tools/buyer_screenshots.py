"""The part of `make screenshots` that shows the buyer's page, from before the drop opens until it is over."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from playwright.async_api import Page, expect

from tests.support.browser import chromium
from tests.support.buyer_page import BOUGHT, press
from tests.support.servers import Service
from tools.photographer import Look, Photographer, looks

SNEAKER = Path(__file__).with_name("sneaker.svg")
STOCK = {"7": 14, "8": 22, "8.5": 26, "9": 30, "9.5": 30, "10": 28, "11": 18, "12": 12}
LEFT = {"7": 0, "8": 1, "8.5": 2, "9": 12, "9.5": 5, "10": 14, "11": 9, "12": 6}
HELD = "8.5"
"""The size of which all that is gone is held and not paid for."""

SHOWN_SECONDS = 25
"""How long a hold has run in its picture."""


async def make_drop(http: httpx.AsyncClient, starts_in: timedelta, **fields: Any) -> Any:
    """A drop of these sizes unless the fields say otherwise, with a seller of its own, which ends in five hours."""
    now = datetime.now(UTC)
    body = {
        "name": "Aurora Runner 90",
        "price": 180,
        "image_url": "/sneaker.svg",
        "hold_seconds": 120,
        "starts_at": (now + starts_in).isoformat(),
        "ends_at": (now + timedelta(hours=5)).isoformat(),
        "variants": [{"name": name, "total_stock": stock} for name, stock in STOCK.items()],
    } | fields
    answer = await http.post("/drops", json=body, headers={"X-User-Id": str(uuid4())})
    return answer.raise_for_status().json()["data"]["drop"]


async def sell(http: httpx.AsyncClient, drop: Any, left: dict[str, int]) -> None:
    """Sell or hold all but so many units of each size. Afterwards each buyer may have one."""
    path, buyer = f"/drops/{drop['id']}", {"X-User-Id": str(uuid4())}
    for variant in drop["variants"]:
        body: dict[str, Any] = {"variant_id": variant["id"], "qty": variant["total_stock"] - left.get(variant["name"], 0)}
        answer = (await http.post(f"{path}/reserve", json=body, headers=buyer)).raise_for_status()
        if variant["name"] != HELD:
            body = {"reservation_id": answer.json()["data"]["reservation"]["id"]}
            (await http.post(f"{path}/purchase", json=body, headers=buyer)).raise_for_status()
    await patch(http, drop, limit_per_user=1)


async def patch(http: httpx.AsyncClient, drop: Any, **changes: Any) -> None:
    """Change a drop."""
    answer = await http.patch(f"/drops/{drop['id']}", json=changes, headers={"X-User-Id": drop["created_by"]})
    answer.raise_for_status()


async def take(service: Service) -> None:
    """Take the pictures, all looks at once."""
    async with httpx.AsyncClient(base_url=f"{service.url}/api") as http, chromium() as browser:
        photographer = Photographer(browser, service.url)
        async with asyncio.TaskGroup() as group:
            for look in looks("desktop", "phone"):
                group.create_task(take_look(photographer, http, look))


async def take_look(photographer: Photographer, http: httpx.AsyncClient, look: Look) -> None:
    """Take the pictures of one look, of drops that no other look changes."""
    async with photographer.page(look) as page:
        await page.route("**/sneaker.svg", lambda route: route.fulfill(path=SNEAKER))
        soon, gone, drop = [await make_drop(http, timedelta(minutes=minutes)) for minutes in (134, -60, -60)]
        await sell(http, gone, {})
        await sell(http, drop, LEFT)
        await show(page, photographer.url, soon)
        await photographer.save(page, "buyer-soon", look)
        await show(page, photographer.url, gone)
        await photographer.save(page, "buyer-sold-out", look)
        await show(page, photographer.url, drop)
        await photographer.save(page, "buyer-choose", look)
        await page.get_by_role("radio", name="9 Plenty").check()
        await photographer.save(page, "buyer-on-sale", look)
        await press(page, "Reserve size 9")
        await page.wait_for_timeout(1000 * SHOWN_SECONDS)
        await photographer.save(page, "buyer-held", look)
        await press(page, "Let it go")
        await expect(page.locator("#panel-title")).to_contain_text("You let")
        await photographer.save(page, "buyer-let-go", look)
        await press(page, "Reserve size 9")
        await press(page, "Pay $180.00")
        await expect(page.locator("#panel-title")).to_have_text(BOUGHT)
        await photographer.save(page, "buyer-bought", look)
        for changes, status in (
            ({"paused": True}, "Paused"),
            ({"status": "ended"}, "Ended"),
            ({"status": "cancelled"}, "Cancelled"),
        ):
            over = await make_drop(http, timedelta(minutes=-60))
            await show(page, photographer.url, over)
            await patch(http, over, **changes)
            await expect(page.locator("#pill")).to_have_text(status)
            await photographer.save(page, f"buyer-{status.lower()}", look)
        plain = await make_drop(http, timedelta(minutes=-1), image_url=None, variants=None, total_stock=40, limit_per_user=4)
        await show(page, photographer.url, plain)
        await photographer.save(page, "buyer-without-picture", look)


async def show(page: Page, url: str, drop: Any) -> None:
    """Open the page of a drop."""
    await page.goto(f"{url}/d/{drop['id']}")
    await expect(page.locator("#connection")).to_have_text("Live")
