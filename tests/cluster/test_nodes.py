"""`lastpair node`: nodes join, are drained and leave."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.support.clusters import PASSWORD, cluster
from tests.support.database import connected
from tests.support.proxies import Proxy
from tests.support.router import (
    FAST,
    ROUTER_RECIPE,
    Router,
    make_drop,
    make_user,
    plproxy,
    running_node,
    running_router,
    service_of,
    service_url_of,
    take_drops,
)


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    """A router to which the tests add nodes."""
    with running_router(0) as router:
        yield router


def lastpair(router: Router, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    urls = {"MIGRATION_DATABASE_URL": router.owner_url, "DATABASE_URL": router.url}
    environment = os.environ | urls | {"PYTHONPATH": "app"} | settings
    command = [sys.executable, "-m", "lastpair", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def done(router: Router, *arguments: str, **settings: str) -> str:
    result = lastpair(router, *arguments, **settings)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(router: Router, *arguments: str) -> str:
    result = lastpair(router, *arguments)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert PASSWORD not in result.stderr
    return result.stderr


async def test_a_node_joins_is_drained_and_leaves(router: Router) -> None:
    async with service_of(router.url) as service:
        await service.fetch("select from api.create_webhook_endpoint('https://a.example', array['drop.created'])")
        user_id = await make_user(service, 0, "ann")
        old_drop = await make_drop(service, 0)
        with running_node(5) as node:
            url = service_url_of(node)
            assert "node 6 calls itself 5" in refused(router, "node", "add", "--number", "6", "--url", url)
            assert "cannot be reached" in refused(
                router, "node", "add", "--number", "5", "--url", url.replace(str(node.port), "1")
            )
            assert done(router, "node", "add", "--number", "5", "--url", url) == "node 5 has joined\n"
            assert "there is a node 5 already" in refused(router, "node", "add", "--number", "5", "--url", url)
            lines = done(router, "node", "list").splitlines()
            assert [line.split("  ")[0] for line in lines] == ["node 0", "node 5"]
            assert str(node.port) in lines[1]
            assert PASSWORD not in lines[1]
            assert lines[1].endswith("0 live units")

            waits = "select drops_from - joined_at from router.nodes where number = 5"
            assert router.server.psql(waits, router.server.url) == "00:00:10", "processes do not know the new node yet"
            router.server.psql("update router.nodes set drops_from = 'infinity' where number = 5", router.server.url)
            drop_id = str(await service.fetchval("select id from api.create_drop('new', 1, 1, $1)", user_id))
            assert drop_id[21:23] == "00"
            take_drops(router)
            # A session that was there before finds the new node, which has the webhook endpoints.
            assert await service.fetchval("select url from node_5.list_webhook_endpoints()") == "https://a.example"
            made = [
                str(await service.fetchval("select id from api.create_drop('new', 1, 1, $1, now() - interval '1 hour')", user_id))
                for _ in range(2)
            ]
            assert {drop_id[21:23] for drop_id in made} == {"05"}, "node 0 has more live units"
            assert await service.fetchval("select username from node_5.names_of(array[$1::uuid])", user_id) == "ann"
            assert await service.fetchval("select id from api.get_drop($1)", old_drop)

            assert "is not draining" in refused(router, "node", "detach", "5")
            done(router, "node", "drain", "5")
            assert done(router, "node", "list").splitlines()[1].endswith("draining")
            drop_id = str(await service.fetchval("select id from api.create_drop('new', 1, 1, $1)", user_id))
            assert drop_id[21:23] == "00"
            assert "still has drops that are drafts, live or scheduled (2)" in refused(router, "node", "detach", "5")
            assert await service.fetchval("select id from api.reserve($1, $2)", made[0], user_id)
            for drop_id in made:
                await service.fetch("select from api.cancel_drop($1)", drop_id)
            assert "still has webhooks to send" in refused(router, "node", "detach", "5")
            await service.fetch("select node_5.fan_out_webhooks(1000)")
            for endpoint_id in await service.fetch("select id from api.list_webhook_endpoints()"):
                await service.fetch("select from api.delete_webhook_endpoint($1)", endpoint_id[0])
            assert "is detached" in done(router, "node", "detach", "5")
            assert len(done(router, "node", "list").splitlines()) == 1
            assert "there is no node 5" in refused(router, "node", "drain", "5")
            assert await service.fetch("select from api.list_drops()")


def test_a_password_need_not_be_in_the_url(router: Router, tmp_path: Path) -> None:
    """It comes from PGPASSWORD or a password file, as for psql, and the router keeps it."""
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:lastpair:lastpair_app:{PASSWORD}\n")
    file.chmod(0o600)
    with running_node(12) as node:
        for given in ({"PGPASSWORD": PASSWORD}, {"PGPASSFILE": str(file)}):
            added = ("node", "add", "--number", "12", "--url", node.service_url)
            assert done(router, *added, **given) == "node 12 has joined\n"
            assert "node 12  " in done(router, "node", "list")
            assert "away" not in done(router, "node", "list")
            done(router, "node", "drain", "12")
            done(router, "node", "detach", "12")


async def test_a_node_with_an_open_payment_stays(router: Router) -> None:
    with running_node(9) as node:
        done(router, "node", "add", "--number", "9", "--url", service_url_of(node))
        async with service_of(router.url) as service, service_of(service_url_of(node)) as of_node:
            await of_node.fetch("select from api.set_payment_provider('stripe', 3600)")
            user_id = await make_user(service, 9)
            drop_id = await make_drop(service, 9)
            await service.fetch("select from api.reserve($1, $2)", drop_id, user_id)
            assert await service.fetchval("select status from api.purchase($1, $2)", drop_id, user_id) == "pending"
            [payment_id] = [row[0] for row in await service.fetch("select id from api.unsettled_payments()")]
            after = "select id from api.unsettled_payments(p_after => $1)"
            assert await service.fetchval(after, UUID(int=0)) == payment_id
            assert not await service.fetch(after, payment_id)
        node.psql("update inventory.drops set status = 'ended', ends_at = now()", node.url)
        done(router, "node", "drain", "9")
        assert "still has payments that are open (1)" in refused(router, "node", "detach", "9")
        away = "delete from router.nodes where number = 9; drop schema node_9 cascade; drop server node_9 cascade"
        router.server.psql(away, router.server.url)


async def test_a_node_with_drops_cannot_join(router: Router) -> None:
    with running_node(7) as node:
        async with service_of(service_url_of(node)) as service:
            user_id = str(await service.fetchval("select id from api.create_user('ann of node 7')"))
            await service.fetch("select from api.create_drop('x', 1, 1, $1, p_status => 'draft')", user_id)
        assert "node 7 has drops" in refused(router, "node", "add", "--number", "7", "--url", service_url_of(node))
        assert "node 7" not in done(router, "node", "list")


async def test_a_database_joins_once(router: Router) -> None:
    """Neither under a second number, nor as a node of which the router is the database."""
    with running_node(4) as node:
        owner_url = node.url_with_password
        done(router, "node", "add", "--number", "4", "--url", owner_url)
        assert "leads to node 4, which has joined already" in refused(router, "node", "add", "--number", "6", "--url", owner_url)
        elsewhere = owner_url.replace("127.0.0.1", "localhost")
        assert "node 6 calls itself 4" in refused(router, "node", "add", "--number", "6", "--url", elsewhere)
        assert node.psql("select inventory.node()", node.url) == "4"
        assert "leads to a router" in refused(router, "node", "add", "--number", "6", "--url", router.url)
        done(router, "node", "drain", "4")
        done(router, "node", "detach", "4")


async def test_a_node_that_the_router_cannot_reach_does_not_join(router: Router) -> None:
    """This command may reach a node where the router does not."""
    with running_node(4) as node:
        proxy = Proxy(service_url_of(node))
        proxy.swallows_from = b"lastpair router"
        await proxy.start()
        try:
            add = ("node", "add", "--number", "4", "--url", proxy.url)
            assert "the router cannot reach node 4" in await asyncio.to_thread(refused, router, *add)
        finally:
            await proxy.stop()
        assert "node 4" not in done(router, "node", "list")
        done(router, "node", "add", "--number", "4", "--url", service_url_of(node))
        done(router, "node", "drain", "4")
        done(router, "node", "detach", "4")


async def test_a_node_with_a_draft_stays(router: Router) -> None:
    """A draft keeps a node, because its seller would not find it again."""
    with running_node(4) as node:
        done(router, "node", "add", "--number", "4", "--url", service_url_of(node))
        done(router, "node", "drain", "4")
        async with service_of(router.url) as service:
            user_id = await make_user(service, 4)
            draft = await service.fetchval("select id from node_4.create_drop('draft', 1, 1, $1, p_status => 'draft')", user_id)
            assert "still has drops that are drafts, live or scheduled (1)" in refused(router, "node", "detach", "4")
            await service.fetch("select from api.cancel_drop($1)", draft)
        assert "is detached" in done(router, "node", "detach", "4")


async def test_no_node_for_a_new_drop(router: Router) -> None:
    """With a key as without one. A request that is repeated finds the drop that it made before."""
    create = "select id from api.create_drop('key', 1, 1, $1, p_idempotency_key => $2)"
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0)
        made = await service.fetchval(create, user_id, "before")
        done(router, "node", "drain", "0")
        for key in (None, "after"):
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await service.fetch(create, user_id, key)
            assert "Every node is being drained" in refusal.value.as_dict()["detail"]
        assert await service.fetchval(create, user_id, "before") == made
        done(router, "node", "undrain", "0")
        assert await service.fetchval(create, user_id, "after")


async def test_a_node_of_another_version_cannot_join(router: Router) -> None:
    with running_node(8) as node:
        node.psql("update inventory.function_files set checksum = 'x' where path = 'api/reserve.sql'", node.url)
        output = refused(router, "node", "add", "--number", "8", "--url", service_url_of(node))
        assert "another version than the router: db/functions/api/reserve.sql" in output


async def test_a_second_router_joins_while_drops_are_sold(router: Router) -> None:
    async with service_of(router.url) as service:
        drop_id = await make_drop(service, 0)
    with cluster(plproxy(), *FAST) as server:
        server.psql(ROUTER_RECIPE, server.superuser_url)
        hosts = [f"127.0.0.1:{port}" for port in (router.server.port, server.port)]
        both = Router(server, router.nodes)
        environment = {"MIGRATION_DATABASE_URL": router.owner_url.replace(hosts[0], ",".join(hosts))}
        assert "Router: functions made" in done(both, "migrate", **environment)
        done(both, "node", "drain", "0", MIGRATION_DATABASE_URL=router.owner_url)
        assert done(both, "node", "add", "--number", "0", "--url", router.node_url(0), **environment) == "node 0 has joined\n"
        done(both, "node", "undrain", "0", MIGRATION_DATABASE_URL=router.owner_url)
        assert "draining" in done(both, "node", "list"), "the second router has it from the first"
        done(both, "node", "undrain", "0", **environment)
        with running_node(2) as node:
            done(both, "node", "add", "--number", "2", "--url", service_url_of(node), **environment)
            done(both, "node", "drain", "2", **environment)
            done(both, "node", "detach", "2", MIGRATION_DATABASE_URL=router.owner_url)  # as if it was interrupted after this
            assert "is detached" in done(both, "node", "detach", "2", **environment)
            assert "node 2" not in done(both, "node", "list")
            assert "there is no node 2" in lastpair(both, "node", "detach", "2", **environment).stderr
        async with service_of(both.url) as service, service_of(router.url) as first:
            assert await service.fetchval("select id from api.get_drop($1)", drop_id)
            numbered_from = "select numbered_from_ms from router.nodes_of_app()"
            assert await service.fetchval(numbered_from) == await first.fetchval(numbered_from)


async def test_the_first_node_stays_and_no_name_is_lost_with_another(router: Router) -> None:
    with running_node(3) as node:
        done(router, "node", "add", "--number", "3", "--url", service_url_of(node))
        done(router, "node", "drain", "0")
        assert "node 0 is the first one, which registers the names" in refused(router, "node", "detach", "0")
        assert done(router, "node", "undrain", "0") == "node 0 gets new drops again\n"
        async with service_of(router.url) as service:
            names = [f"name {n}" for n in range(8)]  # about half of them are registered on node 3 as well
            for name in names:
                await make_user(service, 3, name)
            done(router, "node", "drain", "3")
            done(router, "node", "detach", "3")
            for name in names:
                with pytest.raises(asyncpg.PostgresError, match="USERNAME_TAKEN"):
                    await service.fetch("select from api.create_user($1)", name)


async def test_a_router_without_a_node() -> None:
    """It says so, and does not name a node that is away, or a cursor that nobody gave."""
    with cluster(plproxy(), *FAST) as server:
        server.psql(ROUTER_RECIPE, server.superuser_url)
        empty = Router(server, {})
        done(empty, "migrate")
        assert done(empty, "node", "list") == ""
        assert "leads to a router" in refused(empty, "node", "add", "--number", "0", "--url", empty.url)
        async with service_of(empty.url) as service:
            for call in "api.activity()", "api.list_webhook_endpoints()", f"api.get_drop('{UUID(int=0)}')":
                with pytest.raises(asyncpg.PostgresError) as refusal:
                    await service.fetch(f"select from {call}")
                assert refusal.value.sqlstate == "PT503"
                assert refusal.value.as_dict()["detail"] == "This router has no node yet."
            assert await service.fetch("select from api.list_payment_problems()") == []


def test_commands_on_the_router(router: Router) -> None:
    assert "up to date" in done(router, "migrate")
    assert done(router, "audit").startswith("0 violations")
    assert "leads to a router, which has no tables" in refused(router, "seed")


async def test_a_session_goes_on_when_the_functions_are_made_anew(router: Router) -> None:
    async with service_of(router.url) as service, connected(router.owner_url) as owner:
        drop_id, user_id = await make_drop(service, 0), await make_user(service, 0)
        reserve = "select status from node_0.reserve_batch($1::api.reserve_request[])"
        await service.fetch(reserve, [(drop_id, user_id, None, None, 1)])
        assert await service.fetchval("select id from api.get_drop($1)", drop_id)
        await owner.execute(
            "comment on schema router is 'another version'; alter type api.drop_row drop attribute image_url cascade"
        )
        assert "Router: functions made" in done(router, "migrate")
        assert await service.fetchval("select id from api.get_drop($1)", drop_id)
        assert await service.fetchval(reserve, [(drop_id, user_id, None, None, 1)]) == 409
