"""Races, run thousands of times: whichever side wins, nothing is oversold, nothing is lost and nothing deadlocks."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from json import dumps
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.batch_statements import (
    CANCEL,
    PROVISION,
    PURCHASE,
    PURCHASE_OF_MANY_DROPS,
    RESERVE,
    RESERVE_OF_MANY_DROPS,
    SWEEP,
)
from tests.support.database import client_of as lastpair_client
from tests.support.envelopes import as_user
from tests.support.factories import (
    ask_purchase,
    ask_reserve,
    available_stock,
    hold,
    make_drop_by_sql,
    make_some_due,
    make_users,
    statuses,
)
from tests.support.ordered_requests import Client, Request, client_of, codes, purchase, reserve

pytestmark = pytest.mark.usefixtures("healthy")


def sizes(name: str, small: int, large: int) -> pytest.MarkDecorator:
    """Run the test with a small number, and with a large one as a slow test."""
    return pytest.mark.parametrize(name, [small, pytest.param(large, marks=pytest.mark.slow)])


@pytest.mark.parametrize(("batched", "stock", "buyers", "times"), [(True, 50, 500, 1), (True, 20, 60, 2), (False, 20, 60, 2)])
async def test_a_stampede_sells_exactly_the_stock(
    owner: asyncpg.Pool, api_url: str, unbatched_url: str, batched: bool, stock: int, buyers: int, times: int
) -> None:
    """Many buyers ask over HTTP at the same moment, some of them twice; the counts are the same with and without batches."""
    drop_id, users = await make_drop_by_sql(owner, stock), await make_users(owner, buyers)
    random.Random(1).shuffle(asking := users * times)  # noqa: S311
    async with client_of(api_url if batched else unbatched_url) as client:
        answers = await client.ask_at_once(reserve(drop_id, user) for user in asking)
        refused = {"ALREADY_RESERVED": stock * (times - 1), "OUT_OF_STOCK": (buyers - stock) * times}
        assert Counter(codes(answers)) == Counter({201: stock} | refused)
        assert await statuses(owner, drop_id) == {"ACTIVE": stock}
        answers = await client.ask_at_once(purchase(drop_id, user) for user in asking)
        assert Counter(codes(answers)) == {201: stock, "NO_ACTIVE_RESERVATION": buyers * times - stock}
    assert await statuses(owner, drop_id) == {"CONSUMED": stock}
    assert await available_stock(owner, drop_id) == 0


async def test_one_user_50_times_gets_one_reservation(client: Client, owner: asyncpg.Pool) -> None:
    """The other 49 requests are refused with ALREADY_RESERVED."""
    drop_id, [user] = await make_drop_by_sql(owner, 100), await make_users(owner, 1)
    answers = await client.ask_at_once([reserve(drop_id, user)] * 50)
    assert Counter(codes(answers)) == {201: 1, "ALREADY_RESERVED": 49}
    assert await available_stock(owner, drop_id) == 99


@pytest.mark.parametrize(
    ("batched", "rounds"),
    [
        (True, 1),
        pytest.param(False, 1, marks=pytest.mark.slow),
        pytest.param(True, 20, marks=pytest.mark.slow),
    ],
)
async def test_one_user_200_times_gets_no_more_than_the_limit(
    owner: asyncpg.Pool, api_url: str, unbatched_url: str, batched: bool, rounds: int
) -> None:
    """200 requests for three sizes at once, while the purchases of what is held go on beside them, end with exactly two units."""
    sizes = dumps([{"name": name, "total_stock": 500} for name in ("41", "42", "43")])
    create = (
        "select d.id::text, array(select v.id::text from unnest(d.variants) v) as variants"
        " from api.create_drop('race', 1, null, $1, now(), p_variants => $2, p_terms => '{\"limit_per_user\": 2}') d"
    )
    async with lastpair_client(api_url if batched else unbatched_url) as http:

        async def ask(drop: asyncpg.Record, user: str, n: int) -> str | int:
            answer = await ask_reserve(http, drop["id"], user, {"variant_id": drop["variants"][n % 3]})
            if answer.status_code != 201:
                return str(answer.json()["error"]["code"])
            held = answer.json()["data"]["reservation"]["id"]
            assert (await ask_purchase(http, drop["id"], user, {"reservation_id": held})).status_code == 201
            return 201

        for _ in range(rounds):
            user, other = await make_users(owner, 2)
            drop = await owner.fetchrow(create, other, sizes)
            met = Counter(await asyncio.gather(*(ask(drop, user, n) for n in range(200))))
            assert met[201] == 2
            assert set(met) <= {201, "LIMIT_EXCEEDED", "ALREADY_RESERVED"}
            assert await statuses(owner, drop["id"]) == {"CONSUMED": 2}
            assert await available_stock(owner, drop["id"]) == 1498


async def test_many_users_at_their_limit(client: Client, owner: asyncpg.Pool) -> None:
    """Each of 20 users asks 10 times for a unit and buys it, again and again: each ends with exactly the limit, 3 units."""
    drop_id, users = await make_drop_by_sql(owner, 100, limit_per_user=3), await make_users(owner, 20)
    for _ in range(4):
        await client.ask_at_once(reserve(drop_id, user) for user in users * 10)
        await client.ask_at_once(purchase(drop_id, user) for user in users)
    answers = await client.ask_at_once(reserve(drop_id, user) for user in users)
    assert set(codes(answers)) == {"LIMIT_EXCEEDED"}
    sold = await owner.fetch(
        "select sum(qty)::integer as n from inventory.purchases where drop_id = $1 group by user_id", drop_id
    )
    assert [row["n"] for row in sold] == [3] * 20


@sizes("rounds", 5, 500)
async def test_two_sellers_add_stock_while_it_sells(http: httpx.AsyncClient, owner: asyncpg.Pool, rounds: int) -> None:
    """Each adds two units while four buyers take what there is: no addition is lost, and no unit is made or lost."""
    seller, *users = await make_users(owner, 1 + 4 * rounds)
    drop_id = await make_drop_by_sql(owner, 5)

    async def add() -> None:
        headers = as_user(seller) | {"content-type": "application/json"}
        assert (await http.patch(f"/drops/{drop_id}", content='{"add_stock": 2}', headers=headers)).status_code == 200

    for n in range(rounds):
        asked = [ask_reserve(http, drop_id, user) for user in users[4 * n : 4 * n + 4]]
        answers = await asyncio.gather(*asked, add(), add())
        assert {answer.status_code for answer in answers if answer is not None} <= {201, 409}
    total = await owner.fetchval("select total_stock from inventory.drops where id = $1", drop_id)
    assert total == 5 + 4 * rounds
    assert sum((await statuses(owner, drop_id)).values()) + await available_stock(owner, drop_id) == total


@pytest.mark.parametrize("request_for", [reserve, purchase])
async def test_one_key_100_times_counts_once(
    client: Client, owner: asyncpg.Pool, request_for: Callable[[str, str, str], Request]
) -> None:
    """One answer is 201, the other 99 are replays of the same row; stock moves once."""
    drop_id, [user] = await make_drop_by_sql(owner, 100), await make_users(owner, 1)
    if request_for is purchase:
        await hold(owner, drop_id, [user])
    answers = await client.ask_at_once([request_for(drop_id, user, "the-same")] * 100)
    assert Counter(codes(answers)) == {201: 1, 200: 99}
    assert sum(answer.headers.get("idempotency-replayed") == "true" for answer in answers) == 99
    assert len({answer.row["id"] for answer in answers}) == 1
    assert await available_stock(owner, drop_id) == 99


@sizes("count", 300, 3000)
async def test_purchase_against_expiry_at_the_boundary(owner: asyncpg.Pool, count: int) -> None:
    """Holds are sold, refused as due, or taken back by a sweep that comes first; the books balance whichever it is.

    A slow machine purchases too late, so purchases are sent earlier each time until all three were met.
    """
    met: Counter[str | None] = Counter()
    for attempt in range(1, 8):
        met += await purchase_at_the_boundary(owner, count, lead_seconds=attempt, early_seconds=0.02 * attempt)
        if len(met) == 3:
            break
    assert set(met) == {None, "RESERVATION_EXPIRED", "swept"}, "the boundary was not met"


async def purchase_at_the_boundary(
    owner: asyncpg.Pool, count: int, lead_seconds: float, early_seconds: float
) -> Counter[str | None]:
    """Let holds run out one by one, a thousand a second; purchase each about then, while two sweeps try to take it back."""
    drop_id, users = await make_drop_by_sql(owner, count), await make_users(owner, count)
    holds = await hold(owner, drop_id, users)
    loop = asyncio.get_running_loop()
    begin = loop.time() + lead_seconds
    begin_time = await owner.fetchval("select clock_timestamp() + $1::float * interval '1 s'", lead_seconds)
    await owner.execute(
        "update inventory.reservations r set expires_at = $2::timestamptz + o.n * interval '1 ms'"
        " from unnest($1::uuid[]) with ordinality o (id, n) where r.id = o.id",
        [holds[user] for user in users],
        begin_time,
    )
    outcomes: Counter[str | None] = Counter()
    gate = asyncio.Semaphore(8)
    sweeping = True

    async def sweep() -> None:
        while sweeping:
            outcomes["swept"] += await owner.fetchval(SWEEP, 10)

    async def buy(first: int) -> None:
        batch = users[first : first + 3]
        await asyncio.sleep(begin + first / 1000 + random.uniform(-early_seconds, 0.005) - loop.time())  # noqa: S311
        async with gate:
            for row in await owner.fetch(PURCHASE, drop_id, batch, [None] * len(batch)):
                outcomes[row["code"]] += 1

    sweeps = [asyncio.create_task(sweep()) for _ in range(2)]
    await asyncio.gather(*(buy(first) for first in range(0, count, 3)))
    sweeping = False
    await asyncio.gather(*sweeps)
    while await owner.fetchval(SWEEP, 1000):
        pass
    sold = outcomes[None]
    assert sold + outcomes["RESERVATION_EXPIRED"] == count
    assert await statuses(owner, drop_id) == Counter({"CONSUMED": sold, "EXPIRED": count - sold})
    assert await available_stock(owner, drop_id) == count - sold
    return +outcomes


@sizes("count", 300, 2000)
async def test_cancel_against_purchase(owner: asyncpg.Pool, count: int) -> None:
    """Each hold is cancelled and purchased at the same time: exactly one of the two succeeds."""
    drop_id, users = await make_drop_by_sql(owner, count), await make_users(owner, count)
    holds = await hold(owner, drop_id, users)
    gate = asyncio.Semaphore(12)
    bought: Counter[bool] = Counter()

    async def duel(user: str) -> None:
        calls = [(PURCHASE, drop_id, [user], [None]), (CANCEL, [holds[user]], [user])]
        random.shuffle(calls)
        async with gate:
            rows = await asyncio.gather(*(owner.fetchrow(*call) for call in calls))
        codes = {call[0]: row["code"] for call, row in zip(calls, rows, strict=True)}
        assert codes in (
            {PURCHASE: None, CANCEL: "RESERVATION_NOT_ACTIVE"},
            {PURCHASE: "NO_ACTIVE_RESERVATION", CANCEL: None},
        )
        bought[codes[PURCHASE] is None] += 1

    await asyncio.gather(*(duel(user) for user in users))
    assert min(bought[True], bought[False]) > 0, "one of the two always won: no race"
    assert await statuses(owner, drop_id) == {"CONSUMED": bought[True], "CANCELLED": bought[False]}


@sizes("rounds", 4, 15)
async def test_sweeps_against_reserves_on_one_drop(owner: asyncpg.Pool, rounds: int) -> None:
    """Due holds are taken back by two sweeps, by reserves that find no stock and by their own users, all at once."""
    stock = 200
    drop_id, users = await make_drop_by_sql(owner, stock), await make_users(owner, 2 * stock)
    returned = 0
    for n in range(10 * rounds):
        if n >= rounds and returned:  # the sweeps have met due holds
            break
        running = True

        async def sweep() -> int:
            total = 0
            while running:  # noqa: B023 - awaited before the next round
                total += await owner.fetchval(SWEEP, 7)
            return total

        await owner.execute(
            "update inventory.reservations set expires_at = now() where drop_id = $1 and status = 'ACTIVE'", drop_id
        )
        sweeps = [asyncio.create_task(sweep()) for _ in range(2)]
        random.shuffle(users)
        batches = [users[i : i + 10] for i in range(0, len(users), 10)]
        answers = await asyncio.gather(*(owner.fetch(RESERVE, drop_id, batch, [None] * 10, 600) for batch in batches))
        running = False
        returned += sum(await asyncio.gather(*sweeps))
        codes = Counter(row["code"] for rows in answers for row in rows)
        assert codes == {None: stock, "OUT_OF_STOCK": stock}
        assert (await statuses(owner, drop_id))["ACTIVE"] == stock
    assert returned > 0, "the sweeps never met a due hold"


@sizes("calls_each", 40, 150)
async def test_mixed_storm_on_20_drops(owner: asyncpg.Pool, calls_each: int) -> None:
    """Every call on 20 drops with overlapping users in random order, singly and in batches: no deadlock, no fault."""
    chance = random.Random(20)  # noqa: S311 - a storm to repeat, not a secret
    drops = [await make_drop_by_sql(owner, chance.randint(5, 40)) for _ in range(20)]
    users = await make_users(owner, 60)
    answers: Counter[str] = Counter()

    def some_users() -> list[str]:
        return chance.choices(users, k=chance.choice([1, 1, 2, 8, 32]))

    def some_keys(count: int) -> list[str | None]:
        return [chance.choice([None, None, f"key-{chance.randint(1, 3)}"]) for _ in range(count)]

    async def reserve() -> None:
        batch = some_users()
        await owner.fetch(RESERVE, chance.choice(drops), batch, some_keys(len(batch)), chance.choice([1, 600]))

    async def purchase() -> None:
        batch = some_users()
        await owner.fetch(PURCHASE, chance.choice(drops), batch, some_keys(len(batch)))

    async def reserve_of_many_drops() -> None:
        batch = some_users()
        lanes = chance.choices(drops, k=len(batch))
        await owner.fetch(RESERVE_OF_MANY_DROPS, lanes, batch, some_keys(len(batch)), chance.choice([1, 600]))

    async def purchase_of_many_drops() -> None:
        batch = some_users()
        await owner.fetch(PURCHASE_OF_MANY_DROPS, chance.choices(drops, k=len(batch)), batch, some_keys(len(batch)))

    async def cancel() -> None:
        rows = await owner.fetch(
            "select id, user_id from inventory.reservations where status = 'ACTIVE' and drop_id = any ($1) limit 200", drops
        )
        chosen = chance.sample(rows, min(len(rows), chance.choice([1, 5, 20])))
        await owner.fetch(CANCEL, [row["id"] for row in chosen], [row["user_id"] for row in chosen])

    async def pass_time() -> None:  # not a call of the API
        await make_some_due(owner, drops, 20)

    async def sweep() -> None:
        await owner.fetch(SWEEP, chance.choice([3, 1000]))

    async def change() -> None:
        changes = ['{"name": "storm"}', '{"total_stock": 60}', '{"total_stock": 1}', '{"status": "cancelled"}', '{"price": 2}']
        weights = [10, 10, 10, 1, 10]
        await owner.fetch("select * from api.update_drop($1, $2)", chance.choice(drops), chance.choices(changes, weights)[0])

    async def refund() -> None:
        rows = await owner.fetch("select id from inventory.purchases where drop_id = any ($1) limit 50", drops)
        if rows:
            await owner.fetch("select * from api.refund_purchase($1)", chance.choice(rows)["id"])

    async def look() -> None:
        await owner.fetch("select * from api.list_drops()")
        await owner.fetch("select * from api.advance_drops()")
        await owner.fetch("select * from api.my_reservations($1)", chance.choice(users))
        assert await owner.fetch("select * from api.audit()") == []

    several = [reserve_of_many_drops, purchase_of_many_drops]
    calls = [reserve, purchase, *several, cancel, pass_time, sweep, change, refund, look]

    async def client() -> None:
        for _ in range(calls_each):
            call = chance.choices(calls, [20, 20, 10, 10, 10, 5, 10, 5, 5, 2])[0]
            try:
                await call()
                answers[call.__name__] += 1
            except asyncpg.LockNotAvailableError:
                assert call in {cancel, *several}  # a call for several drops does not wait long for one of them
            except asyncpg.PostgresError as error:
                if not (error.sqlstate or "").startswith("PT"):
                    raise  # not a refusal: a deadlock, a violated constraint, a fault
                answers[error.args[0]] += 1

    await asyncio.gather(*(client() for _ in range(24)))
    assert all(answers[call.__name__] > 0 for call in calls)
    assert answers["STOCK_BELOW_COMMITTED"] > 0


@sizes("rounds", 5, 15)
async def test_new_users_whose_names_cross(owner: asyncpg.Pool, rounds: int) -> None:
    """Overlapping calls make the same users under one another's names: all are made, and nothing deadlocks."""
    chance = random.Random(7)  # noqa: S311
    for _ in range(rounds):
        new_users, names = [str(uuid4()) for _ in range(24)], [uuid4().hex for _ in range(12)]

        async def make(crowd: list[tuple[str, str]]) -> None:
            try:
                await owner.execute(PROVISION, *zip(*crowd, strict=True))
            except asyncpg.LockNotAvailableError:
                for user_id, name in crowd:
                    await owner.execute(PROVISION, [user_id], [name])

        crowds = [[(user_id, chance.choice(names)) for user_id in chance.sample(new_users, 16)] for _ in range(8)]
        await asyncio.gather(*(make(crowd) for crowd in crowds))
        wanted = {user_id for crowd in crowds for user_id, _ in crowd}
        assert await owner.fetchval("select count(*) from inventory.users where id = any ($1)", list(wanted)) == len(wanted)
