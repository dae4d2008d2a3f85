"""AUTH_MODE=header: X-User-Id, the users that development makes on first use, and what production leaves out."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from prometheus_client import REGISTRY

from lastpair.shop.shared_calls import MAX_USERS, UserRequest
from lastpair.web.components import Lastpair
from tests.support.database import Database
from tests.support.envelopes import as_user, assert_error, assert_success, at_once
from tests.support.factories import make_drop, make_user, name_of
from tests.support.in_process import client_of_app, running_app, settings_for
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")

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


@pytest.fixture(scope="module")
async def app(database: Database) -> AsyncIterator[Lastpair]:
    """The application as production builds it; AUTH_MODE=header, which production refuses, stands in for a verified user."""
    async with running_app(settings_for(database.url, app_env="production")) as app:
        yield app


@pytest.fixture
async def production(app: Lastpair) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that application."""
    async with client_of_app(app) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), NEED_A_USER)
@pytest.mark.parametrize(
    "given",
    [None, "", "me", "1", "0190b6c57d3e7abc9def0123456789ab", "{0190b6c5-7d3e-7abc-9def-0123456789ab}", NOBODY + "0"],
    ids=["none", "empty", "word", "number", "bare", "braces", "long"],
)
async def test_without_a_user(http: httpx.AsyncClient, method: str, path: str, given: str | None) -> None:
    """A request without a user is 401 AUTH_REQUIRED, which says which header is missing or wrong."""
    headers = {} if given is None else {"X-User-Id": given}
    message = assert_error(await http.request(method, path, json=BODIES.get(path), headers=headers), 401, "AUTH_REQUIRED")
    assert "X-User-Id" in message


@pytest.mark.parametrize("path", ["/drops", "/healthz"])
async def test_what_needs_no_user(http: httpx.AsyncClient, api_url: str, path: str) -> None:
    """A wrong X-User-Id does no harm to a request that needs no user."""
    url = f"{api_url}{path}" if path == "/healthz" else path
    assert (await http.get(url, headers={"X-User-Id": "me"})).status_code == 200


@pytest.mark.parametrize(("method", "path"), [line for line in NEED_A_USER if line[0] != "PATCH"])
async def test_every_endpoint_makes_the_user(http: httpx.AsyncClient, owner: asyncpg.Pool, method: str, path: str) -> None:
    """A new user's first request is served; the user is named by the first eight digits of the id."""
    user_id = uuid4()
    response = await http.request(method, path, json=BODIES.get(path), headers=as_user(user_id))
    assert response.status_code in (200, 201, 404), response.text
    assert await name_of(owner, user_id) == f"user-{str(user_id)[:8]}"


@pytest.mark.parametrize("name", ["Zoë 🎟 Ⅳ", "x" * 200, "'; drop table users; --", "a  b"])
async def test_a_new_user_takes_the_name_given(http: httpx.AsyncClient, owner: asyncpg.Pool, name: str) -> None:
    """A new user gets the name in X-User-Name, in UTF-8 and verbatim; a known user keeps the name."""
    await owner.execute("update inventory.users set username = id::text where username = $1", name)
    user_id = uuid4()
    for given in (name, "another", "\x85"):
        headers = [(b"X-User-Id", str(user_id).encode()), (b"X-User-Name", given.encode())]
        assert_success(await http.get("/reservations/me", headers=headers), "reservations")
        assert await name_of(owner, user_id) == name


@pytest.mark.parametrize("length", [32, 199, 200])
async def test_a_name_that_is_taken_gets_a_suffix(http: httpx.AsyncClient, owner: asyncpg.Pool, length: int) -> None:
    """A new user whose name is taken gets it with a suffix, and is served."""
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
async def test_bad_names(http: httpx.AsyncClient, owner: asyncpg.Pool, name: bytes) -> None:
    """An unacceptable X-User-Name is 400 VALIDATION_ERROR naming the header, and no user is made."""
    user_id = uuid4()
    headers = [(b"X-User-Id", str(user_id).encode()), (b"X-User-Name", name)]
    message = assert_error(await http.get("/reservations/me", headers=headers), 400, "VALIDATION_ERROR")
    assert message.startswith("X-User-Name: ")
    assert await name_of(owner, user_id) is None


@pytest.mark.slow
async def test_a_crowd_of_new_users(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Hundreds of new users who come for a drop at once are served; of those who bring the same name, one gets it."""
    drop = await make_drop(http, await make_user(owner), total_stock=300)
    name, crowd = uuid4().hex, [uuid4() for _ in range(300)]
    posts = (http.post(f"/drops/{drop['id']}/reserve", headers=as_user(user_id, X_User_Name=name)) for user_id in crowd)
    assert {response.status_code for response in await at_once(posts)} == {201}
    assert await owner.fetchval("select count(*) from inventory.users where id = any ($1)", crowd) == 300
    assert await owner.fetchval("select count(*) from inventory.users where username = $1", name) == 1


async def test_new_users_are_made_together(app: Lastpair, owner: asyncpg.Pool) -> None:
    """Users who are made at once share calls, because a call for each would cost the disk as many writes."""
    crowd = [str(uuid4()) for _ in range(300)]
    counted = "lastpair_batch_size_count", {"call": "provision"}
    before = REGISTRY.get_sample_value(*counted) or 0
    batcher = app.components.shop._batches.whole.ensure_user
    await asyncio.gather(*(batcher.submit(user_id, UserRequest(user_id, None)) for user_id in crowd))
    assert await owner.fetchval("select count(*) from inventory.users where id = any ($1)", crowd) == 300
    assert 300 / MAX_USERS <= (REGISTRY.get_sample_value(*counted) or 0) - before <= 12


async def test_a_name_that_is_about_to_be_taken(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """A user who brings a name that another transaction is taking waits for it; other users do not wait."""
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
    """The first requests of a new user may come at once: one user is made, and every request is served."""
    drops = [await make_drop(http, await make_user(owner)) for _ in range(20)]
    headers = as_user(uuid4(), X_User_Name=uuid4().hex)
    responses = await asyncio.gather(*(http.post(f"/drops/{drop['id']}/reserve", headers=headers) for drop in drops))
    assert {response.status_code for response in responses} == {201}
    assert len(assert_success(await http.get("/reservations/me", headers=headers), "reservations")) == 20


async def test_production_makes_no_users(production: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """In production a user who does not exist is 401 and is not made; one who does is served."""
    user_id = uuid4()
    for method, path in NEED_A_USER:
        if method != "PATCH":
            response = await production.request(method, path, json=BODIES.get(path), headers=as_user(user_id, X_User_Name="eve"))
            assert_error(response, 401, "AUTH_REQUIRED")
    assert await name_of(owner, user_id) is None
    assert assert_success(await production.get("/purchases/me", headers=as_user(await make_user(owner))), "purchases") == []
