"""Chromium, found or installed, and a visitor that notes every problem of its pages."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    WebError,
    async_playwright,
    expect,
)

from tests.support.debian import needed
from tests.support.waiting import PATIENCE_SECONDS

NAMES = ["/usr/bin/chromium", "chromium", "google-chrome"]
PATIENCE_MS = 1000 * PATIENCE_SECONDS
expect.set_options(timeout=PATIENCE_MS)

REFUSED = r"Failed to load resource: the server responded with a status of 409 \(Conflict\)"
"""The console message that Chromium itself writes when a request is refused."""

OUTAGE = (
    rf"{REFUSED}|Failed to load resource: (net::ERR_[A-Z_]+|the server responded with a status of 503 \(Service Unavailable\))"
)
"""The same, and what it writes while a server is away."""

# Runs before the page's scripts: reports violations of the policy on the console, and notes the texts of the badge.
INIT = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  console.error(`Content-Security-Policy: ${violatedDirective} ${blockedURI}`);
});
window.badges = [];
addEventListener("DOMContentLoaded", () => {
  const badge = document.getElementById("badge");
  const note = () => { if (window.badges.at(-1) !== badge.textContent) window.badges.push(badge.textContent); };
  if (badge) new MutationObserver(note).observe(badge, { childList: true, characterData: true, subtree: true });
});
"""


def find_chromium() -> str:
    """The path of a Chromium."""
    return needed(lambda: next((path for name in NAMES if (path := shutil.which(name))), None), "Chromium", "chromium")


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    """A headless Chromium."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        yield browser
        await browser.close()


class Visitor:
    """A visitor of the dashboard with any number of windows. Problems of its pages are noted in `problems`."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url = url
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.expected = ""
        """A pattern of the console messages that are no problem. A test in which a request is refused sets it to REFUSED."""

        self.allowed_hosts: set[str] = set()
        """The other hosts that the pages may ask. A test that sets them answers for them."""

        self._browser = browser
        self._contexts: list[BrowserContext] = []

    async def context(self, url: str | None = None, **options: Any) -> BrowserContext:
        """A new browser context, for this URL or else for the visitor's."""
        base = url or self.url
        context = await self._browser.new_context(base_url=base, **options)
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(INIT)
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("dialog", self._on_dialog)
        context.on("request", lambda request: self._on_request(request, urlsplit(base).netloc))
        return context

    async def open(self, context: BrowserContext | None = None, path: str = "/", **options: Any) -> Page:
        """The dashboard at this path, connected; in a new context with these options unless one is given."""
        context = context or await self.context(**options)
        page = await context.new_page()
        await page.goto(path)
        await page.locator("#badge[data-state=live]").wait_for()
        return page

    async def close(self) -> None:
        """Close all windows."""
        while self._contexts:
            await self._contexts.pop().close()

    def _on_console(self, message: ConsoleMessage) -> None:
        if not re.fullmatch(self.expected, message.text):
            self.problems.append(f"console {message.type}: {message.text}")

    def _on_error(self, error: WebError) -> None:
        self.problems.append(f"not caught: {error.error}")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _on_request(self, request: Request, host: str) -> None:
        self.requests.append(request.url)
        if urlsplit(request.url).netloc not in {host, *self.allowed_hosts}:
            self.problems.append(f"request to another host: {request.url}")


@asynccontextmanager
async def visiting(browser: Browser, url: str) -> AsyncIterator[Visitor]:
    """A visitor of the service at this URL. Fails at the end if a page had a problem."""
    visitor = Visitor(browser, url)
    try:
        yield visitor
    finally:
        await visitor.close()
    assert visitor.problems == [], visitor.problems
