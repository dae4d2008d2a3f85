"""Batches over HTTP: no answer tells whether requests shared a call, and what happens to one request does not harm the others."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import pytest

from tests.support.database import Database, connected, running_api
from tests.support.factories import assert_healthy, available_stock, make_drop_by_sql, make_users, statuses
from tests.support.ordered_requests import (
    LIST_DROPS,
    Answer,
    Client,
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

pytestmark = pytest.mark.usefixtures("healthy")

ROWS = """
select 'reservation', drop_id::text, user_id::text, id::text, status, idempotency_key
from inventory.reservations where drop_id = any ($1)
union all
select 'purchase', drop_id::text, user_id::text, reservation_id::text, status, idempotency_key
from inventory.purchases where drop_id = any ($1)
"""

Wave = tuple[str, list[tuple[int, int, str | None]]]
"""A kind of request, and the number of the drop, the number of the user and the key of each request."""


def waves(seed: int) -> list[Wave]:
    """Waves of requests for two drops and twelve users that meet every outcome."""
    chance = random.Random(seed)  # noqa: S311 - a run to repeat, not a secret
    keys = [None, None, "a", "b", f"c{seed}"]
    return [
        (kind, [(chance.randrange(2), chance.randrange(12), chance.choice(keys)) for _ in range(chance.randint(8, 24))])
        for kind in ["reserve", "reserve", "purchase", "cancel"] * 3
    ]


@dataclass
class Trial:
    """Sends waves of requests for new drops to a service, and notes what comes of it with numbers in place of ids and times."""

    client: Client
    owner: asyncpg.Pool
    drops: list[str]
    users: list[str]
    numbers: dict[str, str] = field(default_factory=dict)
    reservations: dict[tuple[int, int], str] = field(default_factory=dict)

    def number(self, value: str) -> str:
        """The same for the same id, in the order in which ids are first seen."""
        return self.numbers.setdefault(value, f"id {len(self.numbers)}")

    def noted(self, answer: Answer) -> tuple[object, ...]:
        """The answer without what differs from trial to trial."""
        if answer.code:
            return answer.status, answer.code, answer.body["error"]["message"]
        ids = {key: self.number(value) for key, value in answer.row.items() if key.endswith("id") and value}
        return answer.status, answer.headers.get("idempotency-replayed"), ids, answer.row["status"], list(answer.row)

    def request(self, kind: str, drop: int, user: int, key: str | None) -> Request:
        """One request of a wave."""
        if kind == "cancel":
            return cancel(self.reservations.get((drop, user), self.drops[drop]), self.users[user])
        return (reserve if kind == "reserve" else purchase)(self.drops[drop], self.users[user], key)

    async def run(self, waves: Sequence[Wave]) -> list[tuple[object, ...]]:
        """Send each wave while its calls are held up; returns all answers."""
        for value in (*self.drops, *self.users):
            self.number(value)
        answers: list[tuple[object, ...]] = []
        for kind, requests in waves:
            async with locked(self.owner, *self.drops, kind=kind):
                pending = await self.client.send(*(self.request(kind, *request) for request in requests))
            answered = await all_soon(pending)
            answers += [self.noted(answer) for answer in answered]
            if kind == "reserve":
                found = zip(requests, answered, strict=True)
                self.reservations |= {(drop, user): answer.row["id"] for (drop, user, _), answer in found if answer.code is None}
        return answers

    async def state(self) -> list[tuple[object, ...]]:
        """Everything that the database has of these drops."""
        rows = [
            (kind, *map(self.number, (drop_id, user_id, reservation_id)), *others)
            for kind, drop_id, user_id, reservation_id, *others in await self.owner.fetch(ROWS, self.drops)
        ]
        stock = [("stock", await available_stock(self.owner, drop_id)) for drop_id in self.drops]
        return [*stock, *sorted(rows, key=str)]

    async def transactions(self) -> int:
        """In how many transactions the holds were made, counted by drop because two may begin in the same microsecond."""
        count: int = await self.owner.fetchval(
            "select count(distinct (drop_id, created_at)) from inventory.reservations where drop_id = any ($1)", self.drops
        )
        return count


@pytest.mark.slow
async def test_batches_change_no_outcome(owner: asyncpg.Pool, api_url: str, unbatched_url: str) -> None:
    """The same waves get the same answers, request by request, with and without batches, and leave the same rows."""
    met: Counter[object] = Counter()
    for seed in range(2):
        found, transactions = [], []
        for url in (unbatched_url, api_url):
            async with client_of(url) as client:
                drops, users = [await make_drop_by_sql(owner, 6), await make_drop_by_sql(owner, 4)], await make_users(owner, 12)
                trial = Trial(client, owner, drops, users)
                found.append((await trial.run(waves(seed)), await trial.state()))
                transactions.append(await trial.transactions())
        assert found[0] == found[1]
        answers, state = found[0]
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


async def test_requests_of_one_user_in_one_call(client: Client, owner: asyncpg.Pool) -> None:
    """They behave as if one came after the other, with and without an Idempotency-Key."""
    drop_id, [first, bare, keyed, mixed] = await make_drop_by_sql(owner, 10), await make_users(owner, 4)
    keys = [(bare, [None] * 10), (keyed, ["same"] * 10), (mixed, ["a", "a", None, "b", "a"])]
    async with locked(owner, drop_id):
        pending = await client.send(reserve(drop_id, first))
        await lock_waits(owner, 1)
        pending += await client.send(*(reserve(drop_id, user, key) for user, of_user in keys for key in of_user))
        assert not any(request.done() for request in pending)
    _, *answers = await all_soon(pending)
    assert codes(answers[:10]) == [201] + ["ALREADY_RESERVED"] * 9
    assert codes(answers[10:20]) == [201] + [200] * 9
    assert [answer.headers.get("idempotency-replayed") for answer in answers[10:20]] == [None] + ["true"] * 9
    assert all(answer.row == answers[10].row for answer in answers[10:20])
    assert codes(answers[20:]) == [201, 200, "ALREADY_RESERVED", "ALREADY_RESERVED", 200]
    assert len({answer.row["createdAt"] for answer in answers if answer.code is None}) == 1, "they shared no call"
    assert await available_stock(owner, drop_id) == 6


@pytest.mark.parametrize("batched", [True, False])
async def test_the_first_to_come_get_the_last_units(owner: asyncpg.Pool, api_url: str, unbatched_url: str, batched: bool) -> None:
    """The order counts, not the ids, and not the number of calls."""
    async with client_of(api_url if batched else unbatched_url) as client:
        for stock in (1, 7, 29):
            drop_id, users = await make_drop_by_sql(owner, stock), await make_users(owner, 30)
            random.Random(stock).shuffle(users)  # noqa: S311
            async with locked(owner, drop_id):
                pending = await client.send(*(reserve(drop_id, user) for user in users))
                await lock_waits(owner, 1)
                assert not any(request.done() for request in pending)
            assert codes(await all_soon(pending)) == [201] * stock + ["OUT_OF_STOCK"] * (30 - stock)


async def test_overload(database: Database, owner: asyncpg.Pool) -> None:
    """MAX_PENDING requests wait and are served; those beyond are refused at once; afterwards there is room again."""
    with running_api(database.url, EXPIRY_POLL_MS="3600000", MAX_PENDING="20", BATCH_MAX_SIZE="7") as url:
        async with client_of(url) as client:
            drop_id = await make_drop_by_sql(owner, 1000)
            for _ in range(2):
                users = await make_users(owner, 60)
                async with locked(owner, drop_id):
                    pending = await client.send(*(reserve(drop_id, user) for user in users))
                    refused = await all_soon(pending[20:])
                    assert codes(refused) == ["OVERLOADED"] * 40
                    assert [(answer.status, answer.headers["retry-after"]) for answer in refused] == [(503, "1")] * 40
                    await lock_waits(owner, 1)
                    others = await client.ask(LIST_DROPS, purchase(drop_id, users[0]))  # other kinds have room of their own
                    assert codes(others) == [200, "NO_ACTIVE_RESERVATION"]
                    assert not any(request.done() for request in pending[:20])
                assert codes(await all_soon(pending[:20])) == [201] * 20
                assert codes(await client.ask(*(reserve(drop_id, user) for user in users[20:25]))) == [201] * 5
            assert await available_stock(owner, drop_id) == 950


COUNTED = """
create sequence inventory.calls;
alter function api.list_drops(text, integer, uuid, timestamptz) rename to list_drops_uncounted;
create function api.list_drops(p_status text default null, p_limit integer default 50, p_after uuid default null)
returns setof json language plpgsql security definer as $$
declare
  v_drops json[] := array(select to_json(d) from api.list_drops_uncounted(p_status, p_limit, p_after) d);
begin
  perform nextval('inventory.calls');
  perform pg_advisory_xact_lock_shared(42);
  return query select unnest(v_drops);
end
$$;
grant execute on function api.list_drops(text, integer, uuid) to lastpair_service;
"""
"""Counts its calls. A call that has its answer does not return while another transaction has the lock 42."""


class Listing:
    """A service whose calls of api.list_drops are counted, and can be held up when they have their answer."""

    def __init__(self, client: Client, session: asyncpg.Connection) -> None:
        self.client = client
        self.session = session

    @property
    async def calls(self) -> int:
        """How many calls there were so far."""
        count: int = await self.session.fetchval("select case when is_called then last_value else 0 end from inventory.calls")
        return count

    @asynccontextmanager
    async def held_up(self) -> AsyncIterator[None]:
        """During the block no call returns."""
        async with self.session.transaction():
            await self.session.execute("select pg_advisory_xact_lock(42)")
            yield

    async def stock(self, pending: Pending, drop_id: str) -> int:
        """The stock of the drop in the answer."""
        answer = await soon(pending)
        assert answer.status == 200
        [stock] = [drop["available_stock"] for drop in answer.row if drop["id"] == drop_id]
        return int(stock)


@pytest.fixture
async def listing(empty_url: str) -> AsyncIterator[Listing]:
    """Such a service, on a database of its own."""
    with running_api(empty_url, EXPIRY_POLL_MS="3600000") as url:
        async with connected(empty_url) as session, client_of(url) as client:
            await session.execute(COUNTED)
            yield Listing(client, session)
            await assert_healthy(session)


async def test_a_list_of_drops_is_shared_and_never_older_than_its_request(listing: Listing) -> None:
    """200 requests at once take two calls; a request that comes when a call has its answer does not get that answer."""
    client, owner = listing.client, listing.session
    drop_id, users = await make_drop_by_sql(owner, 100), await make_users(owner, 3)
    async with listing.held_up():
        early = await client.send(*[LIST_DROPS] * 3)
        await lock_waits(owner, 1)
        assert await listing.calls == 1
        for user in users:
            assert codes(await client.ask(reserve(drop_id, user))) == [201]
            early += await client.send(LIST_DROPS)
        many = await client.send_at_once([LIST_DROPS] * 200)
        await client.begun()
        assert await listing.calls == 1
    assert [await listing.stock(pending, drop_id) for pending in many] == [97] * 200
    stocks = [await listing.stock(pending, drop_id) for pending in early]
    assert stocks[0] == 100, "its call had not begun before the change"
    assert stocks[3:] == [97] * 3
    assert await listing.calls == 2


async def test_a_session_lost_in_the_middle_of_a_batch(client: Client, database: Database, owner: asyncpg.Pool) -> None:
    """The requests in flight are answered 503 and had no effect; those that waited are served; all may come again."""
    drop_id, users = await make_drop_by_sql(owner, 100), await make_users(owner, 12)
    requests = [reserve(drop_id, user, "once") for user in users]
    async with connected(database.superuser_url) as superuser, locked(owner, drop_id):

        async def end_session() -> None:
            [pid] = await lock_waits(owner, 1)
            assert await superuser.fetchval("select pg_terminate_backend($1)", pid)

        pending = await client.send(*requests[:6])
        await end_session()
        lost = [await soon(pending[0])]
        [_] = await lock_waits(owner, 1)  # the call of the other five
        pending += await client.send(*requests[6:])
        await end_session()
        lost += await all_soon(pending[1:6])
        await lock_waits(owner, 1)
        assert not any(request.done() for request in pending[6:])
    refusals = [(answer.status, answer.code, answer.headers["retry-after"]) for answer in lost]
    assert refusals == [(503, "DATABASE_UNAVAILABLE", "1")] * 6
    served = await all_soon(pending[6:])
    assert codes(served) == [201] * 6
    assert len({answer.row["createdAt"] for answer in served}) == 1
    assert await statuses(owner, drop_id) == {"ACTIVE": 6}
    assert codes(await client.ask_at_once(requests)) == [201] * 6 + [200] * 6
    assert await statuses(owner, drop_id) == {"ACTIVE": 12}


async def test_a_client_that_goes_away_harms_no_other(client: Client, owner: asyncpg.Pool) -> None:
    """It may leave while its request is in flight or waits; when it comes again it gets what it would have got."""
    drop_id, users = await make_drop_by_sql(owner, 100), await make_users(owner, 9)
    requests = [reserve(drop_id, user, "once") for user in users]
    connections = [await client.connect() for _ in requests]
    pending = []
    async with locked(owner, drop_id):
        for connection, request in zip(connections, requests, strict=True):
            pending.append(connection.send(request))
            await client.begun()
        await lock_waits(owner, 1)
        for n in (0, 3, 6):  # the first is in flight
            pending[n].cancel()
            connections[n].abort()
        await client.begun()
    assert codes(await all_soon(request for n, request in enumerate(pending) if n % 3)) == [201] * 6
    assert codes(await client.ask(reserve(drop_id, users[1]))) == ["ALREADY_RESERVED"]  # all before it have ended
    again = codes(await client.ask_at_once(requests))
    assert set(again) <= {200, 201}
    assert [again[n] for n in (1, 2, 4, 5, 7, 8)] == [200] * 6
    assert await statuses(owner, drop_id) == {"ACTIVE": 9}
    assert await available_stock(owner, drop_id) == 91
