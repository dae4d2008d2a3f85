"""`make screenshots`: takes pictures of the dashboard in every state, light and dark, on a desktop and on a phone.

tools/photographer.py says where they go. The pages are set in Inter where it is installed (`apt-get install fonts-inter
fonts-noto-cjk`), and in the system's font elsewhere.
"""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from playwright.async_api import Page, expect

from tests.support.browser import chromium
from tests.support.servers import Service, started
from tools import buyer_screenshots, payment_screenshots, rush_animation
from tools.photographer import FOLDER, IMAGES, Photographer, Prepare, nothing

SHOE_SIZES = {"7": 12, "8": 22, "8.5": 26, "9": 30, "9.5": 30, "10": 28, "11": 18, "12": 14}
LONG_NAME = "The extraordinarily long name of a shoe by three brands, a museum and a city, in its second edition"
# Name, body, and the shares of the stock that are sold and held.
DROPS: list[tuple[str, dict[str, Any], float, float]] = [
    ("Court Vision", {"price": 95, "total_stock": 400, "starts": -900, "ends": 7810}, 0.2, 0.02),
    ("Kuwait City Runner", {"price": 45.125, "currency": "KWD", "total_stock": 40}, 0.4, 0),
    ("東京限定 Geta", {"price": 24_000, "currency": "JPY", "total_stock": 80}, 0.5, 0.1),
    (LONG_NAME, {"price": 1299.5, "total_stock": 25}, 0.2, 0.1),
    ("Recalled Runner", {"price": 80, "total_stock": 50}, 0.1, 0),
    ("Air Max 1", {"price": 140, "total_stock": 60}, 1, 0),
    ("Blazer Mid 77", {"price": 110, "total_stock": 120}, 0.5, 0),
    ("Gel-Kayano 14", {"price": 165, "total_stock": 60}, 0.9, 0.06),
    ("Dunk Low Retro", {"price": 120, "total_stock": 240, "ends": 2862}, 0.7, 0.1),
    (
        "Air Jordan 1 High",
        {"price": 180, "sizes": SHOE_SIZES, "ends": 3752, "hold_seconds": 240, "limit_per_user": 9},
        0.65,
        0.06,
    ),
    ("Samba OG", {"price": 100, "total_stock": 300, "starts": 1630}, 0, 0),
    ("Chuck 70", {"price": 85, "total_stock": 150, "starts": None}, 0, 0),
]
MANY = 606


class Shop:
    """A service with drops to take pictures of."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.drops: dict[str, dict[str, Any]] = {}

    async def post(self, path: str, user: str = "", **body: Any) -> Any:
        """The data of the answer."""
        response = await self._http.post(path, json=body, headers={"X-User-Id": user} if user else {})
        return response.raise_for_status().json()["data"]

    async def patch(self, name: str, **changes: Any) -> None:
        """Change a drop."""
        drop = self.drops[name]
        response = await self._http.patch(f"/drops/{drop['id']}", json=changes, headers={"X-User-Id": drop["created_by"]})
        response.raise_for_status()

    async def user(self, name: str) -> str:
        """A new user."""
        return str((await self.post("/internal/users", username=name))["user"]["id"])

    async def make(self, seller: str, name: str, fields: dict[str, Any]) -> None:
        """A new drop. Its start and end are in seconds from now."""
        now, fields = datetime.now(UTC), {"starts": -1} | fields
        for field in ("starts", "ends"):
            seconds = fields.pop(field, None)
            if seconds is not None:
                fields[f"{field}_at"] = (now + timedelta(seconds=seconds)).isoformat()
        if "sizes" in fields:
            fields["variants"] = [{"name": size, "total_stock": stock} for size, stock in fields.pop("sizes").items()]
        self.drops[name] = (await self.post("/drops", seller, name=name, **fields))["drop"]

    async def open(self) -> None:
        """Make all drops, sell of them and hold some, for about a minute."""
        chance = random.Random(4)  # noqa: S311 - the same picture every time
        seller = await self.user("you")
        firsts, lasts = ("ann", "bo", "cleo", "dan", "eva", "finn", "gia", "hugo"), "abcdefghijklmnopqrstuvwxyz"
        buyers = [await self.user(f"{first}.{last}") for first in firsts for last in lasts]
        asks = []
        for name, fields, sold, held in DROPS:
            await self.make(seller, name, fields)
            stock = self.drops[name]["total_stock"]
            asks += [(name, n, n < stock * sold) for n in range(int(stock * (sold + held)))]
        chance.shuffle(asks)
        for name, n, is_bought in asks:
            await self._buy(self.drops[name], buyers[n % len(buyers)], n, is_bought)
            await asyncio.sleep(0.04)  # so that the charts have a slope
        await self.patch("Blazer Mid 77", paused=True)
        await self.patch("Court Vision", price=89.5)
        await self.post(f"/drops/{self.drops['Recalled Runner']['id']}/cancel", seller, refund=True)

    async def _buy(self, drop: dict[str, Any], buyer: str, n: int, is_bought: bool) -> None:
        sizes = [size["id"] for size in drop["variants"]]
        body = {"variant_id": sizes[(n * 3 + n // len(sizes)) % len(sizes)]} if sizes else {}
        response = await self._http.post(f"/drops/{drop['id']}/reserve", json=body, headers={"X-User-Id": buyer})
        if is_bought and response.status_code == httpx.codes.CREATED:  # a size may be sold out
            await self.post(f"/drops/{drop['id']}/purchase", buyer)


async def never_answer(page: Page) -> None:
    """The server is slow: the page, which asks without a worker, waits for its first event."""
    await page.add_init_script("""
      delete window.SharedWorker;
      const ask = window.fetch;
      window.fetch = (url, ...options) => (String(url).includes("/api/events") ? new Promise(() => {}) : ask(url, ...options));
    """)


async def lose_connection(page: Page) -> None:
    """The connection is lost, and does not come back."""
    await page.route("**/api/events*", lambda route: route.abort())
    await page.context.set_offline(True)
    await expect(page.locator("#badge")).to_have_text("Reconnecting")


async def hold(page: Page) -> None:
    """A visitor holds one unit, and looks at the figures of a moment."""
    await page.locator(".size").nth(3).click()
    await page.locator("#buy").click()
    await expect(page.locator("#outcome")).to_contain_text("is held for you")


async def search_in_vain(page: Page) -> None:
    """A search that finds nothing."""
    await page.get_by_label("Find a drop").fill("boots")


def press(name: str) -> Prepare:
    """Press the button with this name."""

    async def prepare(page: Page) -> None:
        await page.get_by_role("button", name=name).first.click()

    return prepare


def choose_tab(name: str) -> Prepare:
    """Show this tab, at the top of the window."""

    async def prepare(page: Page) -> None:
        await page.get_by_role("tab", name=name).click()
        await page.locator("#seller").evaluate("(element) => element.scrollIntoView()")

    return prepare


async def rush(page: Page) -> None:
    """Start a rush, and wait for its end."""
    await page.get_by_role("button", name="Rush").first.click()
    await page.locator("#rush-form").get_by_role("button", name="Start").click()
    await expect(page.locator("#rush-sum")).to_contain_text("oversold", timeout=60_000)
    await page.locator("#rush").evaluate("(element) => innerWidth < 1000 && element.scrollIntoView()")


async def take_dashboard(service: Service) -> None:
    """Take the pictures of the dashboard: first without a drop, then with a shop full of them, then with very many."""
    async with chromium() as browser, httpx.AsyncClient(base_url=f"{service.url}/api", timeout=60) as http:
        shop, photographer = Shop(http), Photographer(browser, service.url)
        await photographer.take("empty")
        await photographer.take("loading", before=never_answer)
        await shop.open()
        await photographer.take("list", sizes=("desktop", "laptop", "phone"))
        await photographer.take("no-match", prepare=search_in_vain)
        await photographer.take("drafts", prepare=press("Drafts"))
        await photographer.take("tools", prepare=press("Create a drop"))
        pages = {
            "drop": ("Air Jordan 1 High", hold),
            "buyers": ("Air Jordan 1 High", choose_tab("Buyers")),
            "history": ("Court Vision", choose_tab("History")),
            "edit": ("Dunk Low Retro", press("Edit")),
            "cancel": ("Dunk Low Retro", press("Cancel drop")),
            "sold-out": ("Air Max 1", nothing),
            "paused": ("Blazer Mid 77", nothing),
            "scheduled": ("Samba OG", nothing),
            "draft": ("Chuck 70", nothing),
            "cancelled": ("Recalled Runner", nothing),
            "long-name": (LONG_NAME, nothing),
            "yen": ("東京限定 Geta", nothing),
            "dinar": ("Kuwait City Runner", nothing),
        }
        for name, (drop, prepare) in pages.items():
            await photographer.take(name, f"/drops/{shop.drops[drop]['id']}", prepare)
        await photographer.take("missing", "/drops/00000000-0000-0000-0000-000000000000")
        await photographer.take("offline", prepare=lose_connection)
        await photographer.take("rush", prepare=rush, in_turn=True)
        seller = shop.drops["Samba OG"]["created_by"]
        for n in range(MANY - len(DROPS)):
            await shop.make(seller, f"Drop {n + 1}", {"price": 100 + n, "total_stock": 10})
        await photographer.take("many")


async def take_all(service: Service) -> None:
    """Take all pictures."""
    await take_dashboard(service)
    await rush_animation.make(service)
    await buyer_screenshots.take(service)
    await payment_screenshots.take()


def main() -> None:
    """Start a service of its own and take the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(exist_ok=True)
    with (
        TemporaryDirectory(prefix="lastpair-screenshots-") as folder,
        started(DATA_DIR=folder, RESERVATION_TTL_SECONDS="3600") as service,
    ):
        service.wait_until_ready()
        asyncio.run(take_all(service))
        service.stop()


if __name__ == "__main__":
    main()
