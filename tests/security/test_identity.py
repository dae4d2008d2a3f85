"""Who is asking: X-User-Id, the users that development makes on first use, and what production leaves out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from prometheus_client import REGISTRY

from lastpair.settings import Settings
from lastpair.web.application import create_app
from tests.support.api import as_user, assert_error, assert_success
from tests.support.database import Database
from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.shapes import Row

NOBODY = str(UUID(int=0))
NEED_A_USER = [
    ("POST", "/drops"),
    ("PATCH", f"/drops/{NOBODY}"),
    ("POST", f"/drops/{NOBODY}/reserve"),
    ("POST", f"/drops/{NOBODY}/purchase"),
    ("GET", "/reservations/me"),
    ("GET", "/purchases/me"),
    ("DELETE", f"/reservations/{NOBODY}"),
    ("DELETE", f"/reservations/{NOBODY}/cancel"),
]
BODIES: dict[str, Row] = {"/drops": {"name": "A", "price": 1, "total_stock": 1}, f"/drops/{NOBODY}": {"name": "B"}}


@pytest.fixture(autouse=True)
async def healthy(owner: asyncpg.Pool) -> AsyncIterator[None]:
    """Every test ends with a clean audit."""
    yield
    await assert_healthy(owner)


@pytest.fixture
async def production(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """The application as production builds it; AUTH_MODE=header, which production refuses, stands in for a verified user."""
    app = create_app(Settings.model_construct(app_env="production", database_url=database.url, expiry_poll_ms=3_600_000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://lastpair.test/api") as client,
    ):
        yield client


async def name_of(owner: asyncpg.Pool, user_id: UUID) -> str | None:
    """The user's name; None when there is no such user."""
    name: str | None = await owner.fetchval("select username from inventory.users where id = $1", user_id)
    return name


@pytest.mark.parametrize(("method", "path"), NEED_A_USER)
@pytest.mark.parametrize(
    "given",
    [None, "", "me", "1", "0190b6c57d3e7abc9def0123456789ab", "{0190b6c5-7d3e-7abc-9def-0123456789ab}", NOBODY + "0"],
    ids=["none", "empty", "word", "number", "bare", "braces", "long"],
)
async def test_without_a_user(http: httpx.AsyncClient, method: str, path: str, given: str | None) -> None:
    """401 AUTH_REQUIRED that says which header is missing or wrong."""
    headers = {} if given is None else {"X-User-Id": given}
    message = assert_error(await http.request(method, path, json=BODIES.get(path), headers=headers), 401, "AUTH_REQUIRED")
    assert "X-User-Id" in message


@pytest.mark.parametrize("path", ["/drops", "/healthz"])
async def test_what_needs_no_user(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """A header that is wrong does no harm where nobody asks for it."""
    url = f"{api_url}{path}" if path == "/healthz" else path
    assert (await http.get(url, headers={"X-User-Id": "me"})).status_code == 200


async def test_a_user_is_made_on_first_use(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """And named by the first eight digits of the id."""
    drop = await make_drop(http, await make_user(owner))
    user_id = uuid4()
    response = await http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user_id))
    assert assert_success(response, "reservation", 201)["user_id"] == str(user_id)
    assert await name_of(owner, user_id) == f"user-{str(user_id)[:8]}"


@pytest.mark.parametrize(("method", "path"), [line for line in NEED_A_USER if line[0] != "PATCH"])
async def test_every_endpoint_makes_the_user(http: httpx.AsyncClient, owner: asyncpg.Pool, method: str, path: str) -> None:
    """No request of a new user is refused for being the first."""
    user_id = uuid4()
    response = await http.request(method, path, json=BODIES.get(path), headers=as_user(user_id))
    assert response.status_code in (200, 201, 404), response.text
    assert await name_of(owner, user_id) is not None


@pytest.mark.parametrize("name", ["Zoë 🎟 Ⅳ", "x" * 200, "'; drop table users; --", "a  b"])
async def test_a_new_user_takes_the_name_given(http: httpx.AsyncClient, owner: asyncpg.Pool, name: str) -> None:
    """X-User-Name in UTF-8, verbatim; the name of a user who is known stays."""
    await owner.execute("update inventory.users set username = id::text where username = $1", name)
    user_id = uuid4()
    for given in (name, "another", "\x85"):
        headers = [(b"X-User-Id", str(user_id).encode()), (b"X-User-Name", given.encode())]
        assert_success(await http.get("/reservations/me", headers=headers), "reservations")
        assert await name_of(owner, user_id) == name


@pytest.mark.parametrize("length", [32, 199, 200])
async def test_a_name_that_is_taken_gets_a_suffix(http: httpx.AsyncClient, owner: asyncpg.Pool, length: int) -> None:
    """The request is served."""
    name = uuid4().hex.ljust(length, "x")
    users = [uuid4(), uuid4(), uuid4()]
    for user_id in users:
        assert_success(await http.get("/purchases/me", headers=as_user(user_id, X_User_Name=name)), "purchases")
    names = [await name_of(owner, user_id) for user_id in users]
    assert names[0] == name
    assert len(set(names)) == 3
    assert all(given is not None and given.startswith(name[:150]) for given in names)


@pytest.mark.parametrize(
    "name",
    [b"", b"x" * 201, b"\xff", b"a\xc2\x85b", b"a\xc2\x9fb", b"\xc2\xa0"],
    ids=["empty", "long", "latin-1", "next-line", "control", "blank"],
)
async def test_names_that_are_none(http: httpx.AsyncClient, owner: asyncpg.Pool, name: bytes) -> None:
    """400 VALIDATION_ERROR naming the header, and no user is made."""
    user_id = uuid4()
    headers = [(b"X-User-Id", str(user_id).encode()), (b"X-User-Name", name)]
    message = assert_error(await http.get("/reservations/me", headers=headers), 400, "VALIDATION_ERROR")
    assert message.startswith("X-User-Name: ")
    assert await name_of(owner, user_id) is None


async def test_a_crowd_of_strangers(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Who come for a drop and were never here are served, and those who bring one name get one each."""
    drop = await make_drop(http, await make_user(owner), total_stock=300)
    name, strangers = uuid4().hex, [uuid4() for _ in range(300)]
    posts = (http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user_id, X_User_Name=name)) for user_id in strangers)
    assert {response.status_code for response in await asyncio.gather(*posts)} == {201}
    assert await owner.fetchval("select count(*) from inventory.users where id = any ($1)", strangers) == 300
    assert await owner.fetchval("select count(*) from inventory.users where username = $1", name) == 1


async def test_users_are_made_together(production: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Not one by one, which would hold up a crowd: each time costs the disk a write."""
    transport = production._transport
    assert isinstance(transport, httpx.ASGITransport)
    app: Any = transport.app
    strangers = [str(uuid4()) for _ in range(300)]
    counted = "lastpair_batch_size_count", {"call": "provision"}
    before = REGISTRY.get_sample_value(*counted) or 0
    await asyncio.gather(*(app.components.batchers.provision.submit(user_id, (user_id, None, 0.0)) for user_id in strangers))
    assert await owner.fetchval("select count(*) from inventory.users where id = any ($1)", strangers) == 300
    assert 300 / 64 <= (REGISTRY.get_sample_value(*counted) or 0) - before <= 6


async def test_a_name_that_somebody_is_about_to_take(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Who brings it waits until that is decided; the others who come at the same time do not."""
    name, waiting, others = uuid4().hex, uuid4(), [uuid4() for _ in range(30)]
    async with owner.acquire() as holder:
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("insert into inventory.users (username) values ($1)", name)
        stuck = [asyncio.create_task(http.get("/purchases/me", headers=as_user(waiting, X_User_Name=name))) for _ in range(3)]
        async with asyncio.timeout(4):  # of the 5 s after which a call that waits for a lock is given up
            answers = await asyncio.gather(*(http.get("/purchases/me", headers=as_user(user_id)) for user_id in others))
        assert {response.status_code for response in answers} == {200}
        assert not any(request.done() for request in stuck)
        await transaction.rollback()
    assert [(await request).status_code for request in stuck] == [200] * 3
    assert await name_of(owner, waiting) == name


async def test_the_first_requests_of_a_user_may_come_at_once(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """One user is made and every request is served."""
    drops = [await make_drop(http, await make_user(owner)) for _ in range(20)]
    headers = as_user(uuid4(), X_User_Name=uuid4().hex)
    responses = await asyncio.gather(*(http.post(f"/drops/{drop['id']}/reserve", headers=headers) for drop in drops))
    assert {response.status_code for response in responses} == {201}
    assert len(assert_success(await http.get("/reservations/me", headers=headers), "reservations")) == 20


@pytest.mark.parametrize("base", ["", "/v1"])
@pytest.mark.parametrize("path", ["/internal/users", "/internal/expire-now"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_production_has_no_internal_endpoints(production: httpx.AsyncClient, method: str, base: str, path: str) -> None:
    """404 NOT_FOUND, whatever the method."""
    assert_error(await production.request(method, base + path), 404, "NOT_FOUND")


async def test_production_makes_no_users(production: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """A user who does not exist is 401, one who does is served."""
    user_id = uuid4()
    for method, path in NEED_A_USER:
        if method != "PATCH":
            response = await production.request(method, path, json=BODIES.get(path), headers=as_user(user_id, X_User_Name="eve"))
            assert_error(response, 401, "AUTH_REQUIRED")
    assert await name_of(owner, user_id) is None
    assert assert_success(await production.get("/purchases/me", headers=as_user(await make_user(owner))), "purchases") == []
