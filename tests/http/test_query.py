"""Query parameters are as strict as bodies: one that is unknown, or given twice, is a 400 that names it, on every path."""

from uuid import uuid4

import httpx
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from lastpair.settings import Settings
from lastpair.web.openapi import PATH_PARAMETER
from lastpair.web.routes import Endpoint, routes
from tests.support.envelopes import as_user, assert_invalid, assert_success
from tests.support.factories import available_stock
from tests.support.row_checks import Row

SETTINGS = Settings.model_construct()
OPERATIONS = [
    (method, route.path, operation)
    for route in routes(SETTINGS)
    if isinstance(endpoint := getattr(route, "endpoint", None), Endpoint)
    for method, operation in endpoint.operations.items()
]
ID = "0190b6c5-7d3e-7abc-9def-0123456789ab"


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in OPERATIONS])
async def test_an_unknown_parameter(api_url: str, user: str, method: str, path: str) -> None:
    """Every operation refuses it, whatever the rest of the request is, and so does HEAD."""
    url = f"{api_url}{PATH_PARAMETER.sub(ID, path)}"
    async with httpx.AsyncClient() as client:
        assert_invalid(await client.request(method, f"{url}?unknown=1", headers=as_user(user)), "unknown")
        if method == "GET":
            assert (await client.head(f"{url}?unknown=1", headers=as_user(user))).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        (method, path, parameter["name"])
        for method, path, operation in OPERATIONS
        for parameter in operation.parameters
        if parameter["in"] == "query" and parameter["schema"].get("type") != "array"
    ],
)
async def test_a_doubled_parameter(api_url: str, user: str, method: str, path: str, name: str) -> None:
    """A parameter that comes twice is refused, even with the same value, and even if one of the names is percent-encoded."""
    url = f"{api_url}{PATH_PARAMETER.sub(ID, path)}"
    async with httpx.AsyncClient() as client:
        for query in (f"{name}=1&{name}=1", f"{name}=1&%{ord(name[0]):x}{name[1:]}=2", f"{name}&{name}="):
            assert "twice" in assert_invalid(await client.request(method, f"{url}?{query}", headers=as_user(user)), name)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("dropid=1", "dropid"),  # a name counts in its own case
        ("dropId[]=1", "dropId[]"),
        (" dropId=1", " dropId"),
        ("snapshot=false&lastEventId=1&lasteventid=1", "lasteventid"),
        ("=1", "query"),
        ("a", "a"),
        ("%00=1", "\0"),
        ("%FF=1", "�"),
        ("x" * 200, "x" * 100),
        ("snapshot=false;x=1", "snapshot"),  # a semicolon does not separate
    ],
)
async def test_streams(http: httpx.AsyncClient, api_url: str, query: str, name: str) -> None:
    """Both transports of events refuse what they do not know, instead of a stream of all drops."""
    answer = await http.get(f"/events?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(name)
    if query.isprintable() and " " not in query:
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(f"{api_url.replace('http', 'ws')}/api/ws?{query}")
        assert refused.value.response.status_code == 400


@pytest.mark.parametrize("query", ["qty=2", "idempotency_key=k", "user_id=1"])
async def test_a_refused_reserve_holds_nothing(http: httpx.AsyncClient, owner: object, drop: Row, user: str, query: str) -> None:
    """`reserve?qty=2` held one unit when parameters were ignored; now it holds none."""
    answer = await http.post(f"/drops/{drop['id']}/reserve?{query}", headers=as_user(user))
    assert_invalid(answer, query.partition("=")[0])
    assert await available_stock(owner, drop["id"]) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["", "?", "?&", "?&&"])
async def test_an_empty_query(http: httpx.AsyncClient, drop: Row, query: str) -> None:
    """A query without a parameter is no query."""
    assert_success(await http.get(f"/drops/{drop['id']}{query}"), "drop")


async def test_pages_ignore_a_query(api_url: str) -> None:
    """A link to a page may carry parameters that are not for the server."""
    async with httpx.AsyncClient() as client:
        for path in ("/", "/docs"):
            assert (await client.get(f"{api_url}{path}?utm_source={uuid4()}")).status_code == 200
