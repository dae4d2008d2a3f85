"""Requests for many drops at once: they share transactions, a busy drop holds up no other, and every drop sells exactly."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import asyncpg
import psutil
import pytest

from tests.support.batch_statements import CANCEL, PURCHASE_OF_MANY_DROPS, RESERVE_OF_MANY_DROPS, SWEEP
from tests.support.database import Database
from tests.support.factories import available_stock, hold, make_drop_by_sql, make_some_due, make_users, statuses
from tests.support.ordered_requests import (
    LIST_DROPS,
    TIMEOUT_SECONDS,
    Answer,
    Client,
    Connection,
    Pending,
    Request,
    all_soon,
    cancel,
    client_of,
    codes,
    lock_waits,
    locked,
    purchase,
    reserve,
    soon,
)
from tests.support.servers import Service, started
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("healthy")

SHARED = """
select count(distinct drop_id) as drops from inventory.reservations
where drop_id = any ($1) and $2 = 'reserve' group by created_at
union all
select count(distinct drop_id) from inventory.purchases where drop_id = any ($1) and $2 = 'purchase' group by created_at
union all
select count(distinct drop_id) from inventory.reservations
where drop_id = any ($1) and status = 'CANCELLED' and $2 = 'cancel' group by updated_at
"""
"""For each transaction of a kind, for how many drops it was."""

SOON_SECONDS = 4  # a call gives up waiting for a lock after 5
SUCCESS = {"reserve": 201, "purchase": 201, "cancel": 200}
AFTERWARDS = {"reserve": "ACTIVE", "purchase": "CONSUMED", "cancel": "CANCELLED"}

Place = tuple[str, str]
"""A drop and a user."""


class Crowd:
    """Some drops, and users who all want all of them."""

    def __init__(self, owner: asyncpg.Pool, drops: Sequence[str], users: list[str]) -> None:
        self.owner = owner
        self.drops = drops
        self.users = users
        self.holds: dict[Place, str] = {}

    @classmethod
    async def make(cls, owner: asyncpg.Pool, stocks: Iterable[int], user_count: int, *, hold_all: bool = False) -> "Crowd":
        """A drop of each of these stocks, in the order of their ids, and new users; with `hold_all` each user holds each drop."""
        drops = sorted([await make_drop_by_sql(owner, stock) for stock in stocks])
        crowd = cls(owner, drops, await make_users(owner, user_count))
        for drop_id in drops if hold_all else []:
            holds = await hold(owner, drop_id, crowd.users)
            crowd.holds |= {(drop_id, user): reservation_id for user, reservation_id in holds.items()}
        return crowd

    def request(self, kind: str, place: Place, key: str | None = None) -> Request:
        """A request of this kind for the drop by the user."""
        if kind == "cancel":
            return cancel(self.holds[place], place[1])
        return (reserve if kind == "reserve" else purchase)(*place, key)

    def places(self, seed: int = 1) -> list[Place]:
        """Every user at every drop, in random order."""
        places = list(product(self.drops, self.users))
        random.Random(seed).shuffle(places)  # noqa: S311 - a run to repeat, not a secret
        return places

    def note_holds(self, places: Sequence[Place], answers: Sequence[Answer]) -> None:
        """Remember the holds that these answers to reserves confirm, and no others."""
        found = zip(places, answers, strict=True)
        self.holds = {place: answer.row["id"] for place, answer in found if answer.code is None}

    async def stock(self) -> list[int]:
        """How many units of each drop are left."""
        return [await available_stock(self.owner, drop_id) for drop_id in self.drops]

    async def statuses(self) -> list[Counter[str]]:
        """How many reservations of each drop have each status."""
        return [await statuses(self.owner, drop_id) for drop_id in self.drops]


def assert_own(places: Sequence[Place], answers: Sequence[Answer]) -> None:
    """There are successes, and each is of the drop and the user that asked for it."""
    served = [(place, answer.row) for place, answer in zip(places, answers, strict=True) if answer.code is None]
    assert served
    assert [place for place, _ in served] == [(row["drop_id"], row["user_id"]) for _, row in served]


async def test_many_drops_share_transactions(client: Client, owner: asyncpg.Pool) -> None:
    """Each request has its own outcome; there are far fewer transactions than requests, and than there would be drop by drop."""
    crowd = await Crowd.make(owner, [4 + n % 3 for n in range(20)], 8)
    stocks = await crowd.stock()
    for round_number in range(3):
        places = crowd.places(round_number)
        answers = await client.ask_at_once(crowd.request("reserve", place) for place in places)
        assert_own(places, answers)
        met = Counter((place[0], code) for place, code in zip(places, codes(answers), strict=True))
        for drop_id, stock in zip(crowd.drops, stocks, strict=True):
            assert (met[drop_id, 201], met[drop_id, "OUT_OF_STOCK"]) == (stock, 8 - stock)
        assert await crowd.stock() == [0] * 20
        crowd.note_holds(places, answers)
        kind = "purchase" if round_number == 2 else "cancel"
        answers = await client.ask_at_once(crowd.request(kind, place) for place in crowd.holds)
        assert_own(list(crowd.holds), answers)
        assert codes(answers) == [SUCCESS[kind]] * sum(stocks)
        assert await crowd.stock() == ([0] * 20 if kind == "purchase" else stocks)
    for kind, rounds in (("reserve", 3), ("cancel", 2), ("purchase", 1)):
        drops_shared = [row["drops"] for row in await owner.fetch(SHARED, crowd.drops, kind)]
        assert len(drops_shared) < rounds * sum(stocks) / 2, kind
        assert max(drops_shared) > 5, kind


@pytest.mark.parametrize("place", [0, 10, 19])
@pytest.mark.parametrize("kind", SUCCESS)
async def test_a_busy_drop_among_many(client: Client, owner: asyncpg.Pool, kind: str, place: int) -> None:
    """While one drop is locked the others, and the list, are served again and again; afterwards the locked one is served."""
    crowd = await Crowd.make(owner, [20] * 20, 4, hold_all=kind != "reserve")
    stuck = crowd.drops[place]
    pending: dict[Place, Pending] = {}
    async with locked(owner, stuck, kind=kind):
        for n, user in enumerate(crowd.users):
            places = random.Random(n).sample([(drop_id, user) for drop_id in crowd.drops], 20)  # noqa: S311
            sent = await client.send_at_once(crowd.request(kind, place) for place in places)
            answers = dict(zip(places, sent, strict=True))
            pending[stuck, user] = answers.pop((stuck, user))
            async with asyncio.timeout(SOON_SECONDS):
                served = await asyncio.gather(*answers.values())
            assert codes(served) == [SUCCESS[kind]] * 19
            assert_own(list(answers), served)
        assert codes(await client.ask(LIST_DROPS)) == [200]
        assert not any(request.done() for request in pending.values())
        free = [available for drop_id, available in zip(crowd.drops, await crowd.stock(), strict=True) if drop_id != stuck]
        assert set(free) == {20 if kind == "cancel" else 16}
    answers_of_stuck = await all_soon(pending.values())
    assert codes(answers_of_stuck) == [SUCCESS[kind]] * 4
    assert_own(list(pending), answers_of_stuck)
    assert await crowd.statuses() == [{AFTERWARDS[kind]: 4}] * 20


async def test_many_busy_drops_hold_up_no_other(client: Client, owner: asyncpg.Pool) -> None:
    """Each busy drop takes a call of its own, and there are more of them than calls that may be in flight."""
    crowd = await Crowd.make(owner, [5] * 8, 2)
    free, *stuck = crowd.drops
    async with locked(owner, *stuck):
        pending = []
        for n, drop_id in enumerate(stuck):
            pending += await client.send(reserve(drop_id, crowd.users[0]))
            await lock_waits(owner, n + 1)
        async with asyncio.timeout(SOON_SECONDS):
            assert codes(await client.ask(*(reserve(free, user) for user in crowd.users))) == [201, 201]
        assert not any(request.done() for request in pending)
    assert codes(await all_soon(pending)) == [201] * 7


async def test_requests_for_a_busy_drop_are_served_in_order(client: Client, owner: asyncpg.Pool) -> None:
    """The order holds although the first request came together with requests for other drops."""
    crowd = await Crowd.make(owner, [10] * 5, 12)
    stuck, first_user = crowd.drops[2], crowd.users[0]
    async with locked(owner, stuck):
        pending = await client.send_at_once(reserve(drop_id, first_user) for drop_id in crowd.drops)
        first = pending.pop(2)
        assert codes(await all_soon(pending)) == [201] * 4
        pending = await client.send(*(reserve(stuck, user) for user in crowd.users[1:]))
    assert codes(await all_soon([first, *pending])) == [201] * 10 + ["OUT_OF_STOCK"] * 2


async def test_cancels_for_several_drops_keep_none_locked(client: Client, owner: asyncpg.Pool) -> None:
    """A call that cancels on a free and on a busy drop does not lock the free one while it waits for the busy one."""
    crowd = await Crowd.make(owner, [5] * 3, 2)
    (first, free, stuck), [user, other] = crowd.drops, crowd.users
    holds = {drop_id: (await hold(owner, drop_id, [user]))[user] for drop_id in crowd.drops}
    async with locked(owner, stuck):
        async with locked(owner, first):
            pending = await client.send(cancel(holds[first], user))
            await lock_waits(owner, 1)
            await client.send(cancel(holds[free], user), cancel(holds[stuck], user))  # these two share the next call
        assert codes(await all_soon(pending)) == [200]
        await lock_waits(owner, 1)
        async with asyncio.timeout(SOON_SECONDS):
            assert codes(await client.ask(reserve(free, other))) == [201]


@pytest.mark.parametrize("kind", SUCCESS)
async def test_a_call_for_many_drops_does_not_wait_for_a_busy_one(owner: asyncpg.Pool, kind: str) -> None:
    """In SQL: it gives up soon, has no effect, and leaves the session as it was; once the drop is free it succeeds."""
    crowd = await Crowd.make(owner, [5, 5, 5], 2, hold_all=kind != "reserve")
    drop_ids, user_ids = map(list, zip(*product(crowd.drops, crowd.users), strict=True))
    calls: dict[str, tuple[Any, ...]] = {
        "reserve": (RESERVE_OF_MANY_DROPS, drop_ids, user_ids, None, 60),
        "purchase": (PURCHASE_OF_MANY_DROPS, drop_ids, user_ids, None),
        "cancel": (CANCEL, list(crowd.holds.values()), [user for _, user in crowd.holds]),
    }
    before = await crowd.stock(), await crowd.statuses()
    async with owner.acquire() as session:
        for drop_id in crowd.drops:
            async with locked(owner, drop_id, kind=kind), asyncio.timeout(SOON_SECONDS):
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await session.fetch(*calls[kind])
            assert await session.fetchval("show lock_timeout") == "0"
            assert (await crowd.stock(), await crowd.statuses()) == before
        rows = await session.fetch(*calls[kind])
        assert [(row["n"], row["code"]) for row in rows] == [(n, None) for n in range(1, 7)]


@pytest.mark.parametrize("kind", ["reserve", "purchase of due holds"])
async def test_drops_are_locked_in_the_order_of_their_ids(owner: asyncpg.Pool, kind: str) -> None:
    """In SQL, without the short timeout: a call that waits for one drop has locked those before it and none after it."""
    crowd = await Crowd.make(owner, [5] * 6, 1, hold_all=kind != "reserve")
    if kind != "reserve":
        await make_some_due(owner, list(crowd.drops), len(crowd.drops))
    requests = [(drop_id, crowd.users[0], None, None, *([None] if kind == "reserve" else [])) for drop_id in crowd.drops]
    call = (
        "select * from inventory.reserve_on_drops($1::api.reserve_request[], 60)"
        if kind == "reserve"
        else "select * from inventory.purchase_on_drops($1::api.purchase_request[])"
    )
    free = "select array(select id::text from inventory.drops where id = any ($1) order by id for no key update skip locked)"
    random.Random(3).shuffle(requests)  # noqa: S311 - a run to repeat, not a secret
    async with owner.acquire() as session:
        for place, drop_id in enumerate(crowd.drops):
            transaction = session.transaction()
            await transaction.start()
            async with locked(owner, drop_id):
                waiting = asyncio.create_task(session.fetch(call, requests))
                assert await lock_waits(owner, 1) == [session.get_server_pid()]
                assert await owner.fetchval(free, crowd.drops) == crowd.drops[place + 1 :]
            assert len(await waiting) == len(requests)
            await transaction.rollback()


async def test_a_cancel_of_one_drop_waits_for_it(owner: asyncpg.Pool) -> None:
    """In SQL: a call for a single drop waits for its lock longer than a call for several would."""
    crowd = await Crowd.make(owner, [5], 3, hold_all=True)
    waits = "select wait_event_type = 'Lock' and clock_timestamp() - query_start > '0.3 s' from pg_stat_activity where pid = $1"
    async with owner.acquire() as session:
        async with locked(owner, *crowd.drops):
            cancels = asyncio.create_task(session.fetch(CANCEL, list(crowd.holds.values()), crowd.users))
            await eventually(lambda: owner.fetchval(waits, session.get_server_pid()))
        assert [row["status"] for row in await cancels] == [200] * 3


async def connect_to_each(client: Client, service: Service, at_least: int) -> list[Connection]:
    """Connections of which each of the service's two processes has at least so many."""
    port = int(service.url.rsplit(":", 1)[1])
    connections: list[Connection] = []
    while True:
        connections += [await client.connect() for _ in range(at_least)]
        counts = [
            sum(socket.laddr.port == port and socket.status == "ESTABLISHED" for socket in process.net_connections("tcp"))
            for process in psutil.Process(service.process.pid).children(recursive=True)
        ]
        if sum(count >= at_least for count in counts) == 2:
            return connections


async def ask_in_turn(connection: Connection, requests: list[Request]) -> list[Answer]:
    """Send the requests one after the other on one connection; returns the answers."""
    return [await soon(connection.send(request)) for request in requests]


@pytest.mark.slow
async def test_two_processes_sell_many_drops_exactly(database: Database, owner: asyncpg.Pool) -> None:
    """Every unit is sold once to the same users at once; of a purchase and a cancel of one hold at once exactly one succeeds."""
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="3600000", WEB_CONCURRENCY="2") as service:
        service.wait_until_ready()
        async with client_of(service.url) as client:
            connections = await connect_to_each(client, service, 100)
            crowd = await Crowd.make(owner, [3 + n % 5 for n in range(20)], 20)
            stocks, places, count = await crowd.stock(), crowd.places(), len(connections)
            chance = random.Random(2)  # noqa: S311 - a run to repeat, not a secret

            async def ask(requests: list[Request]) -> list[Answer]:
                parts = (ask_in_turn(connection, requests[n::count]) for n, connection in enumerate(connections))
                answers = await asyncio.gather(*parts)
                return [answers[n % count][n // count] for n in range(len(requests))]

            answers = await ask([crowd.request("reserve", place) for place in places])
            assert_own(places, answers)
            met = Counter((place[0], code) for place, code in zip(places, codes(answers), strict=True))
            for drop_id, stock in zip(crowd.drops, stocks, strict=True):
                assert (met[drop_id, 201], met[drop_id, "OUT_OF_STOCK"]) == (stock, 20 - stock)
            assert await crowd.stock() == [0] * 20

            crowd.note_holds(places, answers)
            early: list[tuple[str, Place]] = []
            late: list[tuple[str, Place]] = []
            for number, place in enumerate(crowd.holds):
                first, second = chance.sample(["purchase", "cancel"], 2)
                (late if number % 10 else early).append((first, place))  # every tenth duel has a winner that is known
                late.append((second, place))
            outcomes: dict[tuple[str, Place], object] = {}
            for duels in early, late:
                outcomes |= zip(duels, codes(await ask([crowd.request(*duel) for duel in duels])), strict=True)
            assert {(kind, outcomes[kind, place]) for kind, place in early} == {("purchase", 201), ("cancel", 200)}
            sold: Counter[str] = Counter()
            for place in crowd.holds:
                pair = outcomes["purchase", place], outcomes["cancel", place]
                assert pair in {(201, "RESERVATION_NOT_ACTIVE"), ("NO_ACTIVE_RESERVATION", 200)}
                sold[place[0]] += pair[0] == 201
            assert await crowd.stock() == [stock - sold[drop_id] for drop_id, stock in zip(crowd.drops, stocks, strict=True)]
        service.stop()


@pytest.mark.parametrize("requests_each", [20, pytest.param(60, marks=pytest.mark.slow)])
async def test_a_stampede_of_everything_on_many_drops(client: Client, owner: asyncpg.Pool, requests_each: int) -> None:
    """Thousands of reserves, purchases and cancels while holds run out: the database has what was answered, once."""
    crowd = await Crowd.make(owner, [5 + n % 4 for n in range(20)], 30)
    stocks, places = await crowd.stock(), crowd.places()
    chance = random.Random(3)  # noqa: S311 - a run to repeat, not a secret
    done: Counter[tuple[str, str]] = Counter()
    met: Counter[object] = Counter()
    seen: set[tuple[str, str]] = set()
    running = True

    async def ask(connection: Connection) -> None:
        for _ in range(requests_each):
            kind = chance.choices(["reserve", "purchase", "cancel"], [50, 8, 42])[0] if crowd.holds else "reserve"
            place = chance.choice(places if kind == "reserve" else list(crowd.holds))
            pending = connection.send(crowd.request(kind, place, chance.choice([None, None, None, "key-1", "key-2"])))
            if kind != "reserve" and chance.random() < 0.5:  # else another request for this hold may follow
                del crowd.holds[place]
            answer = await soon(pending)
            met[kind, answer.code or answer.status] += 1
            if answer.code is None:
                assert_own([place], [answer])
                if "idempotency-replayed" not in answer.headers and (kind, answer.row["id"]) not in seen:  # a cancel may repeat
                    seen.add((kind, answer.row["id"]))
                    done[kind, place[0]] += 1
                if kind == "reserve":
                    crowd.holds[place] = answer.row["id"]

    async def pass_time() -> None:
        while running:
            await make_some_due(owner, list(crowd.drops), 3)
            await owner.fetch(SWEEP, 20)

    clock = asyncio.create_task(pass_time())
    async with asyncio.timeout(6 * TIMEOUT_SECONDS):
        await asyncio.gather(*[ask(await client.connect()) for _ in range(100)])
    running = False
    await clock
    await owner.fetch(SWEEP, 1000)  # the last sweep of the clock may have passed over a drop that a request had locked
    assert met.total() == 100 * requests_each
    rare = {("purchase", 200), ("purchase", "RESERVATION_EXPIRED"), ("cancel", "RESERVATION_EXPIRED")}
    assert set(met) | rare == {
        *(("reserve", code) for code in (201, 200, "ALREADY_RESERVED", "OUT_OF_STOCK")),
        *(("purchase", code) for code in (201, 200, "NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED")),
        *(("cancel", code) for code in (200, "RESERVATION_NOT_ACTIVE", "RESERVATION_EXPIRED")),
    }
    found = await crowd.statuses()
    for drop_id, stock, available, of_drop in zip(crowd.drops, stocks, await crowd.stock(), found, strict=True):
        assert of_drop.total() == done["reserve", drop_id]
        assert (of_drop["CONSUMED"], of_drop["CANCELLED"]) == (done["purchase", drop_id], done["cancel", drop_id])
        assert available == stock - of_drop["CONSUMED"] - of_drop["ACTIVE"]
    assert sum(of_drop["EXPIRED"] for of_drop in found) > 0
