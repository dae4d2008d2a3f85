"""The part of `make screenshots` that films a rush: ten seconds of the page of its drop, as a GIF.

`python -m tools.rush_animation` makes it alone. Chromium sends a picture whenever it has drawn the page. The pictures are played
as fast as they came, or faster if the machine was so busy that the rush took longer. The stock is large, so that it takes some
seconds to sell.
"""

import asyncio
import base64
import io
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.async_api import Page, ViewportSize, expect

from tests.support.browser import chromium
from tests.support.servers import ROOT, Service, started

PICTURE = ROOT / "docs" / "images" / "rush.gif"
WINDOW = ViewportSize(width=1200, height=740)
BUYERS, STOCK = 50_000, 8_000
FRAME_SECONDS = 0.1
LENGTH_SECONDS = 10
END_SECONDS = 2.5
"""How long the result stays, at least, to be read."""

Frame = tuple[float, bytes]
"""A picture, as PNG, and the time at which it was drawn."""


async def film(page: Page, url: str) -> list[Frame]:
    """Start a rush on the page, and take pictures until it has ended."""
    frames: list[Frame] = []
    await page.goto(url)
    await expect(page.locator("#badge")).to_have_text("Live")
    await page.get_by_role("button", name="Rush").first.click()
    form = page.locator("#rush-form")
    await form.get_by_label("Buyers").fill(str(BUYERS))
    await form.get_by_label("Units").fill(str(STOCK))
    session = await page.context.new_cdp_session(page)

    def take(event: dict[str, Any]) -> None:
        frames.append((event["metadata"]["timestamp"], base64.b64decode(event["data"])))
        acknowledged.add(asyncio.ensure_future(session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})))

    acknowledged: set[asyncio.Future[Any]] = set()
    session.on("Page.screencastFrame", take)
    await form.get_by_role("button", name="Start").click()
    await expect(page.locator("#rush")).to_be_visible()
    await session.send("Page.startScreencast", {"format": "png"})
    await expect(page.locator("#rush-sum")).to_contain_text("oversold", timeout=120_000)
    await expect(page.locator("#drop-status")).to_contain_text("Sold out")
    await page.wait_for_timeout(1000)  # until the last figures are drawn
    await session.send("Page.stopScreencast")
    await asyncio.gather(*acknowledged)
    return frames


def palette_of(image: Image.Image) -> Image.Image:
    """The 256 colors that fill most of the picture, as they are: a mixed palette would make the white of the page grey."""
    colors = sorted(image.getcolors(image.width * image.height) or [], reverse=True)[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, color in colors for part in color])  # type: ignore[union-attr]
    return palette


def write(frames: list[Frame], file: Path) -> float:
    """Write the animation, which lasts LENGTH_SECONDS and then begins anew. Returns how long the rush was filmed."""
    filmed_seconds = frames[-1][0] - frames[0][0]
    speed = max(1, filmed_seconds / (LENGTH_SECONDS - END_SECONDS))
    shown = frames[:1]
    for frame in frames[1:-1]:
        if frame[0] - shown[-1][0] >= FRAME_SECONDS * speed:
            shown.append(frame)
    shown.append(frames[-1])
    milliseconds = [1000 * (after - before) / speed for (before, _), (after, _) in pairwise(shown)]
    milliseconds.append(1000 * LENGTH_SECONDS - sum(milliseconds))
    images = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in shown]
    palette = palette_of(images[-1])
    first, *others = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    first.save(file, save_all=True, append_images=others, duration=milliseconds, loop=0, optimize=True)
    return filmed_seconds


async def make(service: Service, file: Path = PICTURE) -> None:
    """Film a rush of this service."""
    async with chromium() as browser:
        page = await browser.new_page(color_scheme="light", viewport=WINDOW, locale="en-US")
        frames = await film(page, service.url)
    filmed_seconds = write(frames, file)
    print(f"{file.name}: a rush of {filmed_seconds:.1f} s, {file.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Start a service of its own and film a rush."""
    with TemporaryDirectory(prefix="lastpair-screenshots-") as folder, started(DATA_DIR=folder) as service:
        service.wait_until_ready()
        asyncio.run(make(service))
        service.stop()


if __name__ == "__main__":
    main()
