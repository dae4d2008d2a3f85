"""The drops on sale are read again only if they may have changed: api.on_sale_version, and the page that a process keeps."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count

import asyncpg
import pytest

from lastpair.shop.outcome import Page
from tests.support.batch_statements import PURCHASE
from tests.support.database import Database
from tests.support.factories import hold, make_drop_by_sql, make_users
from tests.support.payments import payments_taken_by
from tests.support.shop import opened_shop
from tests.support.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("healthy")

LOOK = """
select v.version, (select json_agg(l)::text from api.list_drops(p_limit => 51) l) as page
from (select api.on_sale_version(51, $1) as version offset 0) v
"""
SOMETIME = "clock_timestamp() + random() * interval '20 milliseconds'"
LET_PAYMENTS_END = (
    "with ending as (update inventory.payments set expires_at = {soon} where id in"
    " (select payment_id from inventory.purchases where drop_id = $1) returning id, expires_at)"
    " update inventory.purchases p set payment_expires_at = e.expires_at from ending e where p.payment_id = e.id"
)
BY_THE_CLOCK = {
    "a drop starts": "update inventory.drops set status = 'scheduled', starts_at = {soon} where id = $1",
    "a drop ends": "update inventory.drops set ends_at = {soon} where id = $1",
    "a hold is due": "update inventory.reservations set expires_at = {soon} where drop_id = $1 and status = 'ACTIVE'",
    "a payment is due": LET_PAYMENTS_END,
}
"""What changes the page without a commit, and how it is set for a moment."""

OPEN = "update inventory.drops set starts_at = now(), ends_at = null, status = 'live' where id = $1"
CHANGES = [
    *[OPEN] * 5,
    *[statement.format(soon=SOMETIME) for statement in BY_THE_CLOCK.values()],
    "update inventory.drops set name = 'another ' || random() where id = $1",
    "update inventory.users set username = 'another ' || random() where id in"
    " (select user_id from inventory.purchases where drop_id = $1 limit 1)",
    "select from api.expire_reservations(100) where $1::uuid is not null",
    "select from api.reserve($1, (select id from inventory.users order by random() limit 1), 'key' || random(), 3600)",
    "select from api.purchase($1, (select user_id from inventory.reservations where drop_id = $1 and status = 'ACTIVE' limit 1))",
]


class Reader:
    """Keeps the page that it saw last, as a process does, and checks it whenever its version comes back."""

    def __init__(self, session: asyncpg.Connection) -> None:
        self._session = session
        self.version: str | None = None
        self.page: str | None = None
        self.same, self.changed, self.changed_by_the_clock = 0, 0, 0

    async def look(self) -> bool:
        """Is the page still the one that was seen?"""
        row = await self._session.fetchrow(LOOK, self.version)
        is_same = row["version"] == self.version
        if is_same:
            assert row["page"] == self.page
            self.same += 1
        else:
            has_changed = row["page"] != self.page
            self.changed += has_changed
            self.changed_by_the_clock += has_changed and row["version"].partition("@")[0] == str(self.version).partition("@")[0]
        self.version, self.page = row
        return is_same


@pytest.fixture
async def session(owner: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A session of the owner."""
    async with owner.acquire() as session:
        await session.execute("set jit = off")  # a server that is given may compile such statements, which takes half a second
        yield session


@pytest.mark.parametrize("event", BY_THE_CLOCK)
async def test_a_change_by_the_clock(owner: asyncpg.Pool, session: asyncpg.Connection, event: str) -> None:
    """Nobody commits anything when a drop starts or ends, or when a hold or a payment is due, and yet the page is another one."""
    reader, [user] = Reader(session), await make_users(owner, 1)
    async with AsyncExitStack() as stack:
        if event == "a payment is due":
            await stack.enter_async_context(payments_taken_by(owner, "webhook"))
        drop_id = await make_drop_by_sql(owner, 1)
        await hold(owner, drop_id, [user])
        if event == "a payment is due":
            await owner.fetch(PURCHASE, drop_id, [user], [None])
        attempts = count(1)

        async def seen_before() -> bool:
            """Set the event for a moment that is near. Was the page seen twice before it?"""
            nonlocal at
            at = await owner.fetchval("select clock_timestamp() + $1 * interval '0.1 seconds'", next(attempts))
            assert await owner.execute(BY_THE_CLOCK[event].format(soon="$2::timestamptz"), drop_id, at) == "UPDATE 1"
            await reader.look()
            return await reader.look() and await owner.fetchval("select clock_timestamp() < $1", at)

        at = None
        await eventually(seen_before)  # a commit in another database of the server is seen, too
        before = reader.page
        await eventually(lambda: owner.fetchval("select now() > $1", at))
        assert not await reader.look()
        assert reader.page != before
        await eventually(reader.look)


async def test_what_is_never_the_same(owner: asyncpg.Pool, session: asyncpg.Connection) -> None:
    """Another limit, session or start of the server, a page of the future, and a transaction that has written something."""
    reader = Reader(session)
    await make_drop_by_sql(owner, 1)
    await eventually(reader.look)
    version = "select api.on_sale_version($2, $1)"
    seen = reader.version
    assert await session.fetchval(version, seen, 50) != seen
    async with owner.acquire() as another:
        assert await another.fetchval(version, seen, 51) != seen
    snapshot, _, seen_at = str(seen).partition("@")
    in_an_hour = float(seen_at) + 3600
    assert snapshot.startswith(await session.fetchval("select pg_postmaster_start_time()::text || '/'"))
    for text in (None, "", "@", f"{snapshot}@{in_an_hour}"):
        assert await session.fetchval(version, text, 51) != text
    async with session.transaction():
        drop_id = await make_drop_by_sql(session, 1)
        assert not await reader.look()
        await session.execute("update inventory.drops set name = 'another' where id = $1", drop_id)
        assert not await reader.look()


async def test_a_page_is_kept(database: Database, owner: asyncpg.Pool) -> None:
    """A process answers with the page that it has while it is the same, and with a change at once."""
    async with opened_shop(database.url) as shop:

        async def page() -> Page:
            found: Page = (await shop.drops_on_sale()).data
            return found

        async def is_kept() -> bool:
            return await page() is await page()

        drop_id = await make_drop_by_sql(owner, 1)
        for n in range(20):
            await owner.execute("update inventory.drops set name = $2 where id = $1", drop_id, f"name {n} of {drop_id}")
            assert f"name {n} of {drop_id}" in (await page()).rows
            await eventually(is_kept)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_changes_at_random(owner: asyncpg.Pool, session: asyncpg.Connection, seed: int) -> None:
    """Whenever the version comes back, the page is the same: after thousands of changes, by commits and by the clock."""
    chance, reader = random.Random(seed), Reader(session)  # noqa: S311 - for a test
    users = await make_users(owner, 20)
    async with payments_taken_by(owner, chance.choice(["none", "webhook"])):
        drops = [await make_drop_by_sql(owner, 100) for _ in range(5)]
        for drop_id in drops:
            await hold(owner, drop_id, users[:10])
            await owner.fetch(PURCHASE, drop_id, users[:5], [None] * 5)
        async with owner.acquire() as writer, asyncio.timeout(2 * PATIENCE_SECONDS):
            rounds = 0
            while rounds < 300 or reader.changed_by_the_clock <= 5:  # how often the clock does is up to the machine
                rounds += 1
                transaction = writer.transaction()
                await transaction.start()
                for _ in range(chance.choice([0, 1, 1, 2])):
                    try:
                        async with writer.transaction():
                            await writer.execute(chance.choice(CHANGES), chance.choice(drops))
                    except asyncpg.PostgresError:
                        pass  # some changes are refused
                    await reader.look()
                await (transaction.rollback() if chance.random() < 0.2 else transaction.commit())
                for _ in range(chance.randrange(6)):
                    await reader.look()
                    await asyncio.sleep(chance.choice([0, 0, 0.003]))
    made = "select count(*) from inventory.reservations where drop_id = any ($1) and idempotency_key is not null"
    assert await owner.fetchval(made, drops) > 0
    assert reader.same > 100
    assert reader.changed > 50


@pytest.mark.slow
async def test_changes_at_once(owner: asyncpg.Pool, session: asyncpg.Connection) -> None:
    """The version and the page of one statement are of the same moment, whatever commits meanwhile."""
    reader, is_over = Reader(session), False
    drops = [await make_drop_by_sql(owner, 1) for _ in range(4)]

    async def write(drop_id: str) -> None:
        while not is_over:
            await owner.execute("update inventory.drops set name = 'another ' || random() where id = $1", drop_id)
            longest = 0.02 if reader.same > reader.changed else 0.2
            await asyncio.sleep(random.random() * longest)  # noqa: S311 - for a test

    async with asyncio.TaskGroup() as group:
        for drop_id in drops:
            group.create_task(write(drop_id))
        while reader.same < 300 or reader.changed < 300:
            await reader.look()
        is_over = True
