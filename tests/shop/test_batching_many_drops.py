"""Many drops asked for at once: their requests share transactions, one that is busy holds up no other, and all sell exactly."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import product
from typing import Any
from uuid import UUID

import asyncpg
import psutil
import pytest

from tests.shop.test_races import healthy
from tests.support.batching import (
    HOLD_UP,
    HOLD_UP_PURCHASES,
    SLOW_CALL_SECONDS,
    Answer,
    Client,
    Connection,
    Pending,
    all_soon,
    client,
    client_of,
    codes,
    locked,
    soon,
    waiting,
)
from tests.support.database import Database
from tests.support.factories import available_stock, hold, make_drop_by_sql, make_users, statuses
from tests.support.servers import Service, started
from tests.support.statements import CANCEL, PURCHASE_OF_MANY_DROPS, RESERVE_OF_MANY_DROPS
from tests.support.waiting import eventually

__all__ = ["client", "healthy"]  # every test ends with a clean audit and no deadlock

SHARED = {
    "reserve": "select created_at as at, count(distinct drop_id) as drops from inventory.reservations"
    " where drop_id = any ($1) group by 1",
    "purchase": "select created_at as at, count(distinct drop_id) as drops from inventory.purchases"
    " where drop_id = any ($1) group by 1",
    "cancel": "select updated_at as at, count(distinct drop_id) as drops from inventory.reservations"
    " where drop_id = any ($1) and status = 'CANCELLED' group by 1",
}
"""The transactions of each kind, with how many drops each was for."""

SOON_SECONDS = 4  # whoever waits for a lock is given up after 5

Place = tuple[UUID, UUID]
"""A drop and a user."""


class Market:
    """Some drops and users, who all ask at once."""

    def __init__(self, owner: asyncpg.Pool, drops: Sequence[UUID], users: Sequence[UUID]) -> None:
        self.owner = owner
        self.drops = drops
        self.users = users
        self.holds: dict[Place, UUID] = {}

    @classmethod
    async def open(cls, owner: asyncpg.Pool, stocks: Iterable[int], user_count: int) -> "Market":
        """A drop of each of these stocks, in the order of their ids."""
        return cls(owner, sorted([await make_drop_by_sql(owner, stock) for stock in stocks]), await make_users(owner, user_count))

    async def hold(self, drops: Iterable[UUID], users: list[UUID]) -> None:
        """Give all of them holds on all of these."""
        for drop_id in drops:
            for user, reservation_id in (await hold(self.owner, drop_id, users)).items():
                self.holds[drop_id, user] = reservation_id

    def send(self, connection: Connection, kind: str, place: Place, key: str | None = None) -> Pending:
        """Send one request."""
        drop_id, user = place
        if kind == "cancel":
            return connection.send("DELETE", f"/api/reservations/{self.holds[place]}", user)
        return connection.send("POST", f"/api/drops/{drop_id}/{kind}", user, key)

    def send_all(self, connections: Sequence[Connection], kind: str, places: Sequence[Place]) -> list[Pending]:
        """Send a request for each place at the same moment."""
        return [self.send(connection, kind, place) for connection, place in zip(connections, places, strict=False)]

    def places(self, seed: int = 1) -> list[Place]:
        """Everybody at every drop, in no particular order."""
        places = list(product(self.drops, self.users))
        random.Random(seed).shuffle(places)  # noqa: S311 - a run to repeat, not a secret
        return places

    async def stock(self) -> list[int]:
        """What is left of each drop."""
        return [await available_stock(self.owner, str(drop_id)) for drop_id in self.drops]


def assert_own(places: Sequence[Place], answers: Sequence[Answer]) -> None:
    """Each success is of the drop and the user that asked for it."""
    served = [(place, answer) for place, answer in zip(places, answers, strict=True) if answer.code is None]
    assert served
    for (drop_id, user), answer in served:
        assert (answer.row["drop_id"], answer.row["user_id"]) == (str(drop_id), str(user))


async def test_many_drops_share_transactions(client: Client, owner: asyncpg.Pool) -> None:
    """Each request has its own outcome; there are far fewer transactions than requests, and than there would be drop by drop."""
    stocks = [4 + n % 3 for n in range(20)]
    market = await Market.open(owner, stocks, 8)
    connections = await client.connections(160)
    stocks = await market.stock()
    for round_number in range(3):
        places = market.places(round_number)
        answers = await all_soon(market.send_all(connections, "reserve", places))
        assert_own(places, answers)
        met = Counter((place[0], code) for place, code in zip(places, codes(answers), strict=True))
        assert met == Counter(
            {(drop_id, 201): stock for drop_id, stock in zip(market.drops, stocks, strict=True)}
            | {(drop_id, "OUT_OF_STOCK"): 8 - stock for drop_id, stock in zip(market.drops, stocks, strict=True)}
        )
        assert await market.stock() == [0] * 20
        held = [place for place, answer in zip(places, answers, strict=True) if answer.code is None]
        market.holds = {
            place: UUID(answer.row["id"]) for place, answer in zip(places, answers, strict=True) if answer.code is None
        }
        kind = "purchase" if round_number == 2 else "cancel"
        answers = await all_soon(market.send_all(connections, kind, held))
        assert_own(held, answers)
        assert codes(answers) == [201 if kind == "purchase" else 200] * sum(stocks)
        assert await market.stock() == ([0] * 20 if kind == "purchase" else stocks)
    for kind, rounds in (("reserve", 3), ("cancel", 2), ("purchase", 1)):
        transactions = await owner.fetch(SHARED[kind], market.drops)
        assert len(transactions) < rounds * sum(stocks) / 2, kind
        assert max(row["drops"] for row in transactions) > 5, kind


@asynccontextmanager
async def held_up(owner: asyncpg.Pool, kind: str, drop_id: UUID) -> AsyncIterator[None]:
    """While somebody has locked what such requests for the drop need."""
    async with owner.acquire() as session, session.transaction():
        await session.execute(HOLD_UP_PURCHASES if kind == "purchase" else HOLD_UP, [drop_id])
        yield


@pytest.mark.parametrize("place", [0, 10, 19])
@pytest.mark.parametrize("kind", ["reserve", "purchase", "cancel"])
async def test_a_busy_drop_among_many(client: Client, owner: asyncpg.Pool, kind: str, place: int) -> None:
    """Whatever its place among them: the others are served while it is locked, over and over; it is afterwards."""
    market = await Market.open(owner, [20] * 20, 4)
    stuck = market.drops[place]
    free = [drop_id for drop_id in market.drops if drop_id != stuck]
    if kind != "reserve":
        await market.hold(market.drops, list(market.users))
    connections = await client.connections(80)
    success = 200 if kind == "cancel" else 201
    pending: dict[Place, Pending] = {}
    async with held_up(owner, kind, stuck):
        for n, user in enumerate(market.users):
            places = [(drop_id, user) for drop_id in market.drops]
            random.Random(n).shuffle(places)  # noqa: S311 - a run to repeat, not a secret
            sent = dict(zip(places, market.send_all(connections[20 * n :], kind, places), strict=False))
            pending[stuck, user] = sent.pop((stuck, user))
            async with asyncio.timeout(SOON_SECONDS):
                answers = [await answer for answer in sent.values()]
            assert codes(answers) == [success] * 19
            assert_own(list(sent), answers)
        assert not any(request.done() for request in pending.values())
        assert {await available_stock(owner, str(drop_id)) for drop_id in free} == {20 if kind == "cancel" else 16}
    answers = await all_soon(pending.values())
    assert codes(answers) == [success] * 4
    assert_own(list(pending), answers)
    status = {"reserve": "ACTIVE", "purchase": "CONSUMED", "cancel": "CANCELLED"}[kind]
    assert [await statuses(owner, drop_id) for drop_id in market.drops] == [{status: 4}] * 20


async def test_many_busy_drops_hold_up_no_other(client: Client, owner: asyncpg.Pool) -> None:
    """Each is asked for alone, and is more than may be called for at a time."""
    market = await Market.open(owner, [5] * 8, 2)
    free, *stuck = market.drops
    async with locked(owner, *stuck):
        pending = []
        for n, drop_id in enumerate(stuck):
            pending.append(await client.reserve(drop_id, market.users[0]))
            await waiting(owner, n + 1)
        async with asyncio.timeout(SOON_SECONDS):
            assert codes([await (await client.reserve(free, user)) for user in market.users]) == [201, 201]
        assert not any(request.done() for request in pending)
    assert codes(await all_soon(pending)) == [201] * 7


async def test_those_who_wait_for_a_busy_drop_are_served_in_order(client: Client, owner: asyncpg.Pool) -> None:
    """Though its first request came together with those for other drops."""
    market = await Market.open(owner, [10] * 5, 12)
    stuck = market.drops[2]
    connections = await client.connections(5)
    places = [(drop_id, market.users[0]) for drop_id in market.drops]
    async with locked(owner, stuck):
        pending = market.send_all(connections, "reserve", places)
        plug = pending.pop(2)
        assert codes(await all_soon(pending)) == [201] * 4
        pending = [await client.reserve(stuck, user) for user in market.users[1:]]
    assert codes(await all_soon([plug, *pending])) == [201] * 10 + ["OUT_OF_STOCK"] * 2


@pytest.mark.parametrize("kind", ["reserve", "purchase", "cancel"])
async def test_a_call_for_many_drops_does_not_wait_for_a_busy_one(owner: asyncpg.Pool, kind: str) -> None:
    """In SQL: it gives up soon, has done nothing, and leaves the session as it was; afterwards it is served."""
    market = await Market.open(owner, [5, 5, 5], 2)
    if kind != "reserve":
        await market.hold(market.drops, list(market.users))
    places = list(product(market.drops, market.users))
    drop_ids, user_ids = [drop_id for drop_id, _ in places], [user for _, user in places]
    calls: dict[str, tuple[Any, ...]] = {
        "reserve": (RESERVE_OF_MANY_DROPS, drop_ids, user_ids, None, 60),
        "purchase": (PURCHASE_OF_MANY_DROPS, drop_ids, user_ids, None),
        "cancel": (CANCEL, list(market.holds.values()), [user for _, user in market.holds]),
    }
    before = await market.stock(), [await statuses(owner, drop_id) for drop_id in market.drops]
    async with owner.acquire() as session:
        for drop_id in market.drops:
            async with held_up(owner, kind, drop_id), asyncio.timeout(SOON_SECONDS):
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await session.fetch(*calls[kind])
            assert await session.fetchval("show lock_timeout") == "0"
            assert (await market.stock(), [await statuses(owner, drop_id) for drop_id in market.drops]) == before
        rows = await session.fetch(*calls[kind])
        assert [(row["n"], row["code"]) for row in rows] == [(n, None) for n in range(1, 7)]


async def test_a_cancel_of_one_drop_waits_for_it(owner: asyncpg.Pool) -> None:
    """In SQL: however long that takes."""
    market = await Market.open(owner, [5], 3)
    await market.hold(market.drops, list(market.users))
    waits = "select wait_event_type = 'Lock' and clock_timestamp() - query_start > '0.3 s' from pg_stat_activity where pid = $1"
    async with owner.acquire() as session:
        async with locked(owner, *market.drops):
            cancels = asyncio.create_task(session.fetch(CANCEL, list(market.holds.values()), list(market.users)))
            await eventually(lambda: owner.fetchval(waits, session.get_server_pid()))
        assert [row["status"] for row in await cancels] == [200] * 3


async def connect_to_each(client: Client, service: Service, at_least: int) -> list[Connection]:
    """Connections of which each of the service's two processes has so many."""
    port = int(service.url.rsplit(":", 1)[1])
    connections: list[Connection] = []
    while True:
        connections += await client.connections(at_least)
        counts = [
            sum(socket.laddr.port == port and socket.status == "ESTABLISHED" for socket in process.net_connections("tcp"))
            for process in psutil.Process(service.process.pid).children(recursive=True)
        ]
        if sum(count >= at_least for count in counts) == 2:
            return connections


async def test_two_processes_sell_many_drops_exactly(database: Database, owner: asyncpg.Pool) -> None:
    """To the same users at once: every unit once. Then every hold is purchased and cancelled at once: one of the two succeeds."""
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="3600000", WEB_CONCURRENCY="2") as service:
        service.wait_until_ready()
        async with client_of(service.url) as client:
            connections = await connect_to_each(client, service, 100)
            market = await Market.open(owner, [3 + n % 5 for n in range(20)], 20)
            stocks = await market.stock()
            chance = random.Random(2)  # noqa: S311 - a run to repeat, not a secret

            async def ask(requests: list[tuple[str, Place]]) -> list[Answer]:
                lanes = [requests[n :: len(connections)] for n in range(len(connections))]

                async def ask_in_turn(connection: Connection, requests: list[tuple[str, Place]]) -> list[Answer]:
                    return [await soon(market.send(connection, kind, place)) for kind, place in requests]

                answers = await asyncio.gather(*map(ask_in_turn, connections, lanes))
                return [answers[n % len(connections)][n // len(connections)] for n in range(len(requests))]

            places = market.places()
            answers = await ask([("reserve", place) for place in places])
            assert_own(places, answers)
            met = Counter((place[0], code) for place, code in zip(places, codes(answers), strict=True))
            for drop_id, stock in zip(market.drops, stocks, strict=True):
                assert (met[drop_id, 201], met[drop_id, "OUT_OF_STOCK"]) == (stock, 20 - stock)
            assert await market.stock() == [0] * 20

            market.holds = {
                place: UUID(answer.row["id"]) for place, answer in zip(places, answers, strict=True) if answer.code is None
            }
            requests = [(kind, place) for place in market.holds for kind in chance.sample(["purchase", "cancel"], 2)]
            outcomes = dict(zip(requests, codes(await ask(requests)), strict=True))
            sold: Counter[UUID] = Counter()
            for place in market.holds:
                pair = outcomes["purchase", place], outcomes["cancel", place]
                assert pair in {(201, "RESERVATION_NOT_ACTIVE"), ("NO_ACTIVE_RESERVATION", 200)}
                sold[place[0]] += pair[0] == 201
            assert 0 < sold.total() < len(market.holds), "one of the two always won: no race"
            assert await market.stock() == [stock - sold[place] for place, stock in zip(market.drops, stocks, strict=True)]
        service.stop()


async def test_a_stampede_of_everything_on_many_drops(client: Client, owner: asyncpg.Pool) -> None:
    """Thousands of reserves, purchases and cancels while holds run out: what was answered is what is in the database, once."""
    market = await Market.open(owner, [5 + n % 4 for n in range(20)], 30)
    stocks, places = await market.stock(), market.places()
    chance = random.Random(3)  # noqa: S311 - a run to repeat, not a secret
    done: Counter[tuple[str, UUID]] = Counter()
    met: Counter[object] = Counter()
    lapse = (
        "update inventory.reservations set expires_at = now() where id = any (array("
        "select id from inventory.reservations where status = 'ACTIVE' and drop_id = any ($1)"
        " limit 3 for no key update skip locked))"
    )

    async def ask(connection: Connection) -> None:
        for _ in range(60):
            kind = chance.choices(["reserve", "purchase", "cancel"], [50, 8, 42])[0] if market.holds else "reserve"
            place = chance.choice(places if kind == "reserve" else list(market.holds))
            pending = market.send(connection, kind, place, chance.choice([None, None, None, "key-1", "key-2"]))
            if kind != "reserve" and chance.random() < 0.5:  # else somebody else will go for it, too
                del market.holds[place]
            answer = await soon(pending)
            met[kind, answer.code or answer.status] += 1
            if answer.code is None:
                assert (answer.row["drop_id"], answer.row["user_id"]) == tuple(map(str, place))
                if "idempotency-replayed" not in answer.headers:
                    done[kind, place[0]] += 1
                if kind == "reserve":
                    market.holds[place] = UUID(answer.row["id"])

    running = True

    async def pass_time() -> None:
        while running:
            await owner.execute(lapse, market.drops)
            await owner.fetch("select count(*) from api.expire_reservations(20)")

    clock = asyncio.create_task(pass_time())
    async with asyncio.timeout(6 * SLOW_CALL_SECONDS):
        await asyncio.gather(*map(ask, await client.connections(100)))
    running = False
    await clock
    assert met.total() == 6000
    rare = {("purchase", 200), ("purchase", "RESERVATION_EXPIRED"), ("cancel", "RESERVATION_EXPIRED")}
    assert set(met) | rare == {
        *(("reserve", code) for code in (201, 200, "ALREADY_RESERVED", "OUT_OF_STOCK")),
        *(("purchase", code) for code in (201, 200, "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED")),
        *(("cancel", code) for code in (200, "RESERVATION_NOT_ACTIVE", "RESERVATION_EXPIRED")),
    }
    expired = 0
    for drop_id, stock in zip(market.drops, stocks, strict=True):
        found = await statuses(owner, drop_id)
        expired += found["EXPIRED"]
        assert found.total() == done["reserve", drop_id]
        assert (found["CONSUMED"], found["CANCELLED"]) == (done["purchase", drop_id], done["cancel", drop_id])
        assert await available_stock(owner, str(drop_id)) == stock - found["CONSUMED"] - found["ACTIVE"]
    assert expired > 0


async def test_a_busy_drop_holds_up_no_other(client: Client, owner: asyncpg.Pool) -> None:
    """Reserves, purchases and the list go on while somebody sits on another drop, for which many wait."""
    stuck, free, users = await make_drop_by_sql(owner, 50), await make_drop_by_sql(owner, 50), await make_users(owner, 30)
    async with locked(owner, stuck):
        pending = [await client.reserve(stuck, user) for user in users]
        await waiting(owner, 1)
        for user in users[:10]:
            assert codes([await soon(await client.reserve(free, user))]) == [201]
            assert codes([await soon(await client.purchase(free, user))]) == [201]
        assert (await client.get("/drops")).status == 200
        assert not any(request.done() for request in pending)
    assert codes(await all_soon(pending)) == [201] * 30


async def test_a_busy_drop_holds_up_no_cancel_on_another(client: Client, owner: asyncpg.Pool) -> None:
    """While one waits for it."""
    free, stuck, [user] = await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5), await make_users(owner, 1)
    holds = {drop_id: (await hold(owner, drop_id, [user]))[user] for drop_id in (free, stuck)}
    async with locked(owner, stuck):
        await client.cancel(holds[stuck], user)
        await waiting(owner, 1)
        async with asyncio.timeout(SOON_SECONDS):
            assert (await (await client.cancel(holds[free], user))).status == 200


async def test_a_busy_drop_holds_up_no_reserve_on_another(client: Client, owner: asyncpg.Pool) -> None:
    """Where somebody cancelled at the same moment as somebody else on the busy one."""
    first, [user, other] = await make_drop_by_sql(owner, 5), await make_users(owner, 2)
    free, stuck = sorted([await make_drop_by_sql(owner, 5), await make_drop_by_sql(owner, 5)])
    holds = {drop_id: (await hold(owner, drop_id, [user]))[user] for drop_id in (first, free, stuck)}
    async with locked(owner, stuck):
        async with locked(owner, first):
            pending = await client.cancel(holds[first], user)
            await waiting(owner, 1)
            await client.cancel(holds[free], user)
            await client.cancel(holds[stuck], user)
        assert (await soon(pending)).status == 200
        await waiting(owner, 1)
        async with asyncio.timeout(SOON_SECONDS):
            assert (await (await client.reserve(free, other))).status == 201
