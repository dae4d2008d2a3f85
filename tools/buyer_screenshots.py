"""The part of `make screenshots` that shows the buyer's page: before it opens, on sale, held, bought, and sold out."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
from playwright.async_api import Page, ViewportSize, expect

from tests.support.browser import chromium
from tests.support.servers import Service

SNEAKER = Path(__file__).with_name("sneaker.svg")
PHONE, DESKTOP = ViewportSize(width=390, height=844), ViewportSize(width=1280, height=800)
LOOKS: list[tuple[Literal["light", "dark"], ViewportSize, str]] = [
    ("light", PHONE, "phone-light"),
    ("dark", PHONE, "phone-dark"),
    ("light", DESKTOP, "light"),
    ("dark", DESKTOP, "dark"),
]
STOCK = {"7": 14, "8": 22, "8.5": 26, "9": 30, "9.5": 30, "10": 28, "11": 18, "12": 12}
LEFT = {"7": 0, "8": 1, "8.5": 2, "9": 12, "9.5": 5, "10": 14, "11": 9, "12": 6}
HELD = "8.5"
"""The size of which all that is gone is held and not paid for."""

SHOWN_SECONDS = 25
"""How long a hold has run in its picture."""


async def make_drop(http: httpx.AsyncClient, starts_in: timedelta) -> Any:
    """A drop of these sizes, with a seller of its own, which ends in the evening."""
    now = datetime.now(UTC)
    body = {
        "name": "Aurora Runner 90",
        "price": 180,
        "image_url": "/sneaker.svg",
        "hold_seconds": 120,
        "starts_at": (now + starts_in).isoformat(),
        "ends_at": (now + timedelta(hours=5)).isoformat(),
        "variants": [{"name": name, "total_stock": stock} for name, stock in STOCK.items()],
    }
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
    (await http.patch(path, json={"limit_per_user": 1}, headers={"X-User-Id": drop["created_by"]})).raise_for_status()


async def take(service: Service, folder: Path) -> None:
    """Take the pictures, on a phone and a desktop, light and dark."""
    async with httpx.AsyncClient(base_url=f"{service.url}/api") as http, chromium() as browser:
        for scheme, viewport, look in LOOKS:
            page = await browser.new_page(color_scheme=scheme, viewport=viewport, device_scale_factor=1.5, locale="en-US")
            await page.route("**/sneaker.svg", lambda route: route.fulfill(path=SNEAKER))
            soon, gone, drop = [await make_drop(http, timedelta(minutes=minutes)) for minutes in (134, -60, -60)]
            await sell(http, gone, {})
            await sell(http, drop, LEFT)
            await show(page, service, soon)
            await picture(page, folder / f"buyer-soon-{look}.png")
            await show(page, service, gone)
            await picture(page, folder / f"buyer-sold-out-{look}.png")
            await show(page, service, drop)
            await page.get_by_role("radio", name="9 Plenty").check()
            await picture(page, folder / f"buyer-on-sale-{look}.png")
            await page.get_by_role("button", name="Reserve size 9").click()
            await page.wait_for_timeout(1000 * SHOWN_SECONDS)
            await picture(page, folder / f"buyer-held-{look}.png")
            await page.get_by_role("button", name="Pay").click()
            await picture(page, folder / f"buyer-bought-{look}.png")


async def show(page: Page, service: Service, drop: Any) -> None:
    """Open the page of a drop."""
    await page.goto(f"{service.url}/d/{drop['id']}")
    await expect(page.locator("#connection")).to_have_text("Live")


async def picture(page: Page, path: Path) -> None:
    """Take a picture when nothing moves any more; until then the page would also ignore a press."""
    await page.wait_for_timeout(900)
    await page.screenshot(path=path, animations="disabled")
