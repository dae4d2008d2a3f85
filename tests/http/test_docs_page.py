"""The page /docs: it shows every operation and tries one out, and loads files of this server only."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import Visitor, chromium, visiting
from tests.support.factories import make_drop, make_user

pytestmark = pytest.mark.slow

TAGS = ["drops", "reservations", "baskets", "purchases", "users", "realtime", "operations", "development"]
FILES = ["main.js", "style.css", "swagger-ui-bundle.js", "swagger-ui.css"]
OTHER_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A browser."""
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def visitor(browser: Browser, api_url: str) -> AsyncIterator[Visitor]:
    """A visitor, who must see no complaint of the console or the policy, and no request to another host."""
    async with visiting(browser, api_url) as visitor:
        yield visitor


async def test_it_shows_every_operation(http: httpx.AsyncClient, visitor: Visitor) -> None:
    """The page shows every operation under its tag with its method, path and summary."""
    document = (await http.get("/openapi.json")).json()
    page = await (await visitor.context()).new_page()
    await page.goto("/docs")
    await expect(page).to_have_title("Lastpair: the API")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Lastpair")
    assert [await tag.get_attribute("data-tag") for tag in await page.locator(".opblock-tag").all()] == TAGS
    shown = set()
    for block in await page.locator(".opblock").all():
        words = [
            await block.locator(f".opblock-summary-{name}").text_content() or "" for name in ("method", "path", "description")
        ]
        shown.add(tuple(word.replace("\u200b", "") for word in words))
    assert shown == {
        (method.upper(), path, operation["summary"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    }
    await page.get_by_text("What can go wrong").click()
    await expect(page.get_by_role("row", name="OUT_OF_STOCK")).to_contain_text("409")
    assert sorted({urlsplit(url).path for url in visitor.requests} - {"/dashboard/icon.svg"}) == sorted(
        ["/docs", "/api/openapi.json", *(f"/docs/{name}" for name in FILES)]
    )


async def test_it_tries_out(http: httpx.AsyncClient, visitor: Visitor, owner: asyncpg.Pool) -> None:
    """The page sends GET /drops and shows the answer, and sends a reserve as the user that was given to Authorize."""
    user = await make_user(owner)
    drop = await make_drop(http, user, name="To be seen in the page")
    page = await (await visitor.context()).new_page()
    await page.goto("/docs#/drops/listDrops")
    listing = page.locator("#operations-drops-listDrops")
    await listing.get_by_role("button", name="Execute").click()
    answer = listing.locator(".live-responses-table tbody")
    await expect(answer.locator(".response-col_status")).to_have_text("200")
    await expect(answer.locator(".response-col_description")).to_contain_text(drop["id"])

    await page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".dialog-ux")
    await dialog.locator("input").fill(user)
    await dialog.get_by_role("button", name="Apply credentials").click()
    await dialog.get_by_role("button", name="Close").last.click()
    reserving = page.locator("#operations-reservations-reserve")
    await reserving.locator(".opblock-summary-control").click()
    await reserving.get_by_placeholder("dropId").fill(drop["id"])
    await reserving.get_by_role("button", name="Execute").click()
    await expect(reserving.locator(".live-responses-table tbody .response-col_status")).to_have_text("201")
    assert await owner.fetchval("select count(*) from api.my_reservations($1)", user) == 1


@pytest.mark.parametrize("path", ["/docs", *(f"/docs/{name}" for name in FILES)])
async def test_headers(api_url: str, path: str) -> None:
    """Nothing inline and nothing from elsewhere is allowed, except Swagger UI's icons; a browser asks for changes each time."""
    async with httpx.AsyncClient(base_url=api_url) as client:
        response = await client.get(path)
        assert response.status_code == 200
        assert {name: response.headers[name] for name in OTHER_HEADERS} == OTHER_HEADERS
        policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
        assert policy.pop("img-src") == "'self' data:"
        assert {policy.pop(name) for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert policy == dict.fromkeys(["default-src", "base-uri", "form-action", "frame-ancestors"], "'none'")
        again = await client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_nothing_else_is_served(api_url: str) -> None:
    """The licences and the record of Swagger UI are not served, and nothing outside the folder is."""
    async with httpx.AsyncClient(base_url=api_url) as client:
        page = (await client.get("/docs")).text
        loaded = re.findall(r'(?:src|href)="/docs/([^"]*)"', page)
        assert loaded == ["swagger-ui.css", "style.css", "swagger-ui-bundle.js", "main.js"]
        files = ["", "vendor/", "vendor/swagger-ui.css", "VERSION.json", "LICENSE", "oauth2-redirect.html", "..%2fpages.py", "x"]
        for name in files:
            path = f"/docs/{name}"
            response = await client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND"), path
