"""Every POST honours Idempotency-Key: a repeated request is carried out once, and a key of another request is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.envelopes import LONG_AGO, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import make_drop, purchase, reserve
from tests.support.row_checks import Row

NEW_DROP: Row = {"name": "Air One", "price": 199.9, "total_stock": 5, "starts_at": LONG_AGO}
Post = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def post_drop(http: httpx.AsyncClient, seller: str) -> Post:
    """POST /drops with this key; other fields and another seller on request."""

    async def post(key: str, user: str = seller, **fields: object) -> httpx.Response:
        return await http.post("/drops", json=NEW_DROP | fields, headers=as_user(user, idempotency_key=key))

    return post


async def count_of_drops(owner: asyncpg.Pool, name: str) -> int:
    """How many drops have this name."""
    count: int = await owner.fetchval("select count(*) from inventory.drops where name = $1", name)
    return count


async def test_a_repeated_drop_is_made_once(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, post_drop: Post) -> None:
    """The second answer is 200 and says that it is a replay; it has the drop as it is now."""
    key, name = uuid4().hex, uuid4().hex
    first = await post_drop(key, name=name)
    made = assert_success(first, "drop", 201)
    assert "idempotency-replayed" not in first.headers
    await http.patch(f"/drops/{made['id']}", json={"price": 1}, headers=as_user(seller))
    again = await post_drop(key, name=name)
    assert (again.headers["idempotency-replayed"], assert_success(again, "drop")["id"]) == ("true", made["id"])
    assert again.json()["data"]["drop"]["price"] == 1
    assert await count_of_drops(owner, name) == 1


async def test_equal_requests_may_be_written_differently(http: httpx.AsyncClient, seller: str, post_drop: Post) -> None:
    """The order of the fields, the zeros of a price and the offset of a time do not make another request."""
    key = uuid4().hex
    made = assert_success(await post_drop(key, starts_at="2020-01-01T00:00:00Z"), "drop", 201)
    body = '{"starts_at": "2020-01-01T02:00:00+02:00", "total_stock": 5, "price": 199.900, "name": "Air One"}'
    headers = as_user(seller, idempotency_key=key) | {"content-type": "application/json"}
    assert assert_success(await http.post("/drops", content=body, headers=headers), "drop")["id"] == made["id"]


async def test_many_at_once_make_one_drop(owner: asyncpg.Pool, post_drop: Post) -> None:
    """Requests with one key that arrive together wait for the first: one 201, and the rest are replays of it."""
    key, name = uuid4().hex, uuid4().hex
    answers = await asyncio.gather(*[post_drop(key, name=name) for _ in range(20)])
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["data"]["drop"]["id"] for answer in answers}) == 1
    assert [answer.status_code for answer in answers if "idempotency-replayed" not in answer.headers] == [201]
    assert await count_of_drops(owner, name) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"price": 200},
        {"total_stock": 6},
        {"limit_per_user": 1},
        {"starts_at": None},
        {"status": "draft"},
        {"currency": "EUR"},
        {"ends_at": "2999-01-01T00:00:00Z"},
        {"total_stock": None, "variants": [{"name": "42", "total_stock": 5}]},
    ],
)
async def test_a_key_of_another_drop_is_refused(post_drop: Post, change: Row) -> None:
    """The key came with other values, and it keeps its meaning after that."""
    key = uuid4().hex
    made = assert_success(await post_drop(key), "drop", 201)
    assert_error(await post_drop(key, **change), 422, "IDEMPOTENCY_KEY_REUSED")
    assert assert_success(await post_drop(key), "drop")["id"] == made["id"]


async def test_a_key_is_its_sellers(post_drop: Post, user: str) -> None:
    """Another seller may use the same key for another drop."""
    key = uuid4().hex
    made = assert_success(await post_drop(key), "drop", 201)
    assert assert_success(await post_drop(key, user, price=1), "drop", 201)["id"] != made["id"]


async def test_a_refused_request_leaves_its_key_free(post_drop: Post) -> None:
    """Nothing was made, so the corrected request may use the key."""
    key = uuid4().hex
    assert_invalid(await post_drop(key, currency="JPY"), "price")
    assert_success(await post_drop(key), "drop", 201)


async def test_the_drop_of_a_key_was_deleted(owner: asyncpg.Pool, post_drop: Post) -> None:
    """A late retry does not bring a deleted drop back."""
    key = uuid4().hex
    made = assert_success(await post_drop(key), "drop", 201)
    await owner.execute("delete from inventory.drops where id = $1", made["id"])
    assert_error(await post_drop(key), 404, "DROP_NOT_FOUND")


async def test_a_repeated_user_is_made_once(http: httpx.AsyncClient) -> None:
    """The retry gets the user that the first request made, and not USERNAME_TAKEN; another name with the key is refused."""
    name, headers = uuid4().hex, {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*[http.post("/internal/users", json={"username": name}, headers=headers) for _ in range(10)])
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["data"]["user"]["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers if answer.status_code == 200] == ["true"] * 9
    other = await http.post("/internal/users", json={"username": name + "x"}, headers=headers)
    assert_error(other, 422, "IDEMPOTENCY_KEY_REUSED")
    without = await http.post("/internal/users", json={"username": name})
    assert_error(without, 409, "USERNAME_TAKEN")


@pytest.mark.parametrize("name", ["extend", "basket", "refund", "cancel"])
async def test_what_is_done_once(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str, name: str) -> None:
    """A request that makes no row is carried out once, too; a retry says so; the key of another request is refused."""
    drops = [await make_drop(http, seller, extension_seconds=30) for _ in range(2)]
    caller = user if name in ("extend", "basket") else seller
    paths = [await path_of(http, name, drop, user) for drop in drops]
    key = as_user(caller, idempotency_key=uuid4().hex)
    first, again = [await http.post(paths[0], headers=key) for _ in range(2)]
    assert (first.is_success, "idempotency-replayed" in first.headers) == (True, False)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json()["data"] == first.json()["data"]
    assert_error(await http.post(paths[1], headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    assert (await http.post(paths[1], headers=as_user(caller, idempotency_key=uuid4().hex))).is_success
    assert await owner.fetch("select * from api.audit()") == []


async def path_of(http: httpx.AsyncClient, name: str, drop: Row, user: str) -> str:
    """Where to post to extend a hold of the drop, to buy a basket, to refund a sale, or to cancel the drop."""
    if name == "cancel":
        return f"/drops/{drop['id']}/cancel"
    if name == "basket":
        answer = await http.post("/baskets", json={"items": [{"drop_id": drop["id"]}]}, headers=as_user(user))
        return f"/baskets/{assert_success(answer, 'basket', 201)['id']}/purchase"
    held = await reserve(http, drop["id"], user)
    if name == "extend":
        return f"/reservations/{held['id']}/extend"
    return f"/purchases/{(await purchase(http, drop['id'], user))['id']}/refund"


async def test_expire_now_takes_a_key(http: httpx.AsyncClient) -> None:
    """It is harmless to repeat, so a key is checked and changes nothing."""
    for _ in range(2):
        assert_success(await http.post("/internal/expire-now", headers={"Idempotency-Key": "again"}), "expired")


@pytest.mark.parametrize(
    "path",
    [
        *["/drops", "/drops/{drop}/reserve", "/drops/{drop}/purchase", "/drops/{drop}/cancel", "/internal/users"],
        *["/baskets", "/baskets/{drop}/purchase", "/reservations/{drop}/extend", "/purchases/{drop}/refund"],
        "/internal/expire-now",
    ],
)
@pytest.mark.parametrize(
    "keys", [["one", "two"], ["one", "one"], [""], ["a b"], ["a\tb"], ["é"], ["k" * 256]], ids=lambda keys: ascii(keys)[:20]
)
async def test_a_bad_key(http: httpx.AsyncClient, seller: str, drop: Row, path: str, keys: list[str]) -> None:
    """Two keys, even equal ones, or one that is not visible ASCII: 400 that names the header, and nothing is made."""
    items = {"items": [{"drop_id": drop["id"]}]}
    body = {"/drops": NEW_DROP, "/internal/users": {"username": uuid4().hex}, "/baskets": items}.get(path)
    headers = [*as_user(seller).items(), *(("Idempotency-Key", key.encode()) for key in keys)]
    response = await http.post(path.format(drop=drop["id"]), json=body, headers=headers)  # type: ignore[arg-type]
    assert_invalid(response, "Idempotency-Key")
