"""A seller refunds sales, cancels a drop with all its sales, and every such change is in the drop's history."""

from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from tests.support.envelopes import as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import available_stock, hold, make_drop, make_due, make_user, make_users, purchase, reserve
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")

SELL = """
select count(*) from api.purchase_batch(array(
  select row($1, u.id, null, null)::api.purchase_request from unnest($2::uuid[]) as u (id)))
"""
HISTORY = "select action, changed_by::text, details from inventory.drop_changes where drop_id = $1 order by id"


async def sell(owner: asyncpg.Pool, drop_id: str, users: list[str]) -> None:
    """A purchase for each of these users."""
    await hold(owner, drop_id, users)
    assert await owner.fetchval(SELL, drop_id, users) == len(users)


async def test_a_drop_near_another(http: httpx.AsyncClient, seller: str, drop: Row) -> None:
    """The other drop must exist, and the new one says nothing of it."""
    near = await make_drop(http, seller, near=drop["id"])
    assert near.keys() == drop.keys()
    body = {"name": "Air", "price": 1, "total_stock": 1, "near": str(uuid4())}
    assert_error(await http.post("/drops", json=body, headers=as_user(seller)), 404, "DROP_NOT_FOUND")
    assert_invalid(await http.post("/drops", json=body | {"near": "Air"}, headers=as_user(seller)), "near")
    await make_drop(http, seller, near=None)


async def test_a_refund(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str, drop: Row) -> None:
    """A purchase is refunded once, all of it; its units go back."""
    await http.post(f"/drops/{drop['id']}/reserve", json={"qty": 2}, headers=as_user(user))
    bought = await purchase(http, drop["id"], user)
    refunded = assert_success(await http.post(f"/purchases/{bought['id']}/refund", headers=as_user(seller)), "purchase")
    assert (refunded["status"], refunded["refunded_amount"]) == ("refunded", bought["amount"])
    assert refunded["refunded_at"] == refunded["updatedAt"]
    assert await available_stock(owner, drop["id"]) == 5
    for _ in range(2):
        again = await http.post(f"/purchases/{bought['id']}/refund", headers=as_user(seller))
        assert_error(again, 409, "INVALID_STATUS_CHANGE")
    assert await available_stock(owner, drop["id"]) == 5
    assert_error(await http.post(f"/purchases/{uuid4()}/refund", headers=as_user(seller)), 404, "PURCHASE_NOT_FOUND")
    assert_error(await http.post(f"/purchases/{bought['id']}/refund"), 401, "AUTH_REQUIRED")


async def test_cancel_with_refunds(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> None:
    """Every hold ends and every sale is refunded, in several calls; to repeat it changes nothing."""
    drop_id = (await make_drop(http, seller, total_stock=2000))["id"]
    users = await make_users(owner, 600)  # more than api.cancel_drop refunds in one call
    await sell(owner, drop_id, users)
    await hold(owner, drop_id, users[:50])
    for _ in range(2):
        answer = await http.post(f"/drops/{drop_id}/cancel", json={"refund": True}, headers=as_user(seller))
        cancelled = assert_success(answer, "drop")
        assert (cancelled["status"], cancelled["available_stock"]) == ("cancelled", 2000)
    statuses = await owner.fetch("select status, count(*) from inventory.purchases where drop_id = $1 group by 1", UUID(drop_id))
    assert [tuple(row) for row in statuses] == [("refunded", len(users))]
    actions = [(row["action"], row["changed_by"]) for row in await owner.fetch(HISTORY, UUID(drop_id))]
    assert actions == [("created", seller), ("cancelled", seller), ("refunded", seller), ("refunded", seller)]


async def test_the_rest_is_refunded_after_a_crash(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> None:
    """A process that dies between two calls leaves a cancelled drop, some of whose sales are refunded; a repeat goes on."""
    drop_id = (await make_drop(http, seller, total_stock=10))["id"]
    await sell(owner, drop_id, await make_users(owner, 10))
    await http.post(f"/drops/{drop_id}/cancel", headers=as_user(seller))
    assert tuple(await owner.fetchrow("select * from api.refund_drop($1, 4)", UUID(drop_id))) == (4, 6)
    assert (await http.post(f"/drops/{drop_id}/cancel", json={"refund": True}, headers=as_user(seller))).status_code == 200
    assert await available_stock(owner, drop_id) == 10
    assert tuple(await owner.fetchrow("select * from api.refund_drop($1)", UUID(drop_id))) == (0, 0)


async def test_cancel_without_refunds(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str, drop: Row) -> None:
    """Without `refund` sales stay paid; the body is strict."""
    await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    for body in ({"refund": 1}, {"refund": "true"}, {"refund": None}):
        assert_invalid(await http.post(f"/drops/{drop['id']}/cancel", json=body, headers=as_user(seller)), "refund")
    for body in ({"refund": False}, None):
        answer = await http.post(f"/drops/{drop['id']}/cancel", json=body, headers=as_user(seller))
        assert assert_success(answer, "drop")["status"] == "cancelled"
    assert await available_stock(owner, drop["id"]) == 4
    assert_error(await http.post(f"/drops/{uuid4()}/cancel", headers=as_user(seller)), 404, "DROP_NOT_FOUND")
    assert_error(await http.post(f"/drops/{drop['id']}/cancel"), 401, "AUTH_REQUIRED")


async def test_a_drop_that_is_over(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str, drop: Row) -> None:
    """It cannot be cancelled any more. With `refund` its sales are refunded, and it stays over."""
    await reserve(http, drop["id"], user)
    await purchase(http, drop["id"], user)
    await http.patch(f"/drops/{drop['id']}", json={"status": "ended"}, headers=as_user(seller))
    path = f"/drops/{drop['id']}/cancel"
    assert_error(await http.post(path, headers=as_user(seller)), 409, "INVALID_STATUS_CHANGE")
    answer = await http.post(path, json={"refund": True}, headers=as_user(seller))
    assert assert_success(answer, "drop")["status"] == "ended"
    assert await available_stock(owner, drop["id"]) == 5


@pytest.mark.parametrize("swept", [False, True], ids=["before the sweep", "after the sweep"])
async def test_the_holds_of_a_drop_that_is_over(
    http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, drop: Row, *, swept: bool
) -> None:
    """The history tells how many units were held when they were released; one that had run out was not, swept or not."""
    users = await make_users(owner, 2)
    due, held = [await reserve(http, drop["id"], buyer, {"qty": qty}) for buyer, qty in zip(users, (1, 2), strict=True)]
    await http.patch(f"/drops/{drop['id']}", json={"status": "ended"}, headers=as_user(seller))
    await make_due(owner, due["id"])
    if swept:
        await http.post("/internal/expire-now")
    await http.post(f"/drops/{drop['id']}/cancel", json={"refund": True}, headers=as_user(seller))
    newest = assert_success(await http.get(f"/drops/{drop['id']}/history", headers=as_user(seller)), "history")[0]
    assert newest["details"] == {"held_stock": {"from": 2, "to": 0}}
    statuses = []
    for buyer, row in zip(users, (due, held), strict=True):
        found = await http.get(f"/reservations/{row['id']}", headers=as_user(buyer))
        statuses.append(assert_success(found, "reservation")["status"])
    assert statuses == ["EXPIRED", "CANCELLED"]
    assert await available_stock(owner, drop["id"]) == 5


async def test_ones_own(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str, drop: Row) -> None:
    """A user reads the user's own hold and purchase, and so does the seller of the drop; to others they do not exist."""
    held = await reserve(http, drop["id"], user)
    other = as_user(await make_user(owner))
    path = f"/reservations/{held['id']}"
    for reader in (user, seller):
        assert assert_success(await http.get(path, headers=as_user(reader)), "reservation") == held
    bought = await purchase(http, drop["id"], user)
    for reader in (user, seller):
        assert assert_success(await http.get(f"/purchases/{bought['id']}", headers=as_user(reader)), "purchase") == bought
        assert assert_success(await http.get(path, headers=as_user(reader)), "reservation")["status"] == "CONSUMED"
    for kind, row in (("reservation", held), ("purchase", bought)):
        there, nowhere = [
            assert_error(await http.get(f"/{kind}s/{given}", headers=other), 404, f"{kind.upper()}_NOT_FOUND")
            for given in (row["id"], uuid4())
        ]
        assert there == nowhere
        assert_error(await http.get(f"/{kind}s/{row['id']}"), 401, "AUTH_REQUIRED")
        assert_invalid(await http.get(f"/{kind}s/x", headers=other), "id")
    assert_error(await http.get(f"{path}/history", headers=other), 404, "RESERVATION_NOT_FOUND")


async def test_the_history_of_a_hold(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> None:
    """What became of a hold, and who did it, for each way that it can end."""
    drop_id = (await make_drop(http, seller))["id"]
    users = await make_users(owner, 4)
    held = [await reserve(http, drop_id, buyer) for buyer in users]
    await purchase(http, drop_id, users[0])
    await http.delete(f"/reservations/{held[1]['id']}", headers=as_user(users[1]))
    await make_due(owner, held[2]["id"])
    await http.post(f"/drops/{drop_id}/cancel", json={"refund": True}, headers=as_user(seller))
    told = []
    for buyer, row in zip(users, held, strict=True):
        history = assert_success(await http.get(f"/reservations/{row['id']}/history", headers=as_user(buyer)), "history")
        names = {buyer: "buyer", seller: "seller", None: None}
        told.append([(entry["action"], names[entry["user_id"]]) for entry in history if entry["action"] != "reserved"])
    assert told[0] == [("purchased", "buyer"), ("refunded", "seller")]
    assert told[1] == [("cancelled", "buyer")]
    assert told[3] == [("cancelled", "seller")]
    assert len(told[2]) == 1


async def test_the_history_of_a_drop(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str, drop: Row) -> None:
    """The newest change first, with what was before, in pages; a change in psql has its role."""
    await http.patch(f"/drops/{drop['id']}", json={"price": 5}, headers=as_user(seller))
    await owner.fetch("""select from api.update_drop($1, '{"name": "By hand"}')""", UUID(drop["id"]))
    headers, path = as_user(seller), f"/drops/{drop['id']}/history"
    rows = assert_success(await http.get(path, headers=headers), "history")
    assert [(row["action"], row["user_id"]) for row in rows] == [("updated", None), ("updated", seller), ("created", seller)]
    assert rows[0]["details"] == {"name": {"from": "Air One", "to": "By hand"}}
    assert rows[0]["db_user"] not in ("", "lastpair_service")
    assert rows[1]["db_user"] == "lastpair_service"
    first = (await http.get(path, params={"limit": 2}, headers=headers)).json()
    rest = await http.get(path, params={"limit": 2, "cursor": first["meta"]["nextCursor"]}, headers=headers)
    assert [row["action"] for row in assert_success(rest, "history")] == ["created"]
    assert_error(await http.get(f"/drops/{uuid4()}/history", headers=headers), 404, "DROP_NOT_FOUND")
    assert_error(await http.get(path), 401, "AUTH_REQUIRED")
    assert_invalid(await http.get(path, params={"cursor": "x"}, headers=headers), "cursor")


async def test_the_seller_of_a_change_is_noted(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, drop: Row) -> None:
    """A change is noted with the user who made it, a new user included. What changes nothing is not noted."""
    other, new = await make_user(owner), str(uuid4())
    for who, body in ((other, {"price": 5}), (new, {"paused": True}), (other, {"price": 5})):
        answer = await http.patch(f"/drops/{drop['id']}", json=body, headers=as_user(who))
        assert_success(answer, "drop")
    rows = [(row["action"], row["changed_by"]) for row in await owner.fetch(HISTORY, UUID(drop["id"]))]
    assert rows == [("created", seller), ("updated", other), ("updated", new)]
