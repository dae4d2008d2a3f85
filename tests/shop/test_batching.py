"""Batching over HTTP: nobody can tell whether requests shared a call, and what one of them meets is not the others' trouble."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.database.test_recovery import LISTENERS
from tests.shop.test_races import healthy
from tests.support.batching import (
    HOLD_UP,
    HOLD_UP_PURCHASES,
    SLOW_CALL_SECONDS,
    WAITING,
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
from tests.support.database import Database, running_api
from tests.support.factories import available_stock, make_drop_by_sql, make_users, statuses
from tests.support.servers import started
from tests.support.waiting import eventually

__all__ = ["client", "healthy"]  # every test ends with a clean audit and no deadlock

RESERVATIONS = (
    "select 'reservation', drop_id, user_id, id, status, idempotency_key from inventory.reservations where drop_id = any ($1)"
)
PURCHASES = (
    "select 'purchase', drop_id, user_id, reservation_id, status, idempotency_key from inventory.purchases"
    " where drop_id = any ($1)"
)


@dataclass
class Story:
    """A sequence of waves of requests that are sent at once, told to a service; and what came of it, in names of its own."""

    client: Client
    owner: asyncpg.Pool
    drops: list[UUID]
    users: list[UUID]
    names: dict[str, str] = field(default_factory=dict)
    latest: dict[tuple[int, int], UUID] = field(default_factory=dict)

    def name(self, value: Any) -> Any:
        """Of an id: when it was first seen; ids and times differ from telling to telling."""
        return self.names.setdefault(value, f"id {len(self.names)}")

    def told(self, answer: Answer) -> tuple[object, ...]:
        """The answer without what differs from telling to telling."""
        if answer.code:
            return answer.status, answer.code, answer.body["error"]["message"]
        row = {key: self.name(value) for key, value in answer.row.items() if key.endswith("id")}
        return answer.status, answer.headers.get("idempotency-replayed"), row, answer.row["status"], list(answer.row)

    async def ask(self, kind: str, drop: int, user: int, key: str | None) -> Pending:
        """Send one request."""
        if kind == "reserve":
            return await self.client.reserve(self.drops[drop], self.users[user], key)
        if kind == "purchase":
            return await self.client.purchase(self.drops[drop], self.users[user], key)
        return await self.client.cancel(self.latest.get((drop, user), self.drops[drop]), self.users[user])

    async def tell(self, waves: Sequence[tuple[str, Sequence[tuple[int, int, str | None]]]]) -> list[tuple[object, ...]]:
        """Everything that was answered, request by request."""
        for value in (*self.drops, *self.users):
            self.name(str(value))
        answers: list[tuple[object, ...]] = []
        for kind, requests in waves:
            async with self.owner.acquire() as session, session.transaction():
                await session.execute(HOLD_UP_PURCHASES if kind == "purchase" else HOLD_UP, self.drops)
                pending = [await self.ask(kind, *request) for request in requests]
            answered = await all_soon(pending)
            answers += [self.told(answer) for answer in answered]
            if kind == "reserve":
                for (drop, user, _), answer in zip(requests, answered, strict=True):
                    if answer.code is None:
                        self.latest[drop, user] = UUID(answer.row["id"])
        return answers

    async def state(self) -> list[tuple[object, ...]]:
        """All that is in the database of these drops."""
        rows: list[tuple[object, ...]] = []
        for statement in (RESERVATIONS, PURCHASES):
            for kind, drop_id, user_id, reservation_id, *others in await self.owner.fetch(statement, self.drops):
                rows.append((kind, *(self.name(str(value)) for value in (drop_id, user_id, reservation_id)), *others))
        stock = [("stock", await available_stock(self.owner, str(drop_id))) for drop_id in self.drops]
        return [*stock, *sorted(rows, key=str)]

    async def transactions(self) -> int:
        """In how many the holds were made, drop by drop: those of two may begin in the same microsecond."""
        count: int = await self.owner.fetchval(
            "select count(distinct (drop_id, created_at)) from inventory.reservations where drop_id = any ($1)", self.drops
        )
        return count


def waves(seed: int) -> list[tuple[str, list[tuple[int, int, str | None]]]]:
    """Waves of requests (drop, user, key) that meet every outcome."""
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    kinds = ["reserve", "reserve", "purchase", "cancel"] * 3
    keys = [None, None, "a", "b", f"c{seed}"]
    return [
        (kind, [(chance.randrange(2), chance.randrange(12), chance.choice(keys)) for _ in range(chance.randint(8, 24))])
        for kind in kinds
    ]


@pytest.fixture(scope="module")
def unbatched_url(database: Database) -> Iterator[str]:
    """The API that calls for each request alone."""
    with running_api(database.url, EXPIRY_POLL_MS="3600000", BATCH_MAX_SIZE="1") as url:
        yield url


async def test_batches_change_no_outcome(owner: asyncpg.Pool, api_url: str, unbatched_url: str) -> None:
    """The same waves, with and without batches: request by request the same answers, and the same rows in the end."""
    met: Counter[object] = Counter()
    for seed in range(2):
        told, transactions = [], []
        for url in (unbatched_url, api_url):
            async with client_of(url) as client:
                drops, users = [await make_drop_by_sql(owner, 6), await make_drop_by_sql(owner, 4)], await make_users(owner, 12)
                story = Story(client, owner, drops, users)
                told.append((await story.tell(waves(seed)), await story.state()))
                transactions.append(await story.transactions())
        assert told[0] == told[1]
        answers, state = told[0]
        assert transactions[1] < transactions[0] == sum(row[0] == "reservation" for row in state), "there were no batches"
        met.update(answer[:2] for answer in answers)
    assert set(met) >= {
        (201, None),
        (200, "true"),
        (200, None),
        (409, "OUT_OF_STOCK"),
        (409, "ALREADY_RESERVED"),
        (409, "NO_ACTIVE_RESERVATION"),
        (409, "RESERVATION_NOT_ACTIVE"),
        (404, "RESERVATION_NOT_FOUND"),
    }


async def test_batches_change_no_count(owner: asyncpg.Pool, api_url: str, unbatched_url: str) -> None:
    """The same stampede in no order: who gets a unit is a matter of luck, how many are told what is not."""
    counts = []
    for url in (unbatched_url, api_url):
        async with client_of(url) as client:
            drop_id, users = await make_drop_by_sql(owner, 20), await make_users(owner, 60)
            asks = [*users, *users]
            random.Random(1).shuffle(asks)  # noqa: S311
            connections = await client.connections(len(asks))
            for action in ("reserve", "purchase"):
                pending = [
                    connection.send("POST", f"/api/drops/{drop_id}/{action}", user)
                    for connection, user in zip(connections, asks, strict=True)
                ]
                counts.append((action, Counter(codes(await all_soon(pending)))))
            counts.append(("in the end", await statuses(owner, drop_id)))
    assert counts[:3] == counts[3:]
    assert counts[:3] == [
        ("reserve", {201: 20, "ALREADY_RESERVED": 20, "OUT_OF_STOCK": 80}),
        ("purchase", {201: 20, "NO_ACTIVE_RESERVATION": 100}),
        ("in the end", {"CONSUMED": 20}),
    ]


async def test_requests_of_one_user_in_one_call(client: Client, owner: asyncpg.Pool) -> None:
    """They behave as if one came after the other, with and without an Idempotency-Key."""
    drop_id, [first, user, keyed, mixed] = await make_drop_by_sql(owner, 10), await make_users(owner, 4)
    async with locked(owner, drop_id):
        plug = await client.reserve(drop_id, first)
        await waiting(owner, 1)
        bare = [await client.reserve(drop_id, user) for _ in range(10)]
        same = [await client.reserve(drop_id, keyed, "the-same") for _ in range(10)]
        various = [await client.reserve(drop_id, mixed, key) for key in ("a", "a", None, "b", "a")]
        assert not any(pending.done() for pending in [plug, *bare, *same, *various])
    assert (await soon(plug)).status == 201
    answers = [await all_soon(pending) for pending in (bare, same, various)]
    assert codes(answers[0]) == [201] + ["ALREADY_RESERVED"] * 9
    assert codes(answers[1]) == [201] + [200] * 9
    assert [answer.headers.get("idempotency-replayed") for answer in answers[1]] == [None] + ["true"] * 9
    assert all(answer.row == answers[1][0].row for answer in answers[1])
    assert codes(answers[2]) == [201, 200, "ALREADY_RESERVED", "ALREADY_RESERVED", 200]
    held = {answer.row["createdAt"] for group in answers for answer in group if answer.code is None}
    assert len(held) == 1, "they shared no call"
    assert await available_stock(owner, str(drop_id)) == 6


@pytest.mark.parametrize("batched", [True, False])
async def test_who_came_first_gets_the_last_units(owner: asyncpg.Pool, api_url: str, unbatched_url: str, batched: bool) -> None:
    """Whatever their ids, and however many calls it takes."""
    async with client_of(api_url if batched else unbatched_url) as client:
        for stock in (1, 7, 29):
            drop_id, users = await make_drop_by_sql(owner, stock), await make_users(owner, 30)
            random.Random(stock).shuffle(users)  # noqa: S311
            async with locked(owner, drop_id):
                pending = [await client.reserve(drop_id, user) for user in users]
                await waiting(owner, 1)
                assert not any(request.done() for request in pending)
            assert codes(await all_soon(pending)) == [201] * stock + ["OUT_OF_STOCK"] * (30 - stock)


async def test_overload(database: Database, owner: asyncpg.Pool) -> None:
    """MAX_PENDING wait, the others are refused at once; what was let in is served, and afterwards there is room again."""
    settings = {"EXPIRY_POLL_MS": "3600000", "MAX_PENDING": "20", "BATCH_MAX_SIZE": "7"}
    with running_api(database.url, **settings) as url:
        async with client_of(url) as client:
            drop_id = await make_drop_by_sql(owner, 1000)
            for _ in range(2):
                users = await make_users(owner, 60)
                async with locked(owner, drop_id):
                    pending = [await client.reserve(drop_id, user) for user in users]
                    refused = await all_soon(pending[20:])
                    assert codes(refused) == ["OVERLOADED"] * 40
                    assert [(answer.status, answer.headers["retry-after"]) for answer in refused] == [(503, "1")] * 40
                    await waiting(owner, 1)
                    assert (await client.get("/drops")).status == 200  # other kinds have places of their own
                    assert codes([await soon(await client.purchase(drop_id, users[0]))]) == ["NO_ACTIVE_RESERVATION"]
                    assert not any(request.done() for request in pending[:20])
                assert codes(await all_soon(pending[:20])) == [201] * 20
                again = [await soon(await client.reserve(drop_id, user)) for user in users[20:25]]
                assert codes(again) == [201] * 5
            assert await available_stock(owner, str(drop_id)) == 950


COUNTED = """
create sequence inventory.calls;
alter function api.list_drops() rename to list_drops_uncounted;
create function api.list_drops() returns setof json language plpgsql security definer as $$
declare
  v_drops json[] := array(select to_json(d) from api.list_drops_uncounted() d);
begin
  perform nextval('inventory.calls');
  perform pg_advisory_xact_lock_shared(42);
  return query select unnest(v_drops);
end
$$;
grant execute on function api.list_drops() to lastpair_api;
"""
"""Counts its calls, and keeps an answer that it has back for as long as somebody else has the lock 42."""


class Listing:
    """A service whose calls of api.list_drops are counted and can be held up when they have their answer."""

    def __init__(self, client: Client, session: asyncpg.Connection) -> None:
        self.client = client
        self.session = session

    @property
    async def calls(self) -> int:
        """So far."""
        count: int = await self.session.fetchval("select case when is_called then last_value else 0 end from inventory.calls")
        return count

    @asynccontextmanager
    async def held_up(self) -> AsyncIterator[None]:
        """While calls do not return."""
        async with self.session.transaction():
            await self.session.execute("select pg_advisory_xact_lock(42)")
            yield

    async def stock(self, pending: Pending, drop_id: UUID) -> int:
        """What the answer says of the drop's stock."""
        answer = await soon(pending)
        assert answer.status == 200
        [stock] = [drop["available_stock"] for drop in answer.row if drop["id"] == str(drop_id)]
        return int(stock)


@pytest.fixture
async def listing(empty_url: str) -> AsyncIterator[Listing]:
    """On a database of its own."""
    with running_api(empty_url, EXPIRY_POLL_MS="3600000") as url:
        session = await asyncpg.connect(empty_url)
        await session.execute(COUNTED)
        async with client_of(url) as client:
            yield Listing(client, session)
        assert await session.fetch("select * from api.audit()") == []
        await session.close()


async def test_a_list_of_drops_is_shared_and_never_older_than_its_request(listing: Listing) -> None:
    """200 at once take two calls; one that comes when a call has its answer already is not given that one."""
    client, owner = listing.client, listing.session
    drop_id, users = await make_drop_by_sql(owner, 100), await make_users(owner, 3)
    connections = await client.connections(200)

    async with listing.held_up():
        early = [await client.send("GET", "/drops") for _ in range(3)]
        await waiting(owner, 1)
        assert await listing.calls == 1
        for user in users:
            assert (await soon(await client.reserve(drop_id, user))).status == 201
            early.append(await client.send("GET", "/drops"))
        many = [connection.send("GET", "/api/drops") for connection in connections]
        await client.begun()
        assert await listing.calls == 1
    assert [await listing.stock(pending, drop_id) for pending in many] == [97] * 200
    stocks = [await listing.stock(pending, drop_id) for pending in early]
    assert stocks[0] == 100, "its call had not begun before the change"
    assert stocks[3:] == [97] * 3
    assert await listing.calls == 2


async def test_lists_of_drops_under_change(listing: Listing) -> None:
    """Nobody is shown more stock than there was when the request was sent, or less than in the end; calls are shared."""
    client, owner = listing.client, listing.session
    drop_id, users = await make_drop_by_sql(owner, 1000), await make_users(owner, 60)
    confirmed = requests = 0

    async def read(connection: Connection) -> None:
        nonlocal requests
        while confirmed < len(users):
            known = confirmed
            requests += 1
            assert 940 <= await listing.stock(connection.send("GET", "/api/drops"), drop_id) <= 1000 - known

    readers = [asyncio.create_task(read(connection)) for connection in await client.connections(30)]
    [buyer] = await client.connections(1)
    for user in users:
        assert (await soon(buyer.send("POST", f"/api/drops/{drop_id}/reserve", user))).status == 201
        confirmed += 1
    await asyncio.wait_for(asyncio.gather(*readers), SLOW_CALL_SECONDS)
    assert await listing.calls < requests / 4


async def test_a_session_lost_in_the_middle_of_a_batch(client: Client, database: Database, owner: asyncpg.Pool) -> None:
    """Those in flight are told 503 and nothing took effect; those that waited are served; everybody may come again."""
    drop_id, users = await make_drop_by_sql(owner, 100), await make_users(owner, 12)
    superuser = await asyncpg.connect(database.superuser_url)
    async with locked(owner, drop_id):
        pending = [await client.reserve(drop_id, user, "once") for user in users[:6]]
        [pid] = await waiting(owner, 1)
        assert await superuser.fetchval("select pg_terminate_backend($1)", pid)
        lost = [await soon(pending[0])]
        [pid] = await waiting(owner, 1)  # the other five, in one call
        pending += [await client.reserve(drop_id, user, "once") for user in users[6:]]
        assert await superuser.fetchval("select pg_terminate_backend($1)", pid)
        lost += await all_soon(pending[1:6])
        await waiting(owner, 1)
        assert not any(request.done() for request in pending[6:])
    assert [(answer.status, answer.code, answer.headers["retry-after"]) for answer in lost] == [
        (503, "DATABASE_UNAVAILABLE", "1")
    ] * 6
    served = await all_soon(pending[6:])
    assert codes(served) == [201] * 6
    assert len({answer.row["createdAt"] for answer in served}) == 1
    assert await statuses(owner, drop_id) == {"ACTIVE": 6}
    again = [await client.reserve(drop_id, user, "once") for user in users]
    assert codes(await all_soon(again)) == [201] * 6 + [200] * 6
    assert await statuses(owner, drop_id) == {"ACTIVE": 12}
    await superuser.close()


async def test_a_client_that_goes_away_harms_nobody(client: Client, owner: asyncpg.Pool) -> None:
    """In flight or waiting; it may come again, and gets what it would have got."""
    drop_id, users = await make_drop_by_sql(owner, 100), await make_users(owner, 9)
    connections = await client.connections(len(users))
    pending = []
    async with locked(owner, drop_id):
        for connection, user in zip(connections, users, strict=True):
            pending.append(connection.send("POST", f"/api/drops/{drop_id}/reserve", user, "once"))
            await client.begun()
        await waiting(owner, 1)
        for n, connection in enumerate(connections):
            if n % 3 == 0:  # the first is in flight
                pending[n].cancel()
                connection.writer.transport.abort()
        await client.begun()
    assert codes(await all_soon(request for n, request in enumerate(pending) if n % 3)) == [201] * 6
    assert (await soon(await client.reserve(drop_id, users[1]))).code == "ALREADY_RESERVED"  # all before it are through
    again = await all_soon([await client.reserve(drop_id, user, "once") for user in users])
    assert {answer.status for answer in again} <= {200, 201}
    assert [again[n].status for n in (1, 2, 4, 5, 7, 8)] == [200] * 6
    assert await statuses(owner, drop_id) == {"ACTIVE": 9}
    assert await available_stock(owner, str(drop_id)) == 91


async def test_two_processes_sell_exactly_the_stock(database: Database, owner: asyncpg.Pool) -> None:
    """Each batches on its own, at the same time and for the same drop."""
    stock = 40
    listeners = await owner.fetchval(LISTENERS)
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="3600000", WEB_CONCURRENCY="2") as service:
        await eventually(lambda: owner.fetchval(f"select ({LISTENERS}) = $1", listeners + 2))
        service.wait_until_ready()
        async with client_of(service.url) as client:
            drop_id, users = await make_drop_by_sql(owner, stock), await make_users(owner, 400)
            connections: list[Connection] = []
            pending: list[Pending] = []
            async with locked(owner, drop_id):
                while len(pending) < 100 or len(await owner.fetchval(WAITING) or []) < 2:  # until both are busy with it
                    connections.append(await client.connect())
                    pending.append(connections[-1].send("POST", f"/api/drops/{drop_id}/reserve", users[len(pending)]))
            outcomes = codes(await all_soon(pending))
            assert Counter(outcomes) == {201: stock, "OUT_OF_STOCK": len(pending) - stock}
            bought = await all_soon(
                connection.send("POST", f"/api/drops/{drop_id}/purchase", user)
                for connection, user in zip(connections, users, strict=False)
            )
            assert [code == 201 for code in codes(bought)] == [outcome == 201 for outcome in outcomes]
            assert await statuses(owner, drop_id) == {"CONSUMED": stock}
            assert await available_stock(owner, str(drop_id)) == 0
        service.stop()
