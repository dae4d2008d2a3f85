"""The deliveries of a webhook endpoint, which every node has."""

from uuid import uuid4

from tests.support.database import connected
from tests.support.router import Router

PAGE = 'select id::text, "createdAt" as at from api.list_webhook_deliveries($1, p_limit => $2, p_after => $3)'
MAKE_DROPS = """
select api.create_drop('Air', 1, 1, $1, now()) from api.ensure_user($1), generate_series(1, 5)
"""


async def test_the_pages_of_all_nodes_are_one_list(router: Router) -> None:
    """A page begins after a delivery that one node has; each delivery is on one page, the newest first."""
    async with connected(router.url) as service:
        await service.execute("set role lastpair_service")
        endpoint_id = await service.fetchval(
            "select (endpoint).id from api.create_webhook_endpoint('https://shop.example', array['drop.created'])"
        )
        for number in (0, 1, 0, 1):
            async with connected(router.node_url(number)) as node:
                await node.execute(MAKE_DROPS, uuid4())
                await node.execute("select api.fan_out_webhooks(1000)")
        whole = await service.fetch(PAGE, endpoint_id, 200, None)
        assert len(whole) == 20
        assert [row["at"] for row in whole] == sorted((row["at"] for row in whole), reverse=True)
        read, after = [], None
        while page := await service.fetch(PAGE, endpoint_id, 3, after):
            read += page
            after = page[-1]["id"]
        assert read == whole
        await service.execute("select api.delete_webhook_endpoint($1)", endpoint_id)
