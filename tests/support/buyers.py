"""Buyers who do not give up, and what must hold when something breaks while they buy."""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic

import asyncpg
import httpx

from tests.support.envelopes import as_user, assert_unavailable
from tests.support.factories import Owner, assert_healthy, available_stock, make_drop, make_users
from tests.support.row_checks import Row
from tests.support.servers import Service
from tests.support.waiting import eventually

BACK_WITHIN_SECONDS = 15
"""After a repair, on a machine that is busy with other tests as well. Without help it would be back never."""
STOCK = 1000
ROWS = """
select r.id::text as reservation_id, r.user_id::text, r.status, p.id::text as purchase_id, p.status as purchase_status
from inventory.reservations r left join inventory.purchases p on p.reservation_id = r.id
where r.drop_id = $1
"""


class Buyers:
    """Users who each reserve a unit of one drop and purchase it, and try again until they are served."""

    def __init__(self, drop: Row, users: list[str], *clients: httpx.AsyncClient) -> None:
        self.drop = drop
        self.users = users
        self.confirmed: set[str] = set()
        """The ids of the reservations and purchases that were confirmed."""

        self.statuses: Counter[int] = Counter()
        self.lost = 0
        """Requests without an answer."""

        self.last_served_seconds = 0.0
        self.broken = asyncio.Event()
        """The second half of the users begins then, so that they are never through before something breaks."""

        self._clients = clients

    @classmethod
    async def make(cls, owner: Owner, *clients: httpx.AsyncClient, count: int = 60) -> "Buyers":
        """New users and a new drop; the users take the clients in turn."""
        users = await make_users(owner, count)
        return cls(await make_drop(clients[-1], users[0], total_stock=STOCK), users, *clients)

    async def run(self) -> None:
        """Buy until every user has bought."""
        await asyncio.gather(*(self._buy(n, user) for n, user in enumerate(self.users)))

    async def have_confirmed(self, count: int) -> None:
        """Wait until this many requests were confirmed."""
        while len(self.confirmed) < count:
            await asyncio.sleep(0.001)

    async def _buy(self, n: int, user: str) -> None:
        if n >= len(self.users) / 2:
            await self.broken.wait()
        for action in ("reserve", "purchase"):
            while not await self._ask(self._clients[n % len(self._clients)], action, user):
                n += 1  # another process may be alive
                await asyncio.sleep(0.2)

    async def _ask(self, http: httpx.AsyncClient, action: str, user: str) -> bool:
        try:
            answer = await http.post(f"/drops/{self.drop['id']}/{action}", headers=as_user(user, idempotency_key="once"))
        except httpx.TransportError:
            self.lost += 1
            return False
        self.statuses[answer.status_code] += 1
        if answer.status_code == 503:
            assert_unavailable(answer)
            return False
        assert answer.status_code in (200, 201), answer.text
        self.confirmed |= {row["id"] for row in answer.json()["data"].values()}
        self.last_served_seconds = monotonic()
        return True

    async def assert_all_served_once(self, owner: asyncpg.Connection | asyncpg.Pool) -> None:
        """What was confirmed at any time is there, each user has bought one unit, and nothing took effect by half."""
        rows = await owner.fetch(ROWS, self.drop["id"])
        there = {row[name] for row in rows for name in ("reservation_id", "purchase_id")}
        assert there >= self.confirmed
        assert sorted(row["user_id"] for row in rows) == sorted(self.users)
        assert {(row["status"], row["purchase_status"]) for row in rows} == {("CONSUMED", "paid")}
        assert await available_stock(owner, self.drop["id"]) == STOCK - len(self.users)
        await assert_healthy(owner)


async def sell_through(
    service: Service, http: httpx.AsyncClient, buyers: Buyers, *, break_down: Callable[[], None], repair: Callable[[], None]
) -> None:
    """Break something while the buyers buy, and repair it.

    Every request must get an answer. /readyz must be red meanwhile and /healthz green, and all must be served within seconds of
    the repair, by the same processes and without help.
    """
    buying = asyncio.create_task(buyers.run())
    await buyers.have_confirmed(20)
    await asyncio.to_thread(break_down)
    buyers.broken.set()
    assert_unavailable(await http.get(f"{service.url}/readyz"))
    assert await asyncio.to_thread(service.answers, "/healthz", 200)
    assert not buying.done()
    await asyncio.to_thread(repair)
    repaired = monotonic()
    await eventually(lambda: asyncio.to_thread(service.answers, "/readyz", 200), BACK_WITHIN_SECONDS)
    await buying
    assert buyers.last_served_seconds - repaired < BACK_WITHIN_SECONDS
    assert buyers.lost == 0
    assert buyers.statuses[503] > 0
