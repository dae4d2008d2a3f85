"""The page /docs: it shows every operation and tries one out, and loads files of this server only."""

import gzip
import re
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, expect

from lastpair.web.pages import SWAGGER_UI_FOLDER
from tests.support.browser import Visitor, chromium, visiting
from tests.support.factories import make_drop, make_user

pytestmark = pytest.mark.slow

TAGS = ["drops", "reservations", "baskets", "purchases", "payments", "providers", "users", "realtime", "webhooks", "operations"]
TAGS.append("development")
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
            await block.locator(f".opblock-summary-{name}, .opblock-summary-{name}__deprecated").text_content() or ""
            for name in ("method", "path", "description")
        ]
        shown.add(tuple(word.replace("\u200b", "") for word in words))
    assert shown == {
        (method.upper(), path, operation["summary"])
        for path, operations in (document["paths"] | document["webhooks"]).items()
        for method, operation in operations.items()
        if method != "parameters"
    }
    assert await page.locator(".opblock-deprecated").count() == 1
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_light_and_dark(visitor: Visitor, scheme: Literal["light", "dark"]) -> None:
    """The page has the scheme of the visitor and follows a change of it, its own parts and those of Swagger UI."""
    page = await (await visitor.context(color_scheme=scheme)).new_page()
    await page.goto("/docs")
    other: Literal["light", "dark"] = "light" if scheme == "dark" else "dark"
    for wanted in (scheme, other):
        await page.emulate_media(color_scheme=wanted)
        for part, of_text in (("body", False), (".info .title", True), (".info p", True), (".top a", True)):
            name = "color" if of_text else "background-color"
            await expect(page.locator(part).first).to_be_visible()
            await page.wait_for_function(
                """([part, name, light]) => {
                  const colour = getComputedStyle(document.querySelector(part)).getPropertyValue(name);
                  return colour.match(/[0-9]+/g).slice(0, 3).every((value) => (value > 128) === light);
                }""",
                arg=[part, name, (wanted == "dark") == of_text],
            )


async def test_the_way_back(visitor: Visitor) -> None:
    """A link leads to the dashboard."""
    page = await (await visitor.context()).new_page()
    await page.goto("/docs")
    await page.get_by_role("link", name="Dashboard").click()
    await expect(page).to_have_url(f"{visitor.url}/")


async def test_streams_are_not_executed(visitor: Visitor) -> None:
    """What never ends has no button to execute it, and other operations have one."""
    page = await (await visitor.context()).new_page()
    await page.goto("/docs")
    for name, buttons in (("realtime-streamEvents", 0), ("realtime-openWebsocket", 0), ("operations-getHealth", 1)):
        block = page.locator(f"#operations-{name}")
        await block.locator(".opblock-summary-control").click()
        await expect(block.locator(".responses-wrapper")).to_be_visible()
        await expect(block.get_by_role("button", name="Execute")).to_have_count(buttons)


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
async def test_what_is_large_is_compressed(api_url: str, name: str) -> None:
    """A client that accepts gzip gets less than half a megabyte, which is the file; others, and parts, are sent as they are."""
    plain = (SWAGGER_UI_FOLDER / name).read_bytes()
    async with httpx.AsyncClient(base_url=api_url) as client:
        taken = ["gzip", "br, GZIP;q=0.8", "gzip ; q=0.001", "gzip;q=1.0, br;q=0"]
        refused = ["br", "", "x-gzip-x", "gzip;q=0", "gzip; Q = 0.000", "br, gzip;q=0.0"]
        for accepted, coding in [*((each, "gzip") for each in taken), *((each, None) for each in refused)]:
            async with client.stream("GET", f"/docs/{name}", headers={"Accept-Encoding": accepted}) as response:
                sent = b"".join([piece async for piece in response.aiter_raw()])
            assert response.headers.get("content-encoding") == coding, accepted
            assert response.headers["vary"] == "Accept-Encoding"
            assert response.headers["content-length"] == str(len(sent))
            assert len(sent) < 500_000 or coding is None
            assert (gzip.decompress(sent) if coding else sent) == plain
        part = await client.get(f"/docs/{name}", headers={"Accept-Encoding": "gzip", "Range": "bytes=0-9"})
        assert (part.status_code, part.content) == (206, plain[:10])
        whole = await client.get(f"/docs/{name}", headers={"Range": "lines=1-2"})
        assert (whole.status_code, whole.content) == (200, plain), "a unit of ranges that is not known is ignored"
        head = await client.head(f"/docs/{name}", headers={"Accept-Encoding": "gzip"})
        assert (head.headers["content-encoding"], head.content) == ("gzip", b"")


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
