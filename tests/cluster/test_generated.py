# ruff: noqa: S608 - the statements are made of constants here
"""The functions of a router are generated from those of a node, so none can be forgotten; and who may call them."""

import asyncio

import asyncpg
import pytest

from tests.support.database import Database
from tests.support.router import Router
from tools import router as generator

# Functions of schemas api and node_1, as pairs of name and arguments; the result and the comment, too, of those of api.
SIGNATURES = """
select p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)
from pg_proc p where p.pronamespace = $1::text::regnamespace
"""
VOLATILITY_AND_COMMENT = """
select p.oid::regprocedure::text, p.provolatile, obj_description(p.oid, 'pg_proc') is not null
from pg_proc p where p.pronamespace = 'api'::regnamespace
"""

OF_ROUTER = "from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname ~ '^(api|router|node_\\d+)$'"
CALLABLE_BY_ALL = f"""
select p.oid::regprocedure::text {OF_ROUTER}
and (p.proacl is null or exists (select from aclexplode(p.proacl) a where a.grantee = 0))
"""
# PL/Proxy reads no names from a search path: what it sends to the node is qualified.
UNPINNED = f"""
select p.oid::regprocedure::text {OF_ROUTER}
and p.prosecdef and p.prolang <> (select oid from pg_language where lanname = 'plproxy')
and (p.proconfig @> array['search_path=pg_catalog, pg_temp']) is not true
"""
CALLABLE = f"select p.proname {OF_ROUTER} and n.nspname = 'router' and has_function_privilege($1, p.oid, 'execute')"


async def rows(url: str, statement: str, *arguments: str) -> set[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return {tuple(row) for row in await connection.fetch(statement, *arguments)}
    finally:
        await connection.close()


async def test_the_generated_files_are_those_of_this_schema(database: Database) -> None:
    for path, text in generator.texts(await generator.read(database.url)).items():
        assert path.read_text() == text, f"{path.name} is not up to date; run `python -m tools.router`"


async def test_a_function_without_a_route_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await generator.read(database.url)
    known = generator.routes()
    del known["reserve"]
    monkeypatch.setattr(generator, "routes", lambda: known)
    with pytest.raises(generator.NoRoute, match=r"no line for api\.reserve: add one"):
        generator.texts(node)


async def test_a_router_has_every_function_of_a_node(router: Router, database: Database) -> None:
    of_node = await rows(database.url, SIGNATURES, "api")
    of_one = {name for name, route in generator.routes().items() if route == "node"}
    assert await rows(router.owner_url, SIGNATURES, "node_1") == of_node
    assert await rows(router.owner_url, SIGNATURES, "api") == {row for row in of_node if row[0] not in of_one}


async def test_functions_of_a_router_read_and_write_as_those_of_a_node(router: Router, database: Database) -> None:
    of_node, of_router = await asyncio.gather(
        rows(database.url, VOLATILITY_AND_COMMENT), rows(router.owner_url, VOLATILITY_AND_COMMENT)
    )
    assert of_router <= of_node


async def test_nobody_but_the_roles_can_call_a_function_and_none_trusts_a_search_path(router: Router) -> None:
    assert await rows(router.owner_url, CALLABLE_BY_ALL) == set()
    assert await rows(router.owner_url, UNPINNED) == set()
    of_service = {name for (name,) in await rows(router.owner_url, CALLABLE, "lastpair_service")}
    assert of_service == {"nodes_of_app", "note_away", "ensure_users"}
    for role in "lastpair_buyer", "lastpair_seller":
        assert await rows(router.owner_url, CALLABLE, role) == set()
