# ruff: noqa: S608 - the setting is our own
"""A node that is away: the others go on, its own calls are refused soon and say which node it is, and it comes back by itself."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from uuid import uuid4

import asyncpg
import pytest

from tests.support.router import Router, make_drop, make_user, running_router, service_of
from tests.support.waiting import eventually

LIMIT_SECONDS = 3
RESERVE_BATCH = "select n, status, code, message from api.reserve_batch($1::api.reserve_request[])"
INCOMPLETE = "nullif(current_setting('lastpair.incomplete', true), '')"


@pytest.fixture(scope="module")
def router() -> Iterator[Router]:
    """A router of which the tests stop the second node."""
    with running_router() as router:
        yield router


@pytest.fixture
async def drops(router: Router) -> tuple[str, str]:
    """A drop on each node."""
    async with service_of(router.url) as service:
        return await make_drop(service, 0), await make_drop(service, 1)


@pytest.fixture
def node_1_away(router: Router, drops: tuple[str, str]) -> Iterator[None]:
    router.nodes[1].crash()
    yield
    router.nodes[1].start()


async def refusal_of(service: asyncpg.Connection, statement: str, *arguments: object) -> asyncpg.PostgresError:
    begin = monotonic()
    with pytest.raises(asyncpg.PostgresError) as caught:
        await service.fetch(statement, *arguments)
    assert monotonic() - begin < LIMIT_SECONDS
    return caught.value


@pytest.mark.usefixtures("node_1_away")
async def test_calls_for_its_drops_are_refused_and_name_it(router: Router, drops: tuple[str, str]) -> None:
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0)
        error = await refusal_of(service, "select * from api.reserve($1, $2)", drops[1], user_id)
        assert (error.sqlstate, error.args[0]) == ("PT503", "DATABASE_UNAVAILABLE")
        assert (error.detail or "").startswith("Node 1 cannot be reached right now.")
        port = str(router.nodes[1].port)
        assert port not in f"{error.detail}{error.args}{getattr(error, 'context', '')}"
        assert await service.fetchval("select id from api.reserve($1, $2)", drops[0], user_id)


@pytest.mark.usefixtures("node_1_away")
async def test_a_batch_for_both_is_carried_out_on_the_other(router: Router, drops: tuple[str, str]) -> None:
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0)
        requests = [(drop_id, user_id, None, None, 1) for drop_id in (drops[1], drops[0], drops[1])]
        rows = await service.fetch(RESERVE_BATCH, requests)
        assert [row["status"] for row in rows] == [503, 201, 503]
        assert rows[0]["code"] == "DATABASE_UNAVAILABLE"
        assert rows[0]["message"].startswith("Node 1 ")


@pytest.mark.usefixtures("node_1_away")
async def test_lists_say_that_they_are_incomplete(router: Router, drops: tuple[str, str]) -> None:
    async with service_of(router.url) as service:
        warnings: list[str] = []
        service.add_log_listener(lambda _, message: warnings.append(message.message))
        rows = await service.fetch(f"select d.id, {INCOMPLETE} as incomplete from api.list_drops() d")
        assert drops[0] in {str(row["id"]) for row in rows}
        assert drops[1] not in {str(row["id"]) for row in rows}
        assert rows[-1]["incomplete"] == "node 1"
        assert any(warning.startswith("Node 1 cannot be reached") for warning in warnings)
        assert await service.fetchval("select data ->> 'incomplete' from api.snapshot()") == '["node 1"]'
        assert [row["invariant"] for row in await service.fetch("select invariant from api.audit()")] == [
            "node 1: can be reached"
        ]


@pytest.mark.usefixtures("node_1_away")
async def test_new_drops_go_to_the_other_and_webhook_endpoints_wait(router: Router) -> None:
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0)
        drop_id = str(await service.fetchval("select id from api.create_drop('x', 1, 1, $1)", user_id))
        assert drop_id[21:23] == "00"
        error = await refusal_of(service, "select * from api.create_webhook_endpoint('https://a.example', array['drop.created'])")
        assert error.args[0] == "DATABASE_UNAVAILABLE"
        assert await service.fetch("select * from api.list_webhook_endpoints()") == []


@pytest.mark.usefixtures("node_1_away")
async def test_a_new_user_of_the_other_gets_a_name_that_needs_no_register(router: Router) -> None:
    async with service_of(router.url) as service:
        ensure = "select data ->> 'username' from router.ensure_users(0, $1::api.user_request[])"
        names = [await service.fetchval(ensure, [(str(uuid4()), f"user of {n}")]) for n in range(8)]
        assert any(name.startswith("user of") and name[-9] == "-" for name in names)


async def test_a_session_goes_on_when_a_node_is_back(router: Router, drops: tuple[str, str]) -> None:
    async with service_of(router.url) as service:
        assert len(await service.fetch("select from api.list_drops() where id = any ($1::uuid[])", list(drops))) == 2
        router.nodes[1].crash()
        await refusal_of(service, "select * from api.reserve($1, $2)", drops[1], str(uuid4()))
        router.nodes[1].start()
        assert len(await service.fetch("select from api.list_drops() where id = any ($1::uuid[])", list(drops))) == 2
        user_id = await make_user(service, 1)
        assert await service.fetchval("select id from api.reserve($1, $2)", drops[1], user_id)


async def test_a_user_whose_name_could_not_be_claimed_can_be_made_later(router: Router) -> None:
    names = [f"user {uuid4()}" for _ in range(8)]  # about half of them are also registered on node 1, and their users made there
    create = "select username from api.create_user($1)"
    async with service_of(router.url) as service:
        router.nodes[0].crash()
        for name in names:
            assert (await refusal_of(service, create, name)).args[0] == "DATABASE_UNAVAILABLE"
        router.nodes[0].start()
        assert [await service.fetchval(create, name) for name in names] == names


async def test_a_user_is_renamed_on_all_nodes_or_on_none(router: Router) -> None:
    name = f"emil {uuid4()}"
    rename = "select api.rename_user_batch($1::api.user_request[])"
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0, name)
        await service.fetch("select from router.ensure_users(1, $1::api.user_request[])", [(user_id, None)])
        router.nodes[1].crash()
        assert await service.fetchval(rename, [(user_id, name)]) == 0
        assert (await refusal_of(service, rename, [(user_id, f"{name} b")])).args[0] == "DATABASE_UNAVAILABLE"
        router.nodes[1].start()
        names = [f"select username from node_{node}.names_of(array[$1::uuid])" for node in (0, 1)]
        assert [await service.fetchval(statement, user_id) for statement in names] == [name, name]
        assert await service.fetchval(rename, [(user_id, f"{name} b")]) == 1
        assert [await service.fetchval(statement, user_id) for statement in names] == [f"{name} b", f"{name} b"]


async def test_the_name_of_a_user_is_free_when_forgetting_was_repeated(router: Router) -> None:
    name = f"dora {uuid4()}"
    forget = "select username from api.forget_user($1)"
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0, name)
        router.nodes[1].crash()
        assert (await refusal_of(service, forget, user_id)).args[0] == "DATABASE_UNAVAILABLE"
        router.nodes[1].start()
        assert (await service.fetchval(forget, user_id)).startswith("former-user-")
        assert await service.fetchval("select username from api.create_user($1)", name) == name


async def test_kill_9_of_a_node(router: Router, drops: tuple[str, str]) -> None:
    postmaster = router.nodes[1].folder / "data" / "postmaster.pid"
    async with service_of(router.url) as service:
        user_id = await make_user(service, 0)
        os.kill(pid_in(postmaster), signal.SIGKILL)
        # Its sessions notice that by themselves, and may answer until then.
        await eventually(lambda: not sessions_of(router.nodes[1].folder), timeout_seconds=60)
        error = await refusal_of(service, "select * from api.reserve($1, $2)", drops[1], user_id)
        assert error.sqlstate == "PT503"
        assert await service.fetchval("select id from api.reserve($1, $2)", drops[0], user_id)
        # Where nobody reaps the process, its number is still taken, and the next one would believe that it runs.
        for lock in (postmaster, router.nodes[1].folder / f".s.PGSQL.{router.nodes[1].port}.lock"):
            lock.unlink()
        router.nodes[1].start()
        assert await service.fetchval("select id from api.reserve($1, $2)", drops[1], user_id)


async def test_a_node_that_is_noted_away_is_not_asked(router: Router, drops: tuple[str, str]) -> None:
    async with service_of(router.url) as service:
        await service.execute("select router.note_away(1, 3600)")
        error = await refusal_of(service, "select * from api.get_drop($1)", drops[1])
        assert error.args[0] == "DATABASE_UNAVAILABLE"
        await service.execute("select router.note_away(1, 0)")
        assert await service.fetchval("select id from api.get_drop($1)", drops[1])


def pid_in(file: Path) -> int:
    return int(file.read_text().split()[0])


def sessions_of(folder: Path) -> list[str]:
    # The processes of the server in this folder.
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd") == str(folder / "data"):
                found.append(process.name)
        except OSError:
            continue
    return found
