"""The shop without a server and without HTTP: what each method answers, and when it raises."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from lastpair.errors import Refusal, Unavailable
from lastpair.shop.outcome import Caller, Outcome, Page
from lastpair.shop.shared_calls import BasketItem, BasketRequest
from lastpair.shop.shop import Shop
from tests.support.database import Database
from tests.support.factories import available_stock, hold, make_drop_by_sql, make_due, make_user, make_users, statuses
from tests.support.ordered_requests import lock_waits, locked
from tests.support.servers import free_port
from tests.support.shop import opened_shop

pytestmark = pytest.mark.usefixtures("healthy")

NOBODY = str(UUID(int=0))
NEW_DROP = '{"name": "Air One", "price": 199.90, "total_stock": 2}'
ACTS: dict[str, Callable[[Shop, Caller], Awaitable[Outcome]]] = {
    "reserve": lambda shop, caller: shop.reserve(caller, NOBODY),
    "purchase": lambda shop, caller: shop.purchase(caller, NOBODY),
    "cancel": lambda shop, caller: shop.cancel(caller, NOBODY),
    "my_reservations": lambda shop, caller: shop.my_reservations(caller, 50, None),
    "my_purchases": lambda shop, caller: shop.my_purchases(caller, 50, None),
    "create_drop": lambda shop, caller: shop.create_drop(caller, NEW_DROP),
    "extend": lambda shop, caller: shop.extend(caller, NOBODY),
    "reserve_basket": lambda shop, caller: shop.carry_out(
        caller, BasketRequest(caller.id, [BasketItem(NOBODY, None, None)], None)
    ),
    "purchase_basket": lambda shop, caller: shop.purchase_basket(caller, NOBODY),
    "cancel_basket": lambda shop, caller: shop.cancel_basket(caller, NOBODY),
    "get_basket": lambda shop, caller: shop.get_basket(caller, NOBODY),
}
"""Every method that acts for a user."""

REST: dict[str, Callable[[Shop], Awaitable[Outcome]]] = {
    "update_drop": lambda shop: shop.update_drop(Caller(NOBODY), NOBODY, "{}"),
    "cancel_drop": lambda shop: shop.cancel_drop(Caller(NOBODY), NOBODY, refund=True),
    "refund_purchase": lambda shop: shop.refund_purchase(Caller(NOBODY), NOBODY),
    "get_drop": lambda shop: shop.get_drop(NOBODY, drafts=False),
    "list_drops": lambda shop: shop.list_drops(None, 50, None),
    "drops_on_sale": lambda shop: shop.drops_on_sale(),
    "create_user": lambda shop: shop.create_user("ann"),
    "expire_due_holds": lambda shop: shop.expire_due_holds(),
}


@pytest.fixture(scope="module")
async def shop(database: Database) -> AsyncIterator[Shop]:
    """A shop with the default settings."""
    async with opened_shop(database.url) as shop:
        yield shop


def data(outcome: Outcome) -> Any:
    """What was made, changed or read; of a page its rows."""
    return orjson.loads(outcome.data.rows if isinstance(outcome.data, Page) else outcome.data)


def carried_out(outcome: Outcome, status: int, *, replayed: bool = False) -> Any:
    """The data of an outcome that is a success with this status."""
    assert outcome[:4] == (status, None, None, replayed)
    return data(outcome)


def assert_refused(outcome: Outcome, status: int, code: str) -> None:
    """The outcome is this refusal, says why, and has no data."""
    assert outcome[:2] == (status, code)
    assert outcome.message
    assert outcome[3:] == (False, None)


async def test_a_drop_is_made_changed_and_listed(shop: Shop, owner: asyncpg.Pool) -> None:
    """A drop without times is a draft; once live it is in the list."""
    seller = Caller(await make_user(owner))
    drop = carried_out(await shop.create_drop(seller, NEW_DROP), 201)
    assert (drop["name"], drop["price"], drop["available_stock"], drop["status"]) == ("Air One", 199.9, 2, "draft")
    assert drop["created_by"] == seller.id
    assert drop["id"] not in {listed["id"] for listed in carried_out(await shop.drops_on_sale(), 200)}
    changed = carried_out(await shop.update_drop(seller, drop["id"], '{"status": "live", "total_stock": 3}'), 200)
    assert (changed["status"], changed["available_stock"]) == ("live", 3)
    assert carried_out(await shop.get_drop(drop["id"], drafts=False), 200) == changed
    assert drop["id"] in {listed["id"] for listed in carried_out(await shop.drops_on_sale(), 200)}


async def test_a_unit_is_reserved_purchased_and_given_back(shop: Shop, owner: asyncpg.Pool) -> None:
    """Each step shows in what the caller holds and has bought, and in the stock."""
    drop_id, [user] = await make_drop_by_sql(owner, 2), await make_users(owner, 1)
    caller = Caller(user)
    held = carried_out(await shop.reserve(caller, drop_id), 201)
    assert (held["drop_id"], held["user_id"], held["status"]) == (drop_id, user, "ACTIVE")
    assert carried_out(await shop.my_reservations(caller, 50, None), 200) == [held]
    bought = carried_out(await shop.purchase(caller, drop_id), 201)
    assert (bought["reservation_id"], bought["status"]) == (held["id"], "paid")
    assert carried_out(await shop.my_purchases(caller, 50, None), 200) == [bought]
    assert carried_out(await shop.my_reservations(caller, 50, None), 200) == []
    again = carried_out(await shop.reserve(caller, drop_id), 201)
    assert carried_out(await shop.cancel(caller, again["id"]), 200)["status"] == "CANCELLED"
    assert await available_stock(owner, drop_id) == 1


async def test_a_repeated_key_replays_what_was_made(shop: Shop, owner: asyncpg.Pool) -> None:
    """The replay has status 200 and shows the same row as it is now."""
    drop_id, [user] = await make_drop_by_sql(owner, 2), await make_users(owner, 1)
    held = carried_out(await shop.reserve(Caller(user), drop_id, "key"), 201)
    assert carried_out(await shop.reserve(Caller(user), drop_id, "key"), 200, replayed=True) == held
    bought = carried_out(await shop.purchase(Caller(user), drop_id, "key"), 201)
    assert carried_out(await shop.purchase(Caller(user), drop_id, "key"), 200, replayed=True) == bought
    replayed = carried_out(await shop.reserve(Caller(user), drop_id, "key"), 200, replayed=True)
    assert (replayed["id"], replayed["status"]) == (held["id"], "CONSUMED")


async def test_a_hold_lasts_as_long_as_the_setting_says(database: Database, owner: asyncpg.Pool) -> None:
    """RESERVATION_TTL_SECONDS reaches the database."""
    lasts = "select expires_at - created_at = '77 s' from inventory.reservations where id = $1"
    async with opened_shop(database.url, reservation_ttl_seconds=77) as shop:
        held = carried_out(await shop.reserve(Caller(await make_user(owner)), await make_drop_by_sql(owner, 1)), 201)
        assert await owner.fetchval(lasts, held["id"])


async def test_a_refusal_is_an_outcome(shop: Shop, owner: asyncpg.Pool) -> None:
    """No refusal of the database is raised, whether the method shares calls or not."""
    drop_id, small = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 1)
    draft = data(await shop.create_drop(Caller(await make_user(owner)), NEW_DROP))["id"]
    holder, late, other = (Caller(user) for user in await make_users(owner, 3))
    holds = await hold(owner, drop_id, [holder.id, late.id])
    held, due = holds[holder.id], holds[late.id]
    await hold(owner, small, [holder.id])
    await make_due(owner, due)
    name = uuid4().hex
    await shop.create_user(name)
    refused = [
        (shop.purchase(late, drop_id), 409, "RESERVATION_EXPIRED"),
        (shop.reserve(other, NOBODY), 404, "DROP_NOT_FOUND"),
        (shop.reserve(other, draft), 409, "DROP_NOT_ACTIVE"),
        (shop.reserve(holder, drop_id), 409, "ALREADY_RESERVED"),
        (shop.reserve(other, small), 409, "OUT_OF_STOCK"),
        (shop.purchase(other, drop_id), 409, "NO_ACTIVE_RESERVATION"),
        (shop.cancel(other, held), 404, "RESERVATION_NOT_FOUND"),
        (shop.cancel(late, due), 409, "RESERVATION_EXPIRED"),
        (shop.get_drop(NOBODY, drafts=True), 404, "DROP_NOT_FOUND"),
        (shop.update_drop(other, drop_id, '{"status": "draft"}'), 409, "INVALID_STATUS_CHANGE"),
        (shop.update_drop(other, small, '{"total_stock": 0}'), 400, "VALIDATION_ERROR"),
        (shop.create_drop(holder, NEW_DROP.replace("199.90", "-1")), 400, "VALIDATION_ERROR"),
        (shop.create_user(name), 409, "USERNAME_TAKEN"),
    ]
    outcomes = [await method for method, _, _ in refused]
    assert [outcome[:2] for outcome in outcomes] == [(status, code) for _, status, code in refused]
    assert all(outcome.message and outcome[3:] == (False, None) for outcome in outcomes)


async def test_due_holds_are_taken_back_on_request(shop: Shop, owner: asyncpg.Pool) -> None:
    """The answer is how many there were, with those of other tests, which may run out at any moment."""
    drop_id, users = await make_drop_by_sql(owner, 5), await make_users(owner, 3)
    await make_due(owner, *list((await hold(owner, drop_id, users)).values())[:2])
    assert carried_out(await shop.expire_due_holds(), 200) >= 2
    assert await statuses(owner, drop_id) == {"ACTIVE": 1, "EXPIRED": 2}


async def user_name(owner: asyncpg.Pool, user_id: str) -> str | None:
    """The name of the user, if there is one."""
    name: str | None = await owner.fetchval("select username from inventory.users where id = $1", user_id)
    return name


@pytest.mark.parametrize("act", ACTS)
async def test_a_missing_user_is_made_on_first_use(shop: Shop, owner: asyncpg.Pool, act: str) -> None:
    """The user gets the caller's name, and the request is then carried out as any user's."""
    new, known, name = str(uuid4()), await make_user(owner), uuid4().hex
    outcome = await ACTS[act](shop, Caller(new, lambda: name))
    assert outcome[:2] == (await ACTS[act](shop, Caller(known)))[:2]
    assert outcome.code != "AUTH_REQUIRED"
    assert await user_name(owner, new) == name


@pytest.mark.parametrize("act", ACTS)
async def test_a_missing_user_is_refused_without_a_name(shop: Shop, owner: asyncpg.Pool, act: str) -> None:
    """Where users are not made on first use, the outcome is AUTH_REQUIRED and no user is made."""
    caller = Caller(str(uuid4()))
    assert_refused(await ACTS[act](shop, caller), 401, "AUTH_REQUIRED")
    assert await user_name(owner, caller.id) is None


async def test_50_requests_of_one_new_user_make_one_user(shop: Shop, owner: asyncpg.Pool) -> None:
    """All come at once: one of them holds the unit, the others are refused as they would be for a known user."""
    drop_id, name = await make_drop_by_sql(owner, 100), uuid4().hex
    caller = Caller(str(uuid4()), lambda: name)
    outcomes = await asyncio.gather(*(shop.reserve(caller, drop_id) for _ in range(50)))
    assert Counter(outcome.code for outcome in outcomes) == {None: 1, "ALREADY_RESERVED": 49}
    assert await owner.fetchval("select count(*) from inventory.users where username = $1", name) == 1
    assert await user_name(owner, caller.id) == name


async def test_a_known_user_needs_no_name(shop: Shop, owner: asyncpg.Pool) -> None:
    """The name is asked for only when the user is missing; without one the user gets a name of its own."""
    drop_id, known = await make_drop_by_sql(owner, 5), Caller(await make_user(owner), lambda: pytest.fail("asked for a name"))
    carried_out(await shop.reserve(known, drop_id), 201)
    unnamed = Caller(str(uuid4()), lambda: None)
    carried_out(await shop.reserve(unnamed, drop_id), 201)
    assert await user_name(owner, unnamed.id)


async def test_a_name_that_is_refused(shop: Shop, owner: asyncpg.Pool) -> None:
    """A refusal of the name is the outcome, whether the database or the transport refuses it. No user is made."""
    drop_id = await make_drop_by_sql(owner, 5)
    caller = Caller(str(uuid4()), lambda: "")
    assert_refused(await shop.reserve(caller, drop_id), 400, "VALIDATION_ERROR")

    def refuse() -> str:
        raise Refusal(400, "VALIDATION_ERROR", "X-User-Name: is not a name")

    assert_refused(await shop.reserve(Caller(caller.id, refuse), drop_id), 400, "VALIDATION_ERROR")
    assert await user_name(owner, caller.id) is None
    assert await available_stock(owner, drop_id) == 5


@pytest.mark.parametrize("method", [*ACTS, *REST])
async def test_unavailable_is_raised_when_the_database_is_away(method: str) -> None:
    """Every method raises it: it is not an outcome, because the request may have taken effect."""
    async with opened_shop(f"postgresql://lastpair@127.0.0.1:{free_port()}/lastpair") as shop:
        with pytest.raises(Unavailable) as raised:
            await (ACTS[method](shop, Caller(NOBODY, lambda: None)) if method in ACTS else REST[method](shop))
    assert (raised.value.status, raised.value.code, raised.value.retry_after_seconds) == (503, "DATABASE_UNAVAILABLE", 1)


async def test_overloaded_is_raised_when_too_many_wait(database: Database, owner: asyncpg.Pool) -> None:
    """The request beyond MAX_PENDING was not begun; those that wait are carried out, and then there is room again."""
    drop_id, users = await make_drop_by_sql(owner, 5), [Caller(user) for user in await make_users(owner, 4)]
    async with opened_shop(database.url, max_pending=2) as shop:
        async with locked(owner, drop_id):
            waiting = [asyncio.create_task(shop.reserve(user, drop_id)) for user in users[:2]]
            await lock_waits(owner, 1)
            with pytest.raises(Unavailable) as raised:
                await shop.reserve(users[2], drop_id)
            assert (raised.value.status, raised.value.code) == (503, "OVERLOADED")
            carried_out(await shop.drops_on_sale(), 200)  # other methods have room of their own
        for outcome in await asyncio.gather(*waiting):
            carried_out(outcome, 201)
        carried_out(await shop.reserve(users[3], drop_id), 201)
    assert await available_stock(owner, drop_id) == 2
