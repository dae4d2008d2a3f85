"""Takes each picture of `make screenshots` four times: light and dark, on a desktop and on a phone.

All pictures go to .data/screenshots, to be looked at; those that README.md shows are copied to docs/images.
"""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from playwright.async_api import Browser, Page, expect

from tests.support.servers import ROOT

IMAGES, FOLDER = ROOT / "docs" / "images", ROOT / ".data" / "screenshots"
SHOWN = set(re.findall(r"docs/images/([\w-]+\.png)", (ROOT / "README.md").read_text()))
SIZES: dict[str, Any] = {
    "desktop": {"viewport": {"width": 1440, "height": 900}, "device_scale_factor": 1.5},
    "laptop": {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1.5},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True},
}


class Look(NamedTuple):
    """The size of a window and the colors of its pages."""

    size: str
    scheme: Literal["light", "dark"]


def looks(*sizes: str) -> list[Look]:
    """Light and dark windows of these sizes."""
    return [Look(size, scheme) for size in sizes for scheme in ("light", "dark")]


Prepare = Callable[[Page], Awaitable[None]]


async def nothing(page: Page) -> None:
    """The page as it is."""


class Photographer:
    """Takes pictures of the pages of a service. The looks are taken at once, because a page mostly waits for its data."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self._browser = browser

    async def take(
        self,
        name: str,
        path: str = "/",
        prepare: Prepare = nothing,
        before: Prepare = nothing,
        *,
        sizes: tuple[str, ...] = ("desktop", "phone"),
        in_turn: bool = False,
    ) -> None:
        """Open the path and take the picture after `prepare`; `before` runs before the page is loaded.

        `in_turn` takes one look after the other, for what the service does only once at a time.
        """

        async def take_one(look: Look) -> None:
            async with self.page(look) as page:
                await before(page)
                await page.goto(self.url + path)
                if before is nothing:
                    await expect(page.locator("#badge")).to_have_text("Live")
                await page.wait_for_timeout(1500)  # until the charts have their past
                await prepare(page)
                await self.save(page, name, look)

        if in_turn:
            for look in looks(*sizes):
                await take_one(look)
        else:
            async with asyncio.TaskGroup() as group:
                for look in looks(*sizes):
                    group.create_task(take_one(look))

    @asynccontextmanager
    async def page(self, look: Look) -> AsyncIterator[Page]:
        """An empty page in a window of its own, without what other windows keep."""
        context = await self._browser.new_context(color_scheme=look.scheme, locale="en-US", **SIZES[look.size])
        yield await context.new_page()
        await context.close()

    async def save(self, page: Page, name: str, look: Look) -> None:
        """Take the picture when nothing moves any more, and say so."""
        picture = f"{name}-{look.size}-{look.scheme}.png"
        await page.mouse.move(0, 0)  # so that no button looks as if it was about to be pressed
        await page.wait_for_timeout(500)
        await page.screenshot(path=FOLDER / picture, animations="disabled")
        if picture in SHOWN:
            shutil.copy(FOLDER / picture, IMAGES / picture)
        print(f"{time.strftime('%X')} {picture}{' (in README.md)' if picture in SHOWN else ''}", flush=True)
