"""The files of the dashboard, how they are sent, and the page in production."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from playwright.async_api import expect
from starlette.applications import Starlette

from lastpair.settings import Settings
from lastpair.web.pages import DASHBOARD_FOLDER, page_routes
from tests.support.browser import Visitor
from tests.support.dashboard import expect_stock, open_drop, without_worker
from tests.support.factories import make_drop, make_user, reserve
from tests.support.streams import Api
from tests.support.waiting import eventually

OTHER_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}
UNUSED_FILTERS = ["Scheduled", "Paused", "Sold out", "Over"]
FILES = sorted(path.name for path in DASHBOARD_FOLDER.iterdir())


@pytest.mark.parametrize("path", ["/", f"/drops/{UUID(int=0)}", *(f"/dashboard/{name}" for name in [*FILES, "settings.json"])])
async def test_headers(service: Api, path: str) -> None:
    """The policy of every file forbids other origins and inline code, and browsers revalidate a file each time."""
    async with httpx.AsyncClient(base_url=service.url) as client:
        response = await client.get(path)
        assert response.status_code == 200
        headers = {name: response.headers.get_list(name) for name in OTHER_HEADERS}
        assert headers == {name: [value] for name, value in OTHER_HEADERS.items()}
        [policy] = [value.split("; ") for value in response.headers.get_list("content-security-policy")]
        assert policy[0] == "default-src 'none'"
        assert {source for rule in policy for source in rule.split()[1:]} == {"'none'", "'self'"}
        assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} < set(policy)
        script = "text/javascript" if response.headers["content-type"].startswith("text/") else "application/javascript"
        types = {"html": "text/html", "js": script, "css": "text/css", "svg": "image/svg+xml", "json": "application/json"}
        ending = path.rpartition(".")[2] if path.startswith("/dashboard") else "html"
        assert response.headers["content-type"].partition(";")[0] == types[ending]
        if "etag" in response.headers:
            again = await client.get(path, headers={"If-None-Match": response.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["content-security-policy"] == response.headers["content-security-policy"]


@pytest.mark.slow
async def test_what_the_page_requests(api: Api, visitor: Visitor) -> None:
    """The page loads each of its own files once but that for payments, one of the buyer's page, the client, and nothing else."""
    context = await visitor.context()
    await without_worker(context)
    await visitor.open(context)
    await eventually(lambda: f"{api.url}/api/watchers" in visitor.requests)
    paths = [urlsplit(url).path for url in visitor.requests]
    files = [f"/dashboard/{name}" for name in FILES if name.endswith((".js", ".css")) and name != "money.js"]
    others = [
        "/",
        "/api/activity",
        "/api/events",
        "/buyer/identity.js",
        "/dashboard/settings.json",
        "/lastpair.js",
    ]
    asked_once = sorted(path for path in paths if path != "/api/watchers" and not path.endswith("icon.svg"))
    assert asked_once == sorted([*others, *files])


@pytest.mark.slow
async def test_production(api: Api, visitor: Visitor) -> None:
    """In production there are no tools and no buttons to buy or change, and events are shown all the same."""
    now = datetime.now(UTC).isoformat()
    context = await visitor.context()
    await without_worker(context)
    await context.route("**/dashboard/settings.json", lambda route: route.fulfill(json={"development": False, "now": now}))
    page = await visitor.open(context)
    await expect(page.get_by_text("As soon as one is created it shows here")).to_be_visible()
    seller = await make_user(api.owner)
    drop_id = (await make_drop(api.http, seller))["id"]
    await reserve(api.http, drop_id, seller)
    await expect_stock(page, drop_id, 4, 1, 0)
    await expect(page.get_by_role("main").get_by_role("button")).to_have_text(["All 1", "Live 1", *UNUSED_FILTERS])
    await open_drop(page, drop_id)
    await expect(page.get_by_role("main").get_by_role("button")).to_have_count(0)
    await expect(page.get_by_role("tab")).to_have_count(0)
    assert {urlsplit(url).path for url in visitor.requests if "/api/" in url} == {"/api/events", "/api/activity", "/api/watchers"}


@pytest.mark.parametrize(("environment", "auth_mode"), [("development", "header"), ("development", "jwt"), ("production", "jwt")])
async def test_settings_of_the_page(environment: Any, auth_mode: Any) -> None:
    """The page learns whether it may show the development tools, how sellers sign in, and the server's time."""
    settings_of_service = Settings.model_construct(app_env=environment, auth_mode=auth_mode, jwt_name_claim="name")
    app = Starlette(routes=page_routes(settings_of_service))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        settings = (await client.get("/dashboard/settings.json")).json()
    assert settings["development"] == (auth_mode == "header")
    assert (settings["authMode"], settings["nameClaim"]) == (auth_mode, "name")
    assert abs(datetime.fromisoformat(settings["now"]) - datetime.now(UTC)) < timedelta(seconds=5)
