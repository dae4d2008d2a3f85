"""Paths, methods, request ids and cross-origin requests."""

import re
import string
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest

from lastpair.settings import Settings
from tests.support.database import Database
from tests.support.envelopes import assert_envelope, assert_error
from tests.support.in_process import client_of_app, running_app

ANY = str(UUID(int=0))
METHODS = {
    "/api/drops": {"GET", "HEAD", "POST"},
    f"/api/drops/{ANY}": {"GET", "HEAD", "PATCH"},
    f"/api/drops/{ANY}/reserve": {"POST"},
    f"/api/drops/{ANY}/purchase": {"POST"},
    "/api/reservations/me": {"GET", "HEAD"},
    f"/api/drops/{ANY}/cancel": {"POST"},
    f"/api/drops/{ANY}/history": {"GET", "HEAD"},
    f"/api/drops/{ANY}/reservations": {"GET", "HEAD"},
    f"/api/drops/{ANY}/purchases": {"GET", "HEAD"},
    f"/api/reservations/{ANY}": {"GET", "HEAD", "DELETE"},
    f"/api/reservations/{ANY}/cancel": {"DELETE"},
    f"/api/reservations/{ANY}/extend": {"POST"},
    f"/api/reservations/{ANY}/history": {"GET", "HEAD"},
    "/api/baskets": {"POST"},
    f"/api/baskets/{ANY}": {"GET", "HEAD", "DELETE"},
    f"/api/baskets/{ANY}/purchase": {"POST"},
    "/api/purchases/me": {"GET", "HEAD"},
    f"/api/purchases/{ANY}": {"GET", "HEAD"},
    f"/api/purchases/{ANY}/refund": {"POST"},
    f"/api/drops/{ANY}/payments": {"GET", "HEAD"},
    f"/api/drops/{ANY}/money": {"GET", "HEAD"},
    f"/api/drops/{ANY}/provider-calls": {"GET", "HEAD"},
    f"/api/provider-calls/{ANY}/retry": {"POST"},
    "/api/payments/problems": {"GET", "HEAD"},
    f"/api/payments/{ANY}": {"GET", "HEAD", "DELETE"},
    "/api/webhooks/stripe": {"POST"},
    "/api/webhook-endpoints": {"GET", "HEAD", "POST"},
    f"/api/webhook-endpoints/{ANY}": {"GET", "HEAD", "PATCH", "DELETE"},
    f"/api/webhook-endpoints/{ANY}/deliveries": {"GET", "HEAD"},
    f"/api/webhook-endpoints/{ANY}/rotate-secret": {"POST"},
    f"/api/webhook-endpoints/{ANY}/test": {"POST"},
    f"/api/webhook-deliveries/{ANY}/replay": {"POST"},
    "/api/webhooks/payments": {"POST"},
    "/api/users/me": {"DELETE"},
    "/api/activity": {"GET", "HEAD"},
    "/api/watchers": {"GET", "HEAD"},
    "/api/stream-tickets": {"POST"},
    "/api/events": {"GET", "HEAD"},
    "/api/openapi.json": {"GET", "HEAD"},
    "/api/internal/users": {"POST"},
    "/api/internal/expire-now": {"POST"},
    "/api/internal/rush": {"GET", "HEAD", "POST"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
}
METHODS |= {path.replace("/api/", "/api/v1/"): methods for path, methods in METHODS.items()}
ALL_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
SHOP = "https://shop.example"


@pytest.mark.parametrize("path", METHODS)
async def test_methods(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """405 METHOD_NOT_ALLOWED lists in Allow every method that the path has; those are not 405."""
    refused = ALL_METHODS - METHODS[path]
    if path.endswith(("/reservations/me", "/payments/problems")):
        refused.remove("DELETE")  # this is DELETE /reservations/{id}, and "me" is no id
    for method in refused:
        response = await http.request(method, api_url + path)
        assert set(response.headers["allow"].split(", ")) == METHODS[path]
        if method == "HEAD":
            assert (response.status_code, response.text) == (405, "")
        else:
            assert method in assert_error(response, 405, "METHOD_NOT_ALLOWED")
    for method in METHODS[path]:
        async with http.stream(method, api_url + path) as response:
            assert response.status_code in (200, 201, 400, 401, 404)


async def test_the_contract_has_the_same_methods(http: httpx.AsyncClient) -> None:
    """The contract lists these paths and methods, and besides the WebSocket's; HEAD goes without saying."""
    told = {
        path.replace("{dropId}", ANY).replace("{id}", ANY): {method.upper() for method in item} - {"PARAMETERS"}
        for base in ("", "/v1")
        for path, item in (await http.get(f"{base}/openapi.json")).json()["paths"].items()
        if not path.endswith("/ws")
    }
    assert told == {path: methods - {"HEAD"} for path, methods in METHODS.items()}


@pytest.mark.parametrize(
    "path", ["/api/drops", "/api/v1/drops", f"/api/drops/{ANY}", "/api/reservations/me", "/healthz", "/readyz"]
)
async def test_head(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """HEAD answers what GET does, without the body."""
    headers = {"X-Request-Id": "same", "X-User-Id": str(uuid4())}
    seen = await http.get(api_url + path, headers=headers)
    head = await http.head(api_url + path, headers=headers)
    assert (head.status_code, head.content) == (seen.status_code, b"")
    assert dict(head.headers, date="") == dict(seen.headers, date="")
    assert int(head.headers["content-length"]) == len(seen.content)


@pytest.mark.parametrize("path", [*METHODS, "/api/ws", "/", f"/drops/{ANY}", "/docs", "/lastpair.js", "/dashboard/settings.json"])
async def test_a_line_break_behind_a_path(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """It makes another path, which is not there, so that a rule of a proxy for the path itself cannot be passed with it.

    Where an id may be, it makes something that is no id.
    """
    url = httpx.URL(api_url).copy_with(raw_path=f"{path}%0A".encode())
    for method in METHODS.get(path, {"GET"}) - {"HEAD"}:
        response = await http.request(method, url)
        if response.status_code == 400:
            assert "must be a UUID" in assert_error(response, 400, "VALIDATION_ERROR")
        else:
            assert_error(response, 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path",
    [
        *["/api", "/api/", "/api/drop", "/api/drops/", f"/api/drops/{ANY}/", f"/api/drops/{ANY}/reserve/", "/api/drops//reserve"],
        *[f"/api/drops/{ANY}/refund", "/api/v1", "/api/v1/drops/", "/api/v2/drops", "/api/v1/v1/drops", "/api/reservations"],
        *["/api/reservations/me/", f"/api/reservations/{ANY}/cancel/", "/api/internal", "/api/internal/users/", "/API/drops"],
        *["/api/reservations/", "/api/v1/reservations/", f"/api/baskets{ANY}", f"/api/baskets/{ANY}/{ANY}"],
        *["/drops", "/healthz/", "/favicon.ico", "//api/drops", "/api/%2e%2e/healthz"],
    ],
)
async def test_unknown_paths(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """An unknown path is 404 NOT_FOUND in the envelope; a slash too many is not redirected."""
    url = httpx.URL(api_url).copy_with(raw_path=path.encode())
    for method in ("GET", "POST", "DELETE"):
        assert_error(await http.request(method, url), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "near"),
    [
        *[("/api/drops/", "/api/drops?"), ("/drops", "/api/drops?"), ("/api/drop", "/api/drops?"), ("/API/drops", "/api/drops?")],
        *[("/v1/drops", "/api/v1/drops?"), ("/api/v2/drops", "/api/v1/drops?"), ("/api/v1/drops/", "/api/v1/drops?")],
        *[("/events", "/api/events?"), ("/ws", "/api/ws?"), ("/openapi.json", "/api/openapi.json?"), ("/api/docs", " /docs?")],
        *[("/api/healthz", " /healthz?"), ("/health", " /healthz?"), ("/docs/", " /docs?")],
        (f"/drops/{ANY}/", "/api/drops/{dropId}?"),
        (f"/drop/{ANY}/reserve", "/api/drops/{dropId}/reserve?"),
        ("/api/reservations", "Near it: /api/reservations/me, "),
        ("/api/purchase", "Near it: /api/purchases/me, "),
        *[(path, "/docs shows all paths") for path in ["/api", "/api/", "/api/v1", "/v1", "/favicon.ico", "/" + "x/" * 200]],
    ],
)
async def test_a_path_that_is_nearly_right(http: httpx.AsyncClient, api_url: str, path: str, near: str) -> None:
    """The message of a 404 says which path is near, and repeats nothing that the client sent."""
    message = assert_error(await http.get(api_url + path), 404, "NOT_FOUND")
    assert message.startswith("There is nothing at this path. ")
    assert near in message
    assert ANY not in message


async def test_every_hint_leads_somewhere(http: httpx.AsyncClient, api_url: str) -> None:
    """With a slash too many, without the base and in the other case, each path of the API leads to itself."""
    paths = [path for path in (await http.get("/openapi.json")).json()["paths"] if path.startswith("/api/")]
    for path in paths:
        asked = path.replace("{dropId}", ANY).replace("{id}", ANY)
        for wrong in {f"{asked}/", asked.removeprefix("/api"), asked.upper()} - {f"/drops/{ANY}"}:  # that is a page
            assert f" Did you mean {path}?" in assert_error(await http.get(api_url + wrong), 404, "NOT_FOUND")


@pytest.mark.parametrize("headers", [{}, {"Upgrade": "h2c", "Connection": "Upgrade"}], ids=["none", "h2c"])
@pytest.mark.parametrize("base", ["", "/v1"])
async def test_a_websocket_without_a_handshake(http: httpx.AsyncClient, base: str, headers: dict[str, str]) -> None:
    """It is 426 with the Upgrade that is wanted, and the message says what to do. Other methods are 405."""
    response = await http.get(f"{base}/ws", headers=headers)
    message = assert_error(response, 426, "UPGRADE_REQUIRED")
    assert (response.headers["upgrade"], response.headers["connection"]) == ("websocket", "upgrade")
    assert "WebSocket client" in message
    assert "/api/events" in message
    assert (await http.head(f"{base}/ws")).status_code == 426
    refused = await http.post(f"{base}/ws")
    assert_error(refused, 405, "METHOD_NOT_ALLOWED")
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize("given", ["a", "A.b_c-9", string.ascii_letters, "x" * 128, str(UUID(int=1))])
@pytest.mark.parametrize(("path", "status"), [("/drops", 200), ("/nothing", 404), ("/reservations/me", 401)])
async def test_a_good_request_id_is_echoed(http: httpx.AsyncClient, given: str, path: str, status: int) -> None:
    """An acceptable X-Request-Id comes back in the header and in the envelope, of refusals too."""
    response = await http.get(path, headers={"X-Request-Id": given})
    assert response.status_code == status
    assert assert_envelope(response)["meta"]["requestId"] == given


@pytest.mark.parametrize(
    "given",
    [None, b"", b"x" * 129, b"x" * 20_000, b"a b", b"a/b", b"a,b", b"\xc3\xa9", b"\xff", b"a\tb", b'"', b"<script>"],
    ids=lambda given: f"{len(given or b'')} {given!r:.9}",
)
async def test_a_bad_request_id_is_replaced(http: httpx.AsyncClient, given: bytes | None) -> None:
    """An unacceptable X-Request-Id, or none, is replaced by a new one each time."""
    headers = [] if given is None else [(b"X-Request-Id", given)]
    ids = [assert_envelope(await http.get("/nothing", headers=headers))["meta"]["requestId"] for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", request_id) for request_id in ids)


# Cross-origin requests


@pytest.fixture(scope="module", params=[f"{SHOP}, http://localhost:3000", "*"], ids=["two-origins", "any-origin"])
def origins(request: pytest.FixtureRequest) -> str:
    """CORS_ORIGINS."""
    given: str = request.param
    return given


@pytest.fixture(scope="module")
async def browser(database: Database, origins: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API with these CORS_ORIGINS."""
    settings = Settings(database_url=database.url, expiry_poll_ms=3_600_000, cors_origins=origins)  # type: ignore[arg-type]
    async with running_app(settings) as app, client_of_app(app) as client:
        yield client


@pytest.mark.parametrize(("path", "status"), [("/drops", 200), ("/nothing", 404), ("/reservations/me", 401), ("/drops/x", 400)])
async def test_an_origin_that_is_allowed(browser: httpx.AsyncClient, origins: str, path: str, status: int) -> None:
    """A page of an allowed origin may read the answer, refusals too, and the headers that belong to it."""
    response = await browser.get(path, headers={"Origin": SHOP})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ("*" if origins == "*" else SHOP)
    exposed = set(response.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"X-Request-Id", "Idempotency-Replayed", "Retry-After"}
    assert "access-control-allow-credentials" not in response.headers
    assert origins == "*" or response.headers["vary"] == "Origin"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_preflight(browser: httpx.AsyncClient, method: str) -> None:
    """A preflight allows every method and header that the API knows, and any that a library for streams or tracing adds."""
    wanted = "authorization, content-type, idempotency-key, last-event-id, x-request-id, x-user-id, x-user-name"
    wanted += ", cache-control, pragma, x-requested-with, baggage, traceparent, tracestate, b3, x-b3-traceid, sentry-trace"
    wanted += ", uber-trace-id, uberctx-anything, x-datadog-trace-id, x-datadog-anything, x-cloud-trace-context, newrelic"
    headers = {"Origin": SHOP, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
    response = await browser.options("/drops", headers=headers)
    assert response.status_code == 200
    assert method in response.headers["access-control-allow-methods"].split(", ")
    assert set(wanted.split(", ")) <= set(response.headers["access-control-allow-headers"].lower().split(", "))
    assert int(response.headers["access-control-max-age"]) >= 600
    assert "Origin" in response.headers["vary"].split(", ")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{SHOP}.evil.example", "http://shop.example", f"{SHOP}:444"])
async def test_an_origin_that_is_not_allowed(browser: httpx.AsyncClient, origins: str, origin: str) -> None:
    """A page of another origin may not read the answer, unless every page may."""
    answers = [
        await browser.get("/drops", headers={"Origin": origin}),
        await browser.options("/drops", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
    ]
    for response in answers:
        assert response.headers.get("access-control-allow-origin") == ("*" if origins == "*" else None)


async def test_no_cors_unless_configured(http: httpx.AsyncClient) -> None:
    """Without CORS_ORIGINS no answer has a header of cross-origin requests."""
    response = await http.get("/drops", headers={"Origin": SHOP})
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = await http.options("/drops", headers={"Origin": SHOP, "Access-Control-Request-Method": "POST"})
    assert_error(preflight, 405, "METHOD_NOT_ALLOWED")
