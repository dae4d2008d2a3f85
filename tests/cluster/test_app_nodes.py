"""A node that joins while the service runs, and two routers before the same nodes."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest

from lastpair.database.nodes import Nodes
from lastpair.database.router import add_node
from lastpair.settings import Settings
from lastpair.shop.shop import Shop
from tests.support.cluster_shop import PATIENCE_SECONDS, kill, serving
from tests.support.clusters import Cluster
from tests.support.database import calling, client_of, connected, running_api
from tests.support.factories import ask_reserve, hold, make_drop_by_sql, make_due, make_users, reserve, statuses
from tests.support.router import Router, another_router, running_node, running_router, service_url_of
from tests.support.waiting import eventually


@pytest.fixture
def router_and_node() -> Iterator[tuple[Router, Cluster]]:
    """A router with one node, and a node that it does not know."""
    with running_router(0) as router, running_node(7) as node:
        yield router, node


@pytest.fixture
def two_routers() -> Iterator[tuple[Router, Router]]:
    """Two routers before the same two nodes."""
    with running_router() as first, another_router(first) as second:
        yield first, second


async def test_a_node_joins(router_and_node: tuple[Router, Cluster]) -> None:
    """It sells, and its jobs run, without a restart of the service."""
    router, node = router_and_node
    async with serving(router, expiry_poll_ms=50) as shop, connected(node.url_with_password) as owner:
        await add_node(router.owner_url, 7, service_url_of(node))
        await eventually(lambda: [each.number for each in shop.components.nodes.all] == [0, 7], PATIENCE_SECONDS)
        drop_id = await make_drop_by_sql(owner, 5)
        await reserve(shop.http, drop_id, str(uuid4()))
        await make_due(owner, *(await hold(owner, drop_id, await make_users(owner, 3))).values())

        async def is_swept() -> bool:
            return (await statuses(owner, drop_id))["EXPIRED"] == 3

        await eventually(is_swept, PATIENCE_SECONDS)


async def test_a_router_that_has_not_said_yet_what_it_is(router: Router) -> None:
    """The drops on sale are listed as those of a router, which has no version of them."""
    async with calling(router.url) as database:
        shop = Shop(Nodes(database, database.servers), Settings.model_construct())
        assert (await shop.drops_on_sale()).status == 200


async def test_a_router_is_killed(two_routers: tuple[Router, Router]) -> None:
    """With the URL of two routers sales go on through the other one."""
    first, second = two_routers
    url = first.url.replace(f":{first.server.port}/", f":{first.server.port},127.0.0.1:{second.server.port}/")
    drops = []
    for node in first.nodes.values():
        async with connected(node.url_with_password) as owner:
            drops.append(await make_drop_by_sql(owner, 1000))
    with running_api(url, EXPIRY_POLL_MS="3600000") as api_url:
        async with client_of(api_url) as http:
            for drop_id in drops:
                await reserve(http, drop_id, str(uuid4()))
            await asyncio.to_thread(kill, first.server)
            for drop_id in drops:
                answers: Counter[int] = Counter()

                async def sells(drop_id: str = drop_id, answers: Counter[int] = answers) -> bool:
                    answers[(await ask_reserve(http, drop_id, str(uuid4()))).status_code] += 1
                    return answers[201] >= 10

                await eventually(sells, PATIENCE_SECONDS)
                assert set(answers) <= {201, 503}
