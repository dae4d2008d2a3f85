"""Baskets in one call become what they would become one by one: what single reserves say, undone unless all are held."""

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.support.batch_statements import RESERVE_BASKETS
from tests.support.factories import available_stock, hold, make_drop_by_sql, make_user, make_users
from tests.support.ordered_requests import lock_waits, locked

pytestmark = pytest.mark.usefixtures("healthy")

CREATE_DROP = "select id::text from api.create_drop('race', 2, $1, $2, now(), p_variants => $3, p_terms => $4)"
VARIANTS = "select id::text from inventory.variants where drop_id = $1 order by position"
RESERVE_ITEMS = (
    "select n - 1 as index, code, message, data from api.reserve_batch(array("
    "select row(i.drop_id, $1, null, i.variant_id, i.qty)::api.reserve_request"
    " from json_populate_recordset(null::api.basket_item, $2) i), 600)"
)
HOLDS = (
    "select drop_id::text, variant_id::text, user_id::text, qty from inventory.reservations"
    " where drop_id = any ($1) and status = 'ACTIVE' and expires_at > now()"
)

Item = tuple[int, int | None, int]
"""A drop and a variant of it, by their numbers in the shop, and a quantity."""


class Shop:
    """Drops with the same terms, stocks and earlier holds as those of another shop."""

    def __init__(self, owner: asyncpg.Pool, users: list[str]) -> None:
        self.owner = owner
        self.users = users
        self.drops: list[str] = []
        self.variants: list[list[str]] = []

    async def fill(self, chance: random.Random) -> None:
        """Make the drops and the holds on them; what is drawn depends on `chance` only."""
        seller = await make_user(self.owner)
        for _ in range(4):
            stocks = [chance.randint(1, 6) for _ in range(chance.choice([0, 0, 2]))]
            terms = chance.choice([{}, {}, {"limit_per_user": 2}, {"rehold_after_seconds": 3600}])
            variants = [{"name": str(n), "total_stock": stock} for n, stock in enumerate(stocks)]
            total = None if variants else chance.randint(1, 9)
            of_variants = json.dumps(variants) if variants else None
            drop_id = await self.owner.fetchval(CREATE_DROP, total, seller, of_variants, json.dumps(terms))
            self.drops.append(drop_id)
            self.variants.append([row["id"] for row in await self.owner.fetch(VARIANTS, drop_id)])
        for _ in range(chance.randint(0, 12)):
            item, user, end = self.item(chance), chance.choice(self.users), chance.choice(["stay", "cancel", "lapse"])
            [row] = await self.owner.fetch(RESERVE_ITEMS, user, self.as_json([item]))
            if row["code"] is None and end == "cancel":
                held = json.loads(row["data"])["id"]
                await self.owner.execute("select api.cancel_reservation($1, $2)", held, user)
            elif row["code"] is None and end == "lapse":
                held = json.loads(row["data"])["id"]
                await self.owner.execute(
                    "update inventory.reservations set expires_at = now() - '1 s'::interval where id = $1", held
                )
        if chance.random() < 0.3:
            await self.owner.execute("select api.update_drop($1, '{\"paused\": true}')", self.drops[0])

    def item(self, chance: random.Random) -> Item:
        """An item that can be asked for, but perhaps not held."""
        drop_n = chance.choice([0, 1, 1, 2, 3, 3])
        variant_n = chance.choice([0, 1, None]) if chance.random() < 0.1 else chance.choice([0, 1])
        return drop_n, variant_n if self.variants[drop_n] else None, chance.choice([1, 1, 1, 2, 3])

    def as_json(self, items: list[Item]) -> str:
        """These items of this shop, as a list of api.basket_item."""
        return json.dumps(
            [{"drop_id": self.drops[d], "variant_id": None if v is None else self.variants[d][v], "qty": q} for d, v, q in items]
        )

    async def holds(self) -> Counter[tuple[Any, ...]]:
        """What is held: drop and variant by their numbers, user, and quantity."""
        return Counter(
            (
                drop_n := self.drops.index(row["drop_id"]),
                row["variant_id"] and self.variants[drop_n].index(row["variant_id"]),
                row["user_id"],
                row["qty"],
            )
            for row in await self.owner.fetch(HOLDS, self.drops)
        )


async def one_by_one(shop: Shop, user: str, items: list[Item]) -> tuple[str | None, list[tuple[Any, ...]]]:
    """What becomes of a basket when its items are single reserves, undone unless all are held."""
    async with shop.owner.acquire() as session:
        transaction = session.transaction()
        await transaction.start()
        rows = await session.fetch(RESERVE_ITEMS, user, shop.as_json(items))
        refused = [refusal(row) for row in rows if row["code"]]
        await (transaction.rollback() if refused else transaction.commit())
    return ("BASKET_REFUSED", refused) if refused else (None, [])


def refusal(row: Any) -> tuple[Any, ...]:
    """Index, code and message; that of RESERVED_TOO_SOON has the seconds that are left, which change."""
    return row["index"], row["code"], None if row["code"] == "RESERVED_TOO_SOON" else row["message"]


@pytest.mark.parametrize("runs", [4, pytest.param(100, marks=pytest.mark.slow)])
async def test_a_batch_of_baskets_is_as_one_after_the_other(owner: asyncpg.Pool, runs: int) -> None:
    """Random baskets, some with keys that come again: the same outcomes and the same holds, in one call and one by one."""
    met: Counter[str | None] = Counter()
    for seed in range(runs):
        users = await make_users(owner, 8)
        batched, single = Shop(owner, users), Shop(owner, users)
        await batched.fill(random.Random(seed))  # noqa: S311 - a run to repeat, not a secret
        await single.fill(random.Random(seed))  # noqa: S311
        chance = random.Random(seed)  # noqa: S311
        baskets: list[tuple[str, list[Item], str | None]] = []
        for _ in range(chance.choice([1, 10, 30])):
            items = list({item[:2]: item for item in (batched.item(chance) for _ in range(chance.randint(1, 4)))}.values())
            baskets.append((chance.choice(users), items, chance.choice([None, None, "a", "b"])))
            if chance.random() < 0.2:
                baskets.append(baskets[-1])

        expected, made = [], {}
        for user, items, key in baskets:
            earlier = made.get((user, key)) if key else None
            if earlier is None:
                code, refused = await one_by_one(single, user, items)
                if code is None:
                    made[user, key] = items
                expected.append((code, refused, False))
            else:
                expected.append((None if earlier == items else "IDEMPOTENCY_KEY_REUSED", [], earlier == items))

        requests = [
            {"user_id": user, "items": json.loads(batched.as_json(items)), "idempotency_key": key} for user, items, key in baskets
        ]
        outcomes = []
        size = chance.choice([len(requests), 7])  # in a later call a key is found in the table
        for first in range(0, len(requests), size):
            outcomes += await owner.fetch(RESERVE_BASKETS, json.dumps(requests[first : first + size]), 600)
        found = [
            (row["code"], [refusal(item) for item in json.loads(row["data"])] if row["code"] == "BASKET_REFUSED" else [],
             row["replayed"])
            for row in outcomes
        ]  # fmt: skip
        assert found == expected, f"seed {seed}"
        assert await batched.holds() == await single.holds(), f"seed {seed}"
        for (_, items, _), row in zip(baskets, outcomes, strict=True):
            if row["code"] is None:
                reservations = json.loads(row["data"])["reservations"]
                wanted = json.loads(batched.as_json(items))
                assert [{name: held[name] for name in ("drop_id", "variant_id", "qty")} for held in reservations] == wanted
        met += Counter(code for code, _, _ in found) + Counter(item[1] for _, refused, _ in found for item in refused)
    assert {None, "BASKET_REFUSED", "OUT_OF_STOCK", "ALREADY_RESERVED"} <= set(met)
    if runs > 100:
        assert {"IDEMPOTENCY_KEY_REUSED", "LIMIT_EXCEEDED", "RESERVED_TOO_SOON", "DROP_NOT_ACTIVE", "VARIANT_NOT_FOUND"} <= set(
            met
        )


def request(user: str, drops: list[str], key: str | None = None) -> dict[str, object]:
    """A request for a unit of each of these drops."""
    return {"user_id": user, "items": [{"drop_id": drop_id} for drop_id in drops], "idempotency_key": key}


@pytest.mark.parametrize("rounds", [1, pytest.param(60, marks=pytest.mark.slow)])
async def test_batches_over_the_same_drops_in_opposite_orders(owner: asyncpg.Pool, rounds: int) -> None:
    """Batches of baskets, single baskets and batches of reserves, all at once: no deadlock, and every unit is sold once."""
    for _ in range(rounds):
        drops = [await make_drop_by_sql(owner, stock) for stock in (60, 45, 50)]
        users = await make_users(owner, 100)
        baskets = [request(user, drops if n % 2 else drops[::-1]) for n, user in enumerate(users)]
        reserve = json.dumps([{"drop_id": drop_id, "user_id": user} for user in await make_users(owner, 5) for drop_id in drops])
        singles = (
            "select code from api.reserve_batch(array("
            "select r from json_populate_recordset(null::api.reserve_request, $1) r), 600)"
        )
        batches = [json.dumps(baskets[first : first + 10]) for first in range(0, 100, 10)]

        async def until_free(statement: str, *arguments: object) -> list[Any]:
            while True:
                try:
                    return await owner.fetch(statement, *arguments)
                except asyncpg.LockNotAvailableError:
                    await asyncio.sleep(0)  # it had no effect

        *answers, of_singles = await asyncio.gather(
            *(until_free(RESERVE_BASKETS, batch, 600) for batch in batches), until_free(singles, reserve)
        )
        held = sum(row["code"] is None for rows in answers for row in rows)
        assert 40 <= held <= 45
        taken = [sum(row["code"] is None for row in of_singles[n::3]) for n in range(3)]
        assert [await available_stock(owner, drop_id) for drop_id in drops] == [
            stock - held - units for stock, units in zip((60, 45, 50), taken, strict=True)
        ]


async def test_one_key_with_different_drops_at_the_same_moment(owner: asyncpg.Pool) -> None:
    """A call that finds that another one has made a basket with its key decides again, and answers that the key was reused."""
    for _ in range(20):
        drops, [user, other] = [await make_drop_by_sql(owner, 5) for _ in range(2)], await make_users(owner, 2)
        key = uuid4().hex
        async with owner.acquire() as session:
            transaction = session.transaction()
            await transaction.start()
            await session.fetch(RESERVE_BASKETS, json.dumps([request(user, drops[:1], key)]), 600)
            batch = json.dumps([request(user, drops[1:], key), request(other, drops[1:], key)])
            late = asyncio.create_task(owner.fetch(RESERVE_BASKETS, batch, 600))
            await lock_waits(owner, 1)
            await transaction.commit()
        # It waits for a tenth of a second only, and a busy machine may need longer to commit.
        with suppress(asyncpg.LockNotAvailableError):
            answers = await late
            break
    assert [row["code"] for row in answers] == ["IDEMPOTENCY_KEY_REUSED", None]
    assert [await available_stock(owner, drop_id) for drop_id in drops] == [4, 4]


async def test_what_is_sold_out_is_refused_without_a_lock(owner: asyncpg.Pool) -> None:
    """Baskets with an item of a drop that sells nothing do not wait for the drops of their other items."""
    drops, users = [await make_drop_by_sql(owner, stock) for stock in (5, 1)], await make_users(owner, 4)
    await owner.fetch(RESERVE_BASKETS, json.dumps([request(users[0], drops[1:])]), 600)
    async with locked(owner, drops[0]), locked(owner, drops[1]):
        batch = json.dumps([request(user, drops) for user in users[1:]])
        rows = await asyncio.wait_for(owner.fetch(RESERVE_BASKETS, batch, 600), 4)
    assert [(row["code"], [item["index"] for item in json.loads(row["data"])]) for row in rows] == [("BASKET_REFUSED", [1])] * 3


async def test_what_comes_back_to_a_drop_that_was_sold_out_is_not_taken(owner: asyncpg.Pool) -> None:
    """The call has not locked the other drops of such a basket, so it is refused, although a unit came back meanwhile."""
    for _ in range(20):
        first, sold_out, other = sorted([await make_drop_by_sql(owner, stock) for stock in (1, 1, 1)])
        users = await make_users(owner, 3)
        await hold(owner, sold_out, users[:1])
        async with locked(owner, first), owner.acquire() as session, session.transaction():
            await session.execute("update inventory.reservations set expires_at = now() where drop_id = $1", sold_out)
            batch = json.dumps([request(users[1], [first]), request(users[2], [sold_out, other])])
            waiting = asyncio.create_task(owner.fetch(RESERVE_BASKETS, batch, 600))
            await lock_waits(owner, 1)
        # It waits for a tenth of a second only, and a busy machine may need longer to commit.
        with suppress(asyncpg.LockNotAvailableError):
            rows = await waiting
            break
    assert [row["code"] for row in rows] == [None, "BASKET_REFUSED"]
    assert [refusal(item)[:2] for item in json.loads(rows[1]["data"])] == [(0, "OUT_OF_STOCK")]
    assert await available_stock(owner, other) == 1
