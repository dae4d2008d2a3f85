"""A router and two nodes that the tests of one database take for that one database (`make test-cluster`).

Over HTTP and in the functions of the schema api a cluster is one database. Tests also look behind them, as the owner: they read
and change the tables of the schema inventory. So the router of these tests has such a schema, of foreign tables of the nodes.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg.rows import tuple_row

from tests.support.clusters import PASSWORD, Cluster
from tests.support.database import Database, connected
from tests.support.router import FAST, Router, running_router

SQL = Path(__file__).with_name("whole_cluster_sql")
TEMPLATE = "lastpair_template"
BY_ID = ("baskets", "drops", "payments", "provider_calls", "purchases", "reservations", "variants")
BY_DROP_ID = ("drop_changes", "events", "pruned_events")
DEFINITIONS = """
select pg_get_functiondef(p.oid) from pg_proc p
where p.pronamespace = 'inventory'::regnamespace and p.proname in ('node', 'uuid_v7') order by p.proname
"""
COLUMNS = """
select c.relname, string_agg(
  concat_ws(' ', quote_ident(a.attname), format_type(coalesce(nullif(t.typbasetype, 0), t.oid), a.atttypmod),
    case when a.attnotnull then 'not null' end,
    case when c.relname = any ($1) then 'default ' || pg_get_expr(d.adbin, d.adrelid) end),
  ', ' order by a.attnum)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
where c.relnamespace = 'inventory'::regnamespace and c.relkind = 'r'
group by c.relname order by c.relname
"""
OF_SERVERS = {
    "pg_stat_activity": "datname name, pid integer, usename name, application_name text, xact_start timestamptz,"
    " query_start timestamptz, wait_event_type text, wait_event text, state text, query text, backend_type text",
    "pg_stat_database": "datname name, deadlocks bigint",
}
"""The columns of those tables of a server that tests look at."""

POINT = """
select format('alter server %I options (set %s)', s.srvname, string_agg(
  format('%s %L', split_part(o, '=', 1), regexp_replace(
    substr(o, strpos(o, '=') + 1), case when o like 'dbname=%' then '.*' else 'dbname=\\S+' end,
    case when o like 'dbname=%' then $1 else 'dbname=' || $1 end)), ', set '))
from pg_foreign_server s cross join unnest(s.srvoptions) o where o ~ '^(p0|dbname)=' group by s.srvname
"""


@dataclass(frozen=True)
class ClusteredDatabase(Database):
    """The database of a router, with its nodes. A database of the same name on each server is another one."""

    router: Router = field(kw_only=True)

    def prepare(self) -> None:
        """Make the schema inventory of the router, and what others are copied from."""
        _show_nodes(self.router)
        for server in self._servers:
            with psycopg.connect(server.superuser_url, autocommit=True) as connection:
                connection.execute(f"create database {TEMPLATE} template lastpair owner lastpair".encode())

    def keep_drops_together(self, are_together: bool) -> None:
        """Say whether new drops go to the first node only, here and in copies that are made from now on."""
        for name in ("lastpair", TEMPLATE):
            with psycopg.connect(_of_database(self.router.superuser_url, name), autocommit=True) as connection:
                connection.execute("update router.nodes set is_draining = number <> 0 and %s", (are_together,))

    @asynccontextmanager
    async def copy(self, template: str) -> AsyncIterator[str]:
        """The owner's URL of another router with nodes of its own, or of an empty database on the router's server."""
        if template != TEMPLATE:
            async with super().copy(template) as url:
                yield url
            return
        name = f"lastpair_other_{uuid4().hex[:12]}"
        for server in self._servers:
            async with connected(server.superuser_url) as superuser:
                await superuser.execute(f"create database {name} template {TEMPLATE} owner lastpair")
        await _point_to_copies(self.router, name)
        yield _of_database(self.url, name)
        for server in self._servers:
            async with connected(server.superuser_url) as superuser:
                await superuser.execute(f"drop database {name} with (force)")

    @property
    def _servers(self) -> list[Cluster]:
        return [self.router.server, *self.router.nodes.values()]


@contextmanager
def clustered_database() -> Iterator[ClusteredDatabase]:
    """A router with the nodes 0 and 1, which its owner sees as one database."""
    with running_router(0, 1, settings=(*FAST, "jit = off")) as router:
        database = ClusteredDatabase(router.owner_url, router.superuser_url, router.url, TEMPLATE, router=router)
        database.prepare()
        yield database


def _of_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _show_nodes(router: Router) -> None:
    with psycopg.connect(_of_database(router.nodes[0].superuser_url, "lastpair"), row_factory=tuple_row) as node:
        definitions = [text for (text,) in node.execute(DEFINITIONS)]
        columns = dict(psycopg.RawCursor(node).execute(COLUMNS, [[*BY_ID, *BY_DROP_ID]]).fetchall())
    with psycopg.connect(router.superuser_url, autocommit=True) as superuser:
        superuser.execute(
            "create extension postgres_fdw; create extension dblink;"
            " grant usage on foreign data wrapper postgres_fdw to lastpair;"
            " alter role lastpair set search_path = servers, pg_catalog, public"
        )
    statements = ["create schema inventory", *definitions]
    for number, node_server in router.nodes.items():
        options = f"host '127.0.0.1', port '{node_server.port}', dbname 'lastpair'"
        statements += [
            f"create server data_{number} foreign data wrapper postgres_fdw options ({options})",
            f"create user mapping for lastpair server data_{number} options (user 'lastpair', password $p${PASSWORD}$p$)",
            f"create schema data_{number}",
        ]
    statements.append((SQL / "tables.sql").read_text())
    for table, its_columns in columns.items():
        statements += _table("inventory", table, its_columns, router)
    for table, its_columns in OF_SERVERS.items():
        statements += _table("pg_catalog", table, its_columns, router)
    statements += [(SQL / "users.sql").read_text(), (SQL / "servers.sql").read_text()]
    with psycopg.connect(router.owner_url) as owner:
        for statement in statements:
            owner.execute(statement.encode())


def _table(schema: str, table: str, columns: str, router: Router) -> Iterator[str]:
    key = "id" if table in BY_ID else "drop_id" if table in BY_DROP_ID else None
    if key:
        yield f"create table inventory.{table} ({columns}) partition by list (inventory.number_of({key}))"
    for number in router.nodes:
        options = f"server data_{number} options (schema_name '{schema}', table_name '{table}')"
        part = f"partition of inventory.{table} for values in ({number})" if key else f"({columns})"
        yield f"create foreign table data_{number}.{table} {part} {options}"
    if not key and schema == "inventory" and table not in ("users", "event_order"):
        rows = " union all ".join(f"table data_{number}.{table}" for number in router.nodes)
        yield f"create view inventory.{table} as {rows}"


async def _point_to_copies(router: Router, name: str) -> None:
    # A copy of the router still has the addresses of the original, and settings of a database are not copied with it.
    async with connected(_of_database(router.superuser_url, name)) as superuser:
        for (statement,) in await superuser.fetch(POINT, name):
            await superuser.execute(statement)
        await superuser.execute(f"alter database {name} set client_connection_check_interval = '2s'")
