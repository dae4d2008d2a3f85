"""Paths, methods, request ids and cross-origin requests."""

import string
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import httpx
import pytest

from tests.support.api import assert_envelope, assert_error, assert_success
from tests.support.database import Database, running_api

ANY = str(UUID(int=0))
METHODS = {
    "/drops": {"GET", "HEAD", "POST"},
    f"/drops/{ANY}": {"GET", "HEAD", "PATCH"},
    f"/drops/{ANY}/reserve": {"POST"},
    f"/drops/{ANY}/purchase": {"POST"},
    "/reservations/me": {"GET", "HEAD"},
    f"/reservations/{ANY}": {"DELETE"},
    f"/reservations/{ANY}/cancel": {"DELETE"},
    "/purchases/me": {"GET", "HEAD"},
    "/internal/users": {"POST"},
    "/internal/expire-now": {"POST"},
}
ALL_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}
SHOP = "https://shop.example"


@pytest.mark.parametrize("base", ["", "/v1"], ids=["api", "api-v1"])
@pytest.mark.parametrize("path", METHODS)
async def test_methods(http: httpx.AsyncClient, base: str, path: str) -> None:
    """405 METHOD_NOT_ALLOWED lists in Allow every method the path has; those are not 405."""
    refused = ALL_METHODS - METHODS[path]
    if path == "/reservations/me":
        refused.remove("DELETE")  # DELETE /reservations/{id} where the id is not one
    for method in refused:
        response = await http.request(method, base + path)
        assert set(response.headers["allow"].split(", ")) == METHODS[path]
        if method == "HEAD":
            assert (response.status_code, response.text) == (405, "")
        else:
            assert method in assert_error(response, 405, "METHOD_NOT_ALLOWED")
    for method in METHODS[path]:
        assert (await http.request(method, base + path)).status_code != 405


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_methods_at_the_root(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """The same for the probes."""
    for method in ALL_METHODS - {"GET", "HEAD"}:
        response = await http.request(method, api_url + path)
        assert_error(response, 405, "METHOD_NOT_ALLOWED")
        assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path", ["/api/drops", "/api/v1/drops", f"/api/drops/{ANY}", "/api/reservations/me", "/healthz", "/readyz"]
)
async def test_head(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """What GET says, without the body."""
    headers = {"X-Request-Id": "same", "X-User-Id": str(uuid4())}
    seen = await http.get(api_url + path, headers=headers)
    head = await http.head(api_url + path, headers=headers)
    assert (head.status_code, head.content) == (seen.status_code, b"")
    assert dict(head.headers, date="") == dict(seen.headers, date="")
    assert int(head.headers["content-length"]) == len(seen.content)


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/drop",
        "/api/drops/",
        f"/api/drops/{ANY}/",
        f"/api/drops/{ANY}/reserve/",
        f"/api/drops/{ANY}/refund",
        "/api/drops//reserve",
        "/api/v1",
        "/api/v1/drops/",
        "/api/v2/drops",
        "/api/v1/v1/drops",
        "/api/reservations",
        "/api/reservations/me/",
        f"/api/reservations/{ANY}/cancel/",
        "/api/internal",
        "/api/internal/users/",
        "/API/drops",
        "/drops",
        "/healthz/",
        "/favicon.ico",
        "//api/drops",
        "/api/%2e%2e/healthz",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_unknown_paths(http: httpx.AsyncClient, api_url: str, path: str, method: str) -> None:
    """404 NOT_FOUND in the envelope; a slash too many is not redirected."""
    url = httpx.URL(api_url).copy_with(raw_path=path.encode())
    assert_error(await http.request(method, url), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "query", ["?x=1", "?", "?a=%00&b=%ff", "?limit=-1&limit=2", "?" + "q" * 8_000, "?'; drop table users; --"]
)
async def test_query_strings_are_ignored(http: httpx.AsyncClient, query: str) -> None:
    """No endpoint takes one."""
    assert_success(await http.get(f"/drops{query}"), "drops")


@pytest.mark.parametrize("given", ["a", "A.b_c-9", string.ascii_letters, "x" * 128, str(UUID(int=1))])
@pytest.mark.parametrize(("path", "status"), [("/drops", 200), ("/nothing", 404), ("/reservations/me", 401)])
async def test_a_sane_request_id_is_echoed(http: httpx.AsyncClient, given: str, path: str, status: int) -> None:
    """In the header and in the envelope, of refusals too."""
    response = await http.get(path, headers={"X-Request-Id": given})
    assert response.status_code == status
    assert assert_envelope(response)["meta"] == {"requestId": given}


@pytest.mark.parametrize(
    "given",
    [None, b"", b"x" * 129, b"x" * 20_000, b"a b", b"a/b", b"a,b", b"\xc3\xa9", b"\xff", b"a\tb", b'"', b"<script>"],
    ids=["none", "empty", "129", "20000", "space", "slash", "comma", "utf-8", "latin-1", "tab", "quote", "script"],
)
async def test_an_insane_request_id_is_replaced(http: httpx.AsyncClient, given: bytes | None) -> None:
    """By a new one each time."""
    headers = [] if given is None else [(b"X-Request-Id", given)]
    ids = set()
    for _ in range(2):
        request_id = assert_envelope(await http.get("/nothing", headers=headers))["meta"]["requestId"]
        assert 1 <= len(request_id) <= 128
        assert set(request_id) <= set(string.ascii_letters + string.digits + "._-")
        ids.add(request_id)
    assert len(ids) == 2


@pytest.fixture(scope="module", params=[f"{SHOP}, http://localhost:3000", "*"], ids=["two-origins", "any-origin"])
def cors(database: Database, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """An API for browsers elsewhere: its URL and its CORS_ORIGINS."""
    with running_api(database.url, EXPIRY_POLL_MS="3600000", CORS_ORIGINS=request.param) as url:
        yield url, request.param


@pytest.fixture
async def browser(cors: tuple[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that API."""
    async with httpx.AsyncClient(base_url=f"{cors[0]}/api") as client:
        yield client


@pytest.mark.parametrize(("path", "status"), [("/drops", 200), ("/nothing", 404), ("/reservations/me", 401), ("/drops/x", 400)])
async def test_an_origin_that_is_allowed(browser: httpx.AsyncClient, cors: tuple[str, str], path: str, status: int) -> None:
    """May read the answer, refusals too, and the headers that belong to it."""
    response = await browser.get(path, headers={"Origin": SHOP})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ("*" if cors[1] == "*" else SHOP)
    exposed = set(response.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"X-Request-Id", "Idempotency-Replayed", "Retry-After"}
    assert "access-control-allow-credentials" not in response.headers
    assert cors[1] == "*" or response.headers["vary"] == "Origin"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_a_preflight(browser: httpx.AsyncClient, method: str) -> None:
    """Allows every method and header that the API knows."""
    wanted = "content-type, idempotency-key, x-request-id, x-user-id, x-user-name"
    headers = {"Origin": SHOP, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
    response = await browser.options("/drops", headers=headers)
    assert response.status_code == 200
    assert method in response.headers["access-control-allow-methods"].split(", ")
    assert set(wanted.split(", ")) <= set(response.headers["access-control-allow-headers"].lower().split(", "))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{SHOP}.evil.example", "http://shop.example", f"{SHOP}:444"])
async def test_an_origin_that_is_not_allowed(browser: httpx.AsyncClient, cors: tuple[str, str], origin: str) -> None:
    """Is not told that it may read the answer, unless all are."""
    answers = [
        await browser.get("/drops", headers={"Origin": origin}),
        await browser.options("/drops", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
    ]
    for response in answers:
        assert response.headers.get("access-control-allow-origin") == ("*" if cors[1] == "*" else None)


async def test_no_cors_unless_configured(http: httpx.AsyncClient) -> None:
    """Without CORS_ORIGINS there is no such header."""
    response = await http.get("/drops", headers={"Origin": SHOP})
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = await http.options("/drops", headers={"Origin": SHOP, "Access-Control-Request-Method": "POST"})
    assert_error(preflight, 405, "METHOD_NOT_ALLOWED")
