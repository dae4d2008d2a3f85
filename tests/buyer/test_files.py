"""What `/d/{dropId}` and the files of the page are served as: the head for previews, the notices, the policy, the settings."""

import re
from html import unescape
from uuid import uuid4

import httpx
import orjson
import pytest
from playwright.async_api import expect

from lastpair.settings import Settings
from lastpair.web.buyer_page import BUYER_FOLDER, TEMPLATES, buyer_policy
from tests.support.browser import Visitor
from tests.support.buyer_page import open_drop
from tests.support.database import Database
from tests.support.envelopes import as_user
from tests.support.factories import make_drop
from tests.support.in_process import client_of_app, running_app, settings_for
from tests.support.streams import Api

EVIL = """<script>alert(1)</script>"' & <!--"""
FILES = sorted(file.name for file in BUYER_FOLDER.iterdir() if file.name not in TEMPLATES)
OTHER_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}


async def get(api: Api, path: str, **headers: str) -> httpx.Response:
    """The answer to a GET without any identity."""
    async with httpx.AsyncClient(base_url=api.url) as client:
        return await client.get(path, headers=headers)


def tags_of(page: str) -> dict[str, str]:
    """The meta tags of a page, by name or property."""
    return {
        name: unescape(content) for name, content in re.findall(r'<meta (?:name|property)="([^"]+)" content="([^"]*)">', page)
    }


async def test_the_head(api: Api, seller: str) -> None:
    """Whoever shows a link gets name, price, start and picture without scripts, in the decimals of the currency."""
    fields = {"price": 12.5, "currency": "KWD", "total_stock": 1234, "starts_at": "2026-12-01T18:00:00+01:00"}
    drop = await make_drop(api.http, seller, image_url="/shoe.jpg?a=1&b=2", **fields)
    response = await get(api, f"/d/{drop['id'].upper()}")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.headers.get_list("cache-control") == ["no-store"]
    tags = tags_of(response.text)
    assert tags["description"] == tags["og:description"] == "12.500 KWD. A drop of 1,234, from 1 December 2026, 17:00 UTC."
    assert tags["og:title"] == "Air One"
    assert tags["og:url"] == f"{api.url}/d/{drop['id']}"
    assert tags["og:image"] == f"{api.url}/shoe.jpg?a=1&b=2"
    assert tags["twitter:card"] == "summary_large_image"
    [page] = re.findall(r'<body data-page="([^"]*)">', response.text)
    settings = orjson.loads(unescape(page))
    assert settings.keys() == {"authMode", "holdSeconds", "now", "drop"}
    assert settings["drop"]["id"] == drop["id"]
    assert (settings["authMode"], settings["holdSeconds"]) == ("header", 3600)


async def test_the_price_of_sizes(api: Api, seller: str) -> None:
    """The head says what the sizes cost, as the page does."""
    for prices, said in (([20, 20], "20"), ([20, None], "From 10"), ([8, None], "From 8")):
        sizes = [{"name": str(n), "total_stock": 1, "price": price} for n, price in enumerate(prices)]
        drop = await make_drop(api.http, seller, price=10, currency="JPY", total_stock=None, variants=sizes)
        assert tags_of((await get(api, f"/d/{drop['id']}")).text)["description"].startswith(f"{said} JPY. A drop of 2")


async def test_hostile_names(api: Api, seller: str, visitor: Visitor) -> None:
    """A name is text everywhere, in the head as on the page."""
    drop = await make_drop(api.http, seller, name=EVIL, total_stock=1)
    response = await get(api, f"/d/{drop['id']}")
    assert EVIL not in response.text
    assert tags_of(response.text)["og:title"] == EVIL
    assert "og:image" not in response.text
    page = await open_drop(visitor, drop)
    await expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    await expect(page).to_have_title(EVIL)
    assert await page.locator("script:not([src])").count() == 0


@pytest.mark.parametrize("kind", ["unknown", "draft", "no id"])
async def test_no_drop(api: Api, seller: str, kind: str) -> None:
    """A drop that does not exist, a draft, even for its seller, and what is no id: a page with status 404."""
    draft = await make_drop(api.http, seller, status="draft")
    path = {"unknown": f"/d/{uuid4()}", "draft": f"/d/{draft['id']}", "no id": "/d/shoes"}[kind]
    response = await get(api, path, **as_user(seller))
    assert response.status_code == 404
    assert "There is no drop here" in response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_the_database_is_away_or_too_many_ask(database: Database) -> None:
    """Then a page says so, with Retry-After, and the status that the API has."""
    async with (
        running_app(settings_for(database.service_url, rate_limit_reads_per_minute=2)) as app,
        client_of_app(app) as client,
    ):
        statuses = [(await client.get(f"http://localhost/d/{uuid4()}")).status_code for _ in range(3)]
        assert statuses == [404, 404, 429]
    async with running_app(settings_for(database.service_url)) as app, client_of_app(app) as client:
        await app.components.database.close()
        response = await client.get(f"http://localhost/d/{uuid4()}")
        assert response.status_code == 503
        assert "cannot answer right now" in response.text
        assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("name", FILES)
async def test_headers_of_files(api: Api, name: str) -> None:
    """Every file has the policy and is asked for again each time; the templates are not served."""
    response = await get(api, f"/buyer/{name}")
    assert response.status_code == 200
    assert {header: response.headers[header] for header in OTHER_HEADERS} == OTHER_HEADERS
    assert "script-src 'self'; style-src 'self'" in response.headers["content-security-policy"]
    again = await get(api, f"/buyer/{name}", **{"if-none-match": response.headers["etag"]})
    assert again.status_code == 304
    for template in TEMPLATES:
        assert (await get(api, f"/buyer/{template}")).status_code == 404


def test_policy() -> None:
    """Frames are for the origins of FRAME_ANCESTORS, of which there is none by default. Pictures come by https."""
    rules = buyer_policy(Settings.model_construct(app_env="production")).split("; ")
    assert {"frame-ancestors 'none'", "img-src 'self' https:", "default-src 'none'", "script-src 'self'"} < set(rules)
    shops = ["https://shop.example", "https://other.example:8443"]
    rules = buyer_policy(Settings.model_construct(app_env="development", frame_ancestors=shops)).split("; ")
    assert "frame-ancestors https://shop.example https://other.example:8443" in rules
    assert "img-src 'self' https: http://localhost:* http://127.0.0.1:*" in rules
