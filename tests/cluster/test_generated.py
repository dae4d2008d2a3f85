"""The functions of a router are generated from those of a node, so none can be forgotten."""

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
