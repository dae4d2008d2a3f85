"""Conditional requests for a drop: its ETag, If-Match on PATCH and If-None-Match on GET."""

import asyncio
import re
from typing import Any

import asyncpg
import httpx
import pytest

from lastpair.web.conditions import IF_MATCH
from tests.support.envelopes import SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import make_drop, make_due, purchase, reserve
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")

ETAG = re.compile(r'"[1-9][0-9]*-[0-9a-f]{16}"')


async def etag_of(http: httpx.AsyncClient, drop: Row) -> str:
    """The drop's ETag now."""
    etag: str = (await http.get(f"/drops/{drop['id']}")).headers["etag"]
    return etag


@pytest.fixture
def patch(http: httpx.AsyncClient, seller: str, drop: Row) -> Any:
    """PATCH of the drop with If-Match; returns the answer."""

    async def send(changes: Row, *if_match: str) -> httpx.Response:
        headers = [*as_user(seller).items(), *(("If-Match", tag) for tag in if_match)]
        return await http.patch(f"/drops/{drop['id']}", json=changes, headers=headers)

    return send


async def test_answers_have_the_same_etag(http: httpx.AsyncClient, seller: str, drop: Row) -> None:
    """What POST, PATCH, GET and HEAD say of one version of a drop is one strong ETag; a PATCH makes another."""
    made = await http.post("/drops", json={"name": "a", "price": 1, "total_stock": 1}, headers=as_user(seller))
    path = f"/drops/{assert_success(made, 'drop', 201)['id']}"
    assert ETAG.fullmatch(made.headers["etag"])
    read = await http.get(path, headers=as_user(seller))
    assert read.headers["etag"] == made.headers["etag"]
    assert (await http.head(path, headers=as_user(seller))).headers["etag"] == made.headers["etag"]
    changed = await http.patch(path, json={"price": 2}, headers=as_user(seller))
    assert ETAG.fullmatch(changed.headers["etag"])
    assert changed.headers["etag"] != made.headers["etag"]
    assert (await http.get(path, headers=as_user(seller))).headers["etag"] == changed.headers["etag"]
    assert "etag" not in (await http.get("/drops")).headers


async def test_two_sellers(http: httpx.AsyncClient, drop: Row, patch: Any) -> None:
    """The second of two changes that were meant for one version is refused, and changes nothing."""
    etag = await etag_of(http, drop)
    assert_success(await patch({"price": 10}, etag), "drop")
    assert_error(await patch({"price": 20}, etag), 412, "DROP_CHANGED")
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop")["price"] == 10
    assert_success(await patch({"price": 20}, await etag_of(http, drop)), "drop")


async def test_sellers_at_once(http: httpx.AsyncClient, drop: Row, patch: Any) -> None:
    """Of many changes for one version one is made."""
    etag = await etag_of(http, drop)
    answers = await asyncio.gather(*[patch({"price": price}, etag) for price in range(1, 11)])
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9


async def test_a_sale_is_not_in_the_way(
    http: httpx.AsyncClient, owner: asyncpg.Pool, drop: Row, user: str, seller: str, patch: Any
) -> None:
    """Reserving, buying, cancelling and running out change the drop that is read, but not what a seller's change is meant for."""
    etag = await etag_of(http, drop)
    await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    held = await reserve(http, drop["id"], user)
    await http.delete(f"/reservations/{held['id']}", headers=as_user(user))
    due = await reserve(http, drop["id"], seller)
    await make_due(owner, due["id"])
    assert_success(await http.post("/internal/expire-now"), "expired")
    assert await etag_of(http, drop) != etag
    assert_success(await patch({"name": "Air Two"}, etag), "drop")


async def test_the_clock_is_not_in_the_way(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> None:
    """A drop whose time has come is live before the sweep notes it and after it, so the sweep is no change."""
    drop = await make_drop(http, seller, starts_at=SOON)
    path = f"/drops/{drop['id']}"
    await owner.execute("update inventory.drops set starts_at = now() - interval '1 second' where id = $1", drop["id"])
    etag = await etag_of(http, drop)
    await owner.execute("select from api.advance_drops()")
    assert_success(await http.patch(path, json={"price": 1}, headers=as_user(seller, if_match=etag)), "drop")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Air Two"},
        {"price": 1},
        {"total_stock": 9},
        {"add_stock": 1},
        {"paused": True},
        {"limit_per_user": 2},
        {"hold_seconds": 5},
        {"rehold_after_seconds": 5},
        {"extension_seconds": 5},
        {"image_url": "/shoe.jpg"},
        {"ends_at": SOON},
        {"status": "ended"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_every_change_of_a_seller_counts(http: httpx.AsyncClient, drop: Row, patch: Any, changes: Row) -> None:
    """After a change of any field, the version before it is an old one."""
    etag = await etag_of(http, drop)
    assert_success(await patch(changes), "drop")
    assert_error(await patch({"name": "Air Three"}, etag), 412, "DROP_CHANGED")


async def test_a_change_of_a_variant_counts(http: httpx.AsyncClient, seller: str) -> None:
    """So it is with the name, the stock, the price and the order of variants."""
    sizes = [{"name": "41", "total_stock": 1}, {"name": "42", "total_stock": 2}]
    drop = await make_drop(http, seller, total_stock=None, variants=sizes)
    path, etag = f"/drops/{drop['id']}", await etag_of(http, drop)
    ids = [{"id": variant["id"]} for variant in drop["variants"]]
    for variants in ([ids[1], ids[0]], [ids[0], ids[1] | {"name": "43"}], [ids[0] | {"price": 1}, ids[1]]):
        changed = await http.patch(path, json={"variants": variants}, headers=as_user(seller, if_match=etag))
        assert_success(changed, "drop")
        refused = await http.patch(path, json={"price": 5}, headers=as_user(seller, if_match=etag))
        assert_error(refused, 412, "DROP_CHANGED")
        etag = changed.headers["etag"]


async def test_lists_of_etags(http: httpx.AsyncClient, drop: Row, patch: Any) -> None:
    """`*` is any version; of a list, in one header or in several, one must be right. A weak one never is (RFC 9110)."""
    assert_success(await patch({"price": 1}, "*"), "drop")
    old, other = await etag_of(http, drop), '"of,another"'
    assert_success(await patch({"price": 2}, f"{other} , {old},"), "drop")
    assert_success(await patch({"price": 3}, other, old, await etag_of(http, drop)), "drop")
    now = await etag_of(http, drop)
    for tags in ([old], [other], ['""'], [other, old], [f"W/{now}", other], ['"999999999-0123456789abcdef"']):
        assert_error(await patch({"price": 4}, *tags), 412, "DROP_CHANGED")
    assert "weak" in assert_invalid(await patch({"price": 4}, f"W/{now}"), "If-Match")


@pytest.mark.parametrize(
    ("tags", "is_good"), [("*", True), ('"a"', True), ('W/"a", "b", W/"c"', True), ('W/"a"', False), ('W/"a", W/"b"', False)]
)
async def test_the_contract_knows_weak_etags(patch: Any, tags: str, is_good: bool) -> None:
    """The pattern of If-Match fits what is read as a condition, and no list that has weak ETags alone."""
    assert (re.search(IF_MATCH["schema"]["pattern"], tags) is not None) == is_good
    assert ((await patch({"price": 1}, tags)).status_code != 400) == is_good


@pytest.mark.parametrize("value", ["", "3", "'3'", '"3', '3"', '"3" "4"', '*, "3"', 'w/"3"', '"3"x', ","])
async def test_a_bad_if_match(patch: Any, value: str) -> None:
    """A condition that cannot be read is not taken for one that holds."""
    assert_invalid(await patch({"price": 1}, value), "If-Match")


async def test_if_match_comes_after_the_other_checks(http: httpx.AsyncClient, drop: Row, seller: str, patch: Any) -> None:
    """A drop that does not exist and a body that no drop can have are told first."""
    absent = f"/drops/{drop['created_by']}"
    assert_error(await http.patch(absent, json={"price": 1}, headers=as_user(seller, if_match='"x"')), 404, "DROP_NOT_FOUND")
    assert_invalid(await patch({"price": -1}, '"x"'), "price")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_not_modified(http: httpx.AsyncClient, drop: Row, user: str, method: str) -> None:
    """304 without a body while nothing has changed, and the drop again after a sale."""
    path, etag = f"/drops/{drop['id']}", await etag_of(http, drop)
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = await http.request(method, path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in answer.headers
        assert (answer.headers["cache-control"], bool(answer.headers["x-request-id"])) == ("no-store", True)
    await reserve(http, drop["id"], user)
    for known in (etag, '"x"', "x", ""):
        assert (await http.request(method, path, headers={"If-None-Match": known})).status_code == 200
    absent = await http.request(method, f"/drops/{user}", headers={"If-None-Match": "*"})
    assert absent.status_code == 404
