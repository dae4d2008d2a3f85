"""Random requests: the answer is always an envelope, and never a 5xx."""

import json
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.database import Database, running_api
from tests.support.envelopes import assert_envelope
from tests.support.factories import assert_healthy, make_drop, make_user, reserve

pytestmark = pytest.mark.slow

FUZZED = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])

DROP, RESERVATION, USER = "{drop}", "{reservation}", "{user}"  # stand for ids that exist
GOOD_DROP = {"name": "Air", "price": 1, "total_stock": 3}
ENDPOINTS = [
    *[("POST", "/drops"), ("GET", "/drops"), ("GET", "/drops/{}"), ("PATCH", "/drops/{}"), ("PATCH", "/drops/{}")],
    *[("POST", "/drops/{}/reserve"), ("POST", "/drops/{}/purchase"), ("GET", "/reservations/me"), ("GET", "/purchases/me")],
    *[("DELETE", "/reservations/{}"), ("DELETE", "/reservations/{}/cancel"), ("POST", "/internal/users")],
    *[("POST", "/internal/expire-now"), ("GET", "/{}"), ("POST", "/{}"), ("PUT", "/drops/{}"), ("OPTIONS", "/drops")],
]
WRITES = [("POST", "/api/drops", GOOD_DROP), ("PATCH", "/api/drops/{drop}", {}), ("POST", "/api/internal/users", {})]

text = st.text(max_size=20) | st.text("\x00\x9f\ud800\U0001f45fab ", max_size=4)
scalars = st.one_of(
    *[st.none(), st.booleans(), st.integers(-(10**12), 10**12), st.integers(-(10**40), 10**40), st.floats()],
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
    text,
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(["draft", "scheduled", "live", "ended", "cancelled", "2026-01-01T00:00:00+24:00", "9" * 400]),
)
anything = st.recursive(scalars, lambda some: st.lists(some, max_size=3) | st.dictionaries(text, some, max_size=3), max_leaves=8)
# These are right except for a field or two, so that the rules behind the first one are met as well.
likely = st.dictionaries(st.sampled_from([*GOOD_DROP, "starts_at", "ends_at", "status", "colour"]), scalars, max_size=2)


def to_json(value: object) -> bytes:
    """The value as JSON, with surrogates escaped, sometimes with NaN in it, and with decimals as numbers."""
    return json.dumps(value, default=lambda decimal: float(str(decimal))).encode()


good_json = (likely.map(lambda fields: GOOD_DROP | fields) | anything).map(to_json)
bodies = st.one_of(
    st.just(b""),
    good_json,
    good_json,
    good_json.flatmap(lambda content: st.integers(0, len(content)).map(lambda end: content[:end])),
    st.binary(max_size=60),
    st.from_regex(rb'\{"price": ?-?[0-9]{1,3}(\.[0-9]{1,3})?[eE][+-]?[0-9]{1,25}\}', fullmatch=True),
)
header_bytes = st.lists(st.integers(0x21, 0x7E) | st.integers(0x80, 0xFF), max_size=30).map(bytes)
ids = st.one_of(
    st.sampled_from([DROP, RESERVATION, USER]),
    st.uuids().map(str),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(lambda piece: quote(piece, safe="")),
    st.binary(max_size=10).map(lambda piece: quote(piece, safe="")),
)
targets = st.builds(
    lambda base, endpoint, some_id: (endpoint[0], base + endpoint[1].format(some_id)),
    st.sampled_from(["/api", "/api/v1"]),
    st.sampled_from(ENDPOINTS),
    ids,
)
headers = st.fixed_dictionaries(
    {
        "Content-Type": st.sampled_from([b"application/json"] * 5 + [b"application/json; charset=utf-8", b"text/plain"]),
        "X-User-Id": st.sampled_from([USER.encode()] * 4) | st.uuids().map(lambda user_id: str(user_id).encode()) | header_bytes,
    },
    optional={
        "X-User-Name": header_bytes,
        "Idempotency-Key": header_bytes,
        "X-Request-Id": header_bytes,
        "Origin": header_bytes,
        "Accept": header_bytes,
        "X-HTTP-Method-Override": st.just(b"DELETE"),
    },
)


@pytest.fixture(scope="module")
async def ids_that_exist(http: httpx.AsyncClient, owner: asyncpg.Pool) -> AsyncIterator[dict[str, str]]:
    """Ids for the placeholders. All must end with a clean audit."""
    user = await make_user(owner)
    drop = await make_drop(http, user, total_stock=1000)
    reservation = await reserve(http, drop["id"], user)
    yield {DROP: drop["id"], RESERVATION: reservation["id"], USER: user}
    await assert_healthy(owner)


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[httpx.Client]:
    """A client of a server of its own, which may fail often while hypothesis looks for the simplest failing request."""
    with (
        running_api(database.url, EXPIRY_POLL_MS="3600000", CORS_ORIGINS="*") as url,  # the guard refuses writes of other origins
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def assert_answered(response: httpx.Response) -> None:
    """The answer is an envelope, of a success or of a 4xx."""
    body = assert_envelope(response)
    if response.status_code in (200, 201):
        assert (body["success"], list(body)) == (True, ["success", "data", "meta"])
    else:
        assert 400 <= response.status_code <= 415, (response.status_code, response.text)
        assert (body["success"], list(body), list(body["error"])) == (False, ["success", "error", "meta"], ["code", "message"])


@FUZZED
@given(write=st.sampled_from(WRITES), fields=likely, username=scalars)
def test_strange_fields(
    client: httpx.Client,
    ids_that_exist: dict[str, str],
    write: tuple[str, str, dict[str, object]],
    fields: dict[str, object],
    username: object,
) -> None:
    """A body that is wrong in one place only is answered, too."""
    method, path, good = write
    content = to_json({"username": username} if path.endswith("users") else good | fields)
    sent = {"X-User-Id": ids_that_exist[USER], "Content-Type": "application/json"}
    assert_answered(client.request(method, path.replace(DROP, ids_that_exist[DROP]), content=content, headers=sent))


@FUZZED
@given(target=targets, content=bodies, given_headers=headers)
def test_strange_requests(
    client: httpx.Client,
    ids_that_exist: dict[str, str],
    target: tuple[str, str],
    content: bytes,
    given_headers: dict[str, bytes],
) -> None:
    """A request with a strange path, body and headers is answered."""
    method, path = target
    for name, real in ids_that_exist.items():
        path = path.replace(name, real)
    user_id = given_headers["X-User-Id"].replace(USER.encode(), ids_that_exist[USER].encode())
    sent = [(name.encode(), value) for name, value in (given_headers | {"X-User-Id": user_id}).items()]
    url = client.base_url.copy_with(raw_path=path.encode())
    assert_answered(client.request(method, url, content=content or None, headers=sent))
