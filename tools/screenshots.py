"""`make screenshots`: takes the pictures in docs/images, of the dashboard in the middle of a sale and of the buyer's page."""

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import httpx
from playwright.async_api import expect

from tests.support.browser import chromium
from tests.support.servers import Service, started
from tools import buyer_screenshots

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
DROPS = {"Blazer Mid": 60, "Court Vision": 50, "Dunk Low Retro": 80, "Air Jordan 1": 120}
SOLD_SHARE, HELD_SHARE = 0.55, 0.15


async def sell(url: str) -> None:
    """Buy some units of each drop and hold some."""
    chance = random.Random(4)  # noqa: S311 - the same picture every time
    async with httpx.AsyncClient(base_url=f"{url}/api") as http:
        [seller, *buyers] = [
            (await http.post("/internal/users", json={"username": name})).raise_for_status().json()["data"]["user"]["id"]
            for name in (
                "seller",
                *(f"{first}.{last}" for first in ("ann", "bo", "cleo", "dan", "eva") for last in "abcdefghijklmnopqrstuv"),
            )
        ]
        drops = []
        for name, stock in DROPS.items():
            body = {"name": name, "price": 100 + stock, "total_stock": stock, "starts_at": "2026-01-01T00:00:00Z"}
            answer = (await http.post("/drops", json=body, headers={"X-User-Id": seller})).raise_for_status()
            drops.append((answer.json()["data"]["drop"]["id"], stock))
        asks = [
            (drop_id, buyer, n < stock * SOLD_SHARE)
            for drop_id, stock in drops
            for n, buyer in enumerate(chance.sample(buyers, int(stock * (SOLD_SHARE + HELD_SHARE))))
        ]
        chance.shuffle(asks)
        for drop_id, buyer, buys in asks:
            (await http.post(f"/drops/{drop_id}/reserve", headers={"X-User-Id": buyer})).raise_for_status()
            if buys:
                (await http.post(f"/drops/{drop_id}/purchase", headers={"X-User-Id": buyer})).raise_for_status()
            await asyncio.sleep(0.18)  # so that the charts have a slope


async def take(service: Service) -> None:
    """Open the page in both schemes, sell, and take the pictures."""
    async with chromium() as browser:
        pages = [
            await browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 975}, device_scale_factor=1.5)
            for scheme in SCHEMES
        ]
        for page in pages:
            await page.goto(service.url)
            await expect(page.locator("#badge")).to_have_text("Live")
            await page.locator("#tools summary").click()  # fold the tools, because the picture is of the drops
        await sell(service.url)
        IMAGES.mkdir(exist_ok=True)
        for scheme, page in zip(SCHEMES, pages, strict=True):
            await expect(page.locator(".card")).to_have_count(len(DROPS))
            await page.screenshot(path=IMAGES / f"dashboard-{scheme}.png", animations="disabled")


def main() -> None:
    """Start a service of its own and take the pictures."""
    with (
        TemporaryDirectory(prefix="lastpair-screenshots-") as folder,
        started(DATA_DIR=folder, RESERVATION_TTL_SECONDS="600") as service,
    ):
        service.wait_until_ready()
        asyncio.run(take(service))
        asyncio.run(buyer_screenshots.take(service, IMAGES))
        service.stop()


if __name__ == "__main__":
    main()
