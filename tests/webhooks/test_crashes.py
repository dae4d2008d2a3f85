"""Nothing is lost and nothing overtakes, whatever is killed."""

import asyncio
import os
import signal
from itertools import islice

import httpx
import pytest

from tests.support.database import Database, client_of
from tests.support.envelopes import as_user
from tests.support.factories import assert_healthy, make_drop_by_sql, make_users
from tests.support.servers import Service
from tests.support.streams import fresh_database, serving
from tests.support.waiting import eventually
from tests.support.webhook_receiver import receiving
from tests.support.webhooks import PATIENCE_SECONDS, PRIVATE_TARGETS, let_be_due, make_endpoint

DROPS, BUYERS = 3, 120
MESSAGES = "select drop_id::text, message_id::text from inventory.webhook_messages where type <> 'webhook.test' order by id"
PAID = "select count(*) from inventory.purchases where status = 'paid'"


async def buy(clients: list[httpx.AsyncClient], drop_id: str, users: list[str]) -> None:
    """Each of the users reserves and buys, at one service or the other, and tries again at the other one until it has worked."""

    async def ask(user: str, what: str, n: int) -> None:
        for _ in range(100):
            try:
                key = as_user(user, idempotency_key=f"{what}-{user}")
                response = await clients[n % len(clients)].post(f"/drops/{drop_id}/{what}", headers=key)
                if response.status_code in {200, 201}:
                    return
                assert response.status_code == 503, response.text
            except httpx.TransportError:
                pass
            n += 1
            await asyncio.sleep(0.05)
        raise AssertionError("no service carried the request out")

    for n, user in enumerate(users):
        await ask(user, "reserve", n)
        await ask(user, "purchase", n)


def kill(service: Service) -> None:
    """Kill the service with all its processes, and wait until they are gone."""
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()


@pytest.mark.slow
async def test_a_stampede_in_which_everything_is_killed(database: Database) -> None:
    """Two services sell and tell. One is killed in the middle, the receiver is killed and comes back, and fails now and then.

    Every message comes at least once, and for the first time in the order of the commits of its drop.
    """
    async with fresh_database(database) as url, serving(url, **PRIVATE_TARGETS) as api, serving(url, **PRIVATE_TARGETS) as other:
        with receiving() as receiver:
            endpoint = await make_endpoint(api, receiver, ["purchase.paid", "drop.sold_out"])
            drops = [await make_drop_by_sql(api.owner, BUYERS // DROPS) for _ in range(DROPS)]
            users = iter(await make_users(api.owner, BUYERS))
            async with client_of(other.url) as client:
                buying = [
                    asyncio.create_task(buy([api.http, client], drop, list(islice(users, BUYERS // DROPS)))) for drop in drops
                ]
                await eventually(lambda: len(endpoint.taken()) >= 5, PATIENCE_SECONDS)
                endpoint.answer(500)
                await eventually(lambda: len(endpoint.received()) > len(endpoint.taken()), PATIENCE_SECONDS)
                kill(other.service)
                endpoint.answer(200)
                receiver.kill()
                receiver.start()
                await asyncio.gather(*buying)
            assert await api.owner.fetchval(PAID) == BUYERS
            expected = [tuple(row) for row in await api.owner.fetch(MESSAGES)]
            assert len(expected) == BUYERS + DROPS

            async def all_came() -> bool:
                await let_be_due(api.owner)
                return len(endpoint.taken()) == len(expected)

            await eventually(all_came, PATIENCE_SECONDS)
            first_times = [request.id for request in endpoint.taken()]
            for drop in drops:
                of_drop = [message for drop_id, message in expected if drop_id == drop]
                assert [message for message in first_times if message in set(of_drop)] == of_drop
            for request in endpoint.received():
                request.verify(endpoint.secret)
            await assert_healthy(api.owner)


async def test_two_processes(database: Database) -> None:
    """They share the work, and drops keep their order."""
    settings = PRIVATE_TARGETS | {"WEB_CONCURRENCY": "2"}
    async with fresh_database(database) as url, serving(url, **settings) as api:
        with receiving() as receiver:
            endpoint = await make_endpoint(api, receiver, ["purchase.paid"])
            drops = [await make_drop_by_sql(api.owner, 20) for _ in range(4)]
            users = iter(await make_users(api.owner, 80))
            await asyncio.gather(*(buy([api.http], drop, list(islice(users, 20))) for drop in drops))
            taken = [request.id for request in await endpoint.comes(80)]
            expected = [tuple(row) for row in await api.owner.fetch(MESSAGES)]
            assert sorted(taken) == sorted(message for _, message in expected)
            for drop in drops:
                of_drop = [message for drop_id, message in expected if drop_id == drop]
                assert [message for message in taken if message in set(of_drop)] == of_drop
