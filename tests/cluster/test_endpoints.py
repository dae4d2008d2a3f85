"""Webhook endpoints, which every node has: whatever is done to one at the same time, all nodes end with the same."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from tests.support.router import Router, service_of

pytestmark = pytest.mark.slow

ROUNDS = 150
TYPES = ("drop.created", "drop.updated", "purchase.paid")
CREATE = "select (endpoint).id from api.create_webhook_endpoint('https://shop.example', array['drop.created'])"
UPDATE = "select from api.update_webhook_endpoint($1, $2)"
ROTATE = "select from api.rotate_webhook_secret($1)"
DELETE = "select from api.delete_webhook_endpoint($1)"
COPIES = "select c::jsonb - 'failing_since' from node_{}.webhook_endpoint_copies() c"


@pytest.fixture
async def sessions(router: Router) -> AsyncIterator[list[asyncpg.Connection]]:
    """Sessions that do something at the same time."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(service_of(router.url)) for _ in range(4)]


async def copies(session: asyncpg.Connection) -> list[list[str]]:
    """The endpoints of each node, with their secrets."""
    return [[copy for (copy,) in await session.fetch(COPIES.format(number))] for number in (0, 1)]


async def test_changes_at_the_same_time(sessions: list[asyncpg.Connection]) -> None:
    """The last one counts on every node, also of changes that turn the endpoint off and give it a new secret."""
    endpoint_id = await sessions[0].fetchval(CREATE)
    for n in range(ROUNDS):
        changes = [
            {"url": f"https://shop.example/{n}", "active": n % 2 == 0},
            {"url": f"https://shop.example/other/{n}", "event_types": [TYPES[n % 3]]},
            {"active": n % 3 == 0},
        ]
        await asyncio.gather(
            *(session.fetch(UPDATE, endpoint_id, json.dumps(change)) for session, change in zip(sessions, changes, strict=False)),
            sessions[3].fetch(ROTATE, endpoint_id),
        )
        first, second = await copies(sessions[0])
        assert first == second, f"round {n}"
    await sessions[0].fetch(DELETE, endpoint_id)


async def test_an_endpoint_that_is_deleted_meanwhile(sessions: list[asyncpg.Connection]) -> None:
    """It is gone from every node, and a change of another one does not fail."""
    other_id = await sessions[0].fetchval(CREATE)
    for n in range(ROUNDS):
        endpoint_id = await sessions[0].fetchval(CREATE)
        change = json.dumps({"url": f"https://shop.example/{n}"})
        changed, *others = await asyncio.gather(
            sessions[0].fetch(UPDATE, endpoint_id, change),
            sessions[1].fetch(UPDATE, other_id, change),
            sessions[2].fetch(DELETE, endpoint_id),
            sessions[3].fetch(ROTATE, other_id),
            return_exceptions=True,
        )
        if isinstance(changed, BaseException):
            assert "WEBHOOK_ENDPOINT_NOT_FOUND" in str(changed)
        assert not [found for found in others if isinstance(found, BaseException)]
        first, second = await copies(sessions[0])
        assert len(first) == 1, f"round {n}"
        assert first == second, f"round {n}"
    await sessions[0].fetch(DELETE, other_id)
