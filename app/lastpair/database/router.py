"""The router: a database that passes every call on to the node that has the drop. It is made here, and nodes are added to it.

A database is a router if it has the extension PL/Proxy (db/recipes/router.sql). db/router/setup.sql explains what is in it.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from lastpair.database.migrate import (
    DB_DIR,
    FUNCTIONS_DIR,
    MigrationFailed,
    checksum_of_set,
    deployed_files,
    may_migrate,
    migrate,
    only_deployment,
)
from lastpair.database.pool import SERVICE_ROLE
from lastpair.database.servers import CONNECTION_FAULTS, Servers, reason, url_of

ROUTER_DIR = DB_DIR / "router"
PRIVILEGES_FILE = FUNCTIONS_DIR / "privileges.sql"
TYPE = re.compile(r'^create type (api\."?(\w+)"?) as \(\n(.*?)\n\);$', re.MULTILINE | re.DOTALL)
HOST_AND_PORT = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([^:]*))?")
"""A host of a URL, which is an IPv6 address if it has brackets, and its port."""

PORT = re.compile("[0-9]{1,5}")
NO_URL_OF_A_NODE = "--url: must be postgresql://user@host/database"
CONNECT_TIMEOUT_SECONDS = 5
PATIENCE_SECONDS = 30
"""How long `node add` waits until the clock of a new node is later than the time from which ids are numbered."""

IS_ROUTER = "select exists (select from pg_extension where extname = 'plproxy')"

DROP_FUNCTIONS = r"""
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('api', 'router') or n.nspname ~ '^node_\d+$'
  loop
    if exists (select from pg_proc p where p.oid = v_function) then -- it may have gone with another one
      execute format('drop function %s cascade', v_function);
    end if;
  end loop;
end
$$
"""
ROUTER_PRIVILEGES = """
revoke all on all functions in schema router from public;
grant usage on schema router to lastpair_service;
grant execute on function
  router.nodes_of_app(), router.note_away(integer, integer), router.ensure_users(integer, api.user_request[])
to lastpair_service;
grant usage on schema api to lastpair_buyer, lastpair_seller, lastpair_service;
"""
NODE_PRIVILEGES = """
revoke all on all functions in schema node_0 from public;
grant usage on schema node_0 to lastpair_service;
grant execute on all functions in schema node_0 to lastpair_service;
"""
ATTRIBUTES = """
select format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
from pg_attribute a join pg_type t on t.typrelid = a.attrelid
where t.typname = $1 and t.typnamespace = 'api'::regnamespace and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
DROPS_AFTER = timedelta(seconds=10)
"""How long after a node has joined new drops go to it. Processes ask every two seconds for the nodes (database/nodes.py)."""

ADD_NODE = """
insert into router.nodes (number, joined_at, drops_from)
select $1, $2, $2::timestamptz + case when exists (select from router.nodes) then $3::interval else '0' end
"""
COPY_ENDPOINTS = "select router.copy_webhook_endpoints(array[$1::integer])"
LIST_NODES = """
select n.number, s.address, t.rows ->> 0, n.is_draining, t.is_away
from router.nodes n
join router.nodes_of_app() s on s.number = n.number
cross join lateral router.try_call(n.number, 'lastpair_service', 'load', '{}') t
order by n.joined_at, n.number
"""
WHAT_IS_OPEN = """
select t.is_away, w.what, w.number
from router.try_call($1, 'lastpair_service', 'open_work', '{}') t
left join lateral json_to_recordset(t.rows) as w (what text, number bigint) on true
"""
STATUSES = ("draft", "scheduled", "live", "ended", "cancelled")
ANY_DROP = "select from api.list_drops($1, 1)"


class NodeRefused(Exception):
    """A command about nodes cannot do what it is for. The message is one line that says why, and what to do."""


class NodeLine(NamedTuple):
    """A node as `lastpair node list` shows it."""

    number: int
    address: str
    live_units: int | None
    """None if it is away."""

    is_draining: bool


async def is_router(url: str) -> bool:
    """Whether this is the database of a router."""
    connection = await Servers(url).connect()
    try:
        return bool(await connection.fetchval(IS_ROUTER))
    finally:
        await connection.close()


async def deploy(url: str) -> str | None:
    """Bring a database up to date, which may be a node or a router. Returns what was done, or None.

    If the URL names several routers, each of them is brought up to date.
    Raises MigrationFailed.
    """
    if not await is_router(url):
        return await migrate(url)
    if not await may_migrate(url):
        return await migrate(url)  # says whether something is pending
    done = [line for one in Servers(url).urls if (line := await _deploy_router(one))]
    return "\n".join(done) or None


async def _deploy_router(url: str) -> str | None:
    files = deployed_files()
    checksum = checksum_of_set({path: value for path, value in files.items() if value} | {"router": _checksum_of_router()})
    async with only_deployment(url) as connection:
        await connection.execute("create schema if not exists router; create schema if not exists api")
        if await connection.fetchval("select to_regclass('router.deployed') is not null"):
            known = _pairs(await connection.fetch("select path, checksum from router.deployed"))
            if known == files and await connection.fetchval("select obj_description('router'::regnamespace)") == checksum:
                return None
        # A call that comes while functions are made anew waits until the end of this transaction, and then finds the new one.
        await connection.execute("set local check_function_bodies = off")
        await connection.execute(DROP_FUNCTIONS)
        await _apply_types(connection)
        for path in [ROUTER_DIR / "setup.sql", ROUTER_DIR / "users.sql", *sorted((ROUTER_DIR / "functions").glob("*.sql"))]:
            await _execute(connection, path.relative_to(DB_DIR).as_posix(), path.read_text())
        await _execute(connection, "router/api.sql", TYPE.sub("", (ROUTER_DIR / "api.sql").read_text()))
        await connection.execute(PRIVILEGES_FILE.read_text().replace("in schema inventory, api", "in schema api"))
        await connection.execute(ROUTER_PRIVILEGES)
        for (number,) in await connection.fetch("select number from router.nodes"):
            await _make_schema_of_node(connection, number)
        await connection.execute("delete from router.deployed")
        await connection.executemany("insert into router.deployed (path, checksum) values ($1, $2)", list(files.items()))
        of_files = checksum_of_set({p.removeprefix("functions/"): c for p, c in files.items() if c})
        await connection.execute(
            "delete from router.function_sets where number >= (select number from router.function_sets where checksum = $1)",
            of_files,
        )
        await connection.execute("insert into router.function_sets (checksum) values ($1)", of_files)
        await connection.execute(f"comment on schema router is '{checksum}'")
        # A session that its client has given up ends, although it waits for a node.
        [(name,)] = await connection.fetch("select quote_ident(current_database())")
        await connection.execute(f"alter database {name} set client_connection_check_interval = '2s'")
        await connection.execute(f"alter database {name} set jit = off")
    return "Router: functions made"


def _pairs(rows: list[asyncpg.Record]) -> dict[Any, Any]:
    # Rows of two columns.
    return {row[0]: row[1] for row in rows}


def _checksum_of_router() -> str:
    texts = [path.read_text() for path in sorted(ROUTER_DIR.rglob("*.sql"))]
    return hashlib.sha256("".join(texts).encode()).hexdigest()


async def _execute(connection: asyncpg.Connection, path: str, text: str) -> None:
    try:
        await connection.execute(text)
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"db/{path}: {reason(error)}") from error


async def _apply_types(connection: asyncpg.Connection) -> None:
    # Types are changed and not made anew, because sessions know them by their numbers.
    for name, bare_name, body in TYPE.findall((ROUTER_DIR / "api.sql").read_text()):
        wanted = body.replace("\n  ", "\n").strip().split(",\n")
        found = [row[0] for row in await connection.fetch(ATTRIBUTES, bare_name)]
        if not found:
            await connection.execute(f"create type {name} as ({', '.join(wanted)})")
        elif wanted[: len(found)] != found:
            raise MigrationFailed(f"the type {name} of the router has other attributes than that of a node; make the router anew")
        else:
            for attribute in wanted[len(found) :]:
                await connection.execute(f"alter type {name} add attribute {attribute}")


async def _make_schema_of_node(connection: asyncpg.Connection, number: int) -> None:
    text = (ROUTER_DIR / "node.sql").read_text()
    await connection.execute(f"create schema if not exists node_{number}")
    await _execute(connection, "router/node.sql", (text + NODE_PRIVILEGES).replace("node_0", f"node_{number}"))


# Nodes -----------------------------------------------------------------------------------------------------------------------


def address_of(url: str) -> tuple[str, str]:
    """What the router keeps of the URL of a node: its address for libpq, and the user. Raises NodeRefused."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NodeRefused(NO_URL_OF_A_NODE) from None
    credentials, _, netloc_hosts = parts.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    query = dict(parse_qsl(parts.query))
    found = [HOST_AND_PORT.fullmatch(text) for text in netloc_hosts.split(",") if text]
    pairs = [(match[1] or match[2], match[3] or query.get("port", "5432")) for match in found if match]
    hosts = ",".join(unquote(host) for host, _ in pairs) or query.get("host", "")
    ports = ",".join(port for _, port in pairs) or query.get("port", "5432")
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in {"postgresql", "postgres"} or None in found or not hosts or not name or not user:
        raise NodeRefused(NO_URL_OF_A_NODE)
    if not all(PORT.fullmatch(port) and 1 <= int(port) <= 65535 for port in ports.split(",")):
        raise NodeRefused("--url: a port must be a whole number from 1 to 65535")
    kept = {
        "host": hosts,
        "port": ports,
        "dbname": name,
        "target_session_attrs": "read-write",
        "connect_timeout": "2",
        # A machine that is gone is noticed after three seconds.
        "tcp_user_timeout": "3000",
        "keepalives_idle": "2",
        "keepalives_interval": "1",
        "keepalives_count": "3",
        "application_name": "lastpair router",
        # The functions turn off kinds of plans, which makes others look so expensive that PostgreSQL would compile them (jit).
        "options": "-c jit=off -c lock_timeout=5s",
        **{key: value for key, value in query.items() if key.startswith("ssl")},
    }
    return " ".join(f"{key}={_quoted(value)}" for key, value in kept.items()), unquote(user)


def _quoted(value: str) -> str:
    # As libpq quotes a value of a connection string.
    if re.fullmatch(r"[\w.,/:-]+", value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@asynccontextmanager
async def _connected(url: str, what: str, *, role: str | None = None) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await Servers(url).connect(timeout=CONNECT_TIMEOUT_SECONDS)
    except CONNECTION_FAULTS as error:
        raise NodeRefused(f"{what} cannot be reached: {reason(error)}") from None
    try:
        if role:
            await connection.execute(f"set role {role}")
        yield connection
    finally:
        await connection.close()


async def add_node(routers: str, number: int, url: str) -> None:
    """Add a node to each router that the owner's URL names. Raises NodeRefused.

    `url` is what the service would log in with on the node; its password may also come from PGPASSWORD or a password file. It can
    be repeated if one of the routers was away.
    """
    address, user = address_of(url)
    if not 0 <= number <= 255:
        raise NodeRefused("--number: must be between 0 and 255")
    joined = await _joined(routers)
    async with _connected(routers, "the router") as router:
        known = await router.fetch("select number, joined_at from router.nodes order by joined_at, number")
        files = _pairs(await router.fetch("select path, checksum from router.deployed"))
        now = await router.fetchval("select clock_timestamp()")
        same = await router.fetchval(
            "select number from router.nodes_of_app() where address = $1 and number <> $2", address, number
        )
        if same is not None:
            raise NodeRefused(f"--url: leads to node {same}, which has joined already")
    async with _connected(url_of(address, url), f"node {number}", role=SERVICE_ROLE) as node:
        password = node._params.password  # type: ignore[attr-defined]
        await _check_node(node, number, files, may_have_drops=not joined or number in joined)
        if number in joined:
            joined_at = joined[number]  # a router that knows it says when, because all must read ids in the same way
        elif not known and not joined:
            joined_at = max(now, await node.fetchval("select clock_timestamp()")) + timedelta(milliseconds=1)
        else:
            joined_at = now
        await _wait_for_clock(node, number, min([*joined.values(), joined_at]))
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection, connection.transaction():
            if await connection.fetchval("select exists (select from router.nodes where number = $1)", number):
                if len(Servers(routers).urls) == 1:
                    raise NodeRefused(f"--number: there is a node {number} already")
                continue
            await _add_to_router(connection, number, joined_at, address, user, password)
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection:  # an endpoint may have been made while the node was not seen
            await connection.execute(COPY_ENDPOINTS, number)
    if number in joined and await _is_draining(routers, number):
        await set_draining(routers, number, is_draining=True)


async def _is_draining(routers: str, number: int) -> bool:
    # Whether one of the routers says so.
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection:
            if await connection.fetchval("select is_draining from router.nodes where number = $1", number):
                return True
    return False


async def _joined(routers: str) -> dict[int, datetime]:
    # When each node joined, as the routers say that know it.
    joined: dict[int, datetime] = {}
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection:
            joined |= _pairs(await connection.fetch("select number::integer, joined_at from router.nodes"))
    return joined


async def _check_node(node: asyncpg.Connection, number: int, files: dict[str, str | None], *, may_have_drops: bool) -> None:
    if await node.fetchval(IS_ROUTER):
        raise NodeRefused("--url: leads to a router; name the database of a node")
    try:
        deployed = _pairs(await node.fetch("select path, checksum from api.deployed()"))
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError):
        raise NodeRefused(f"node {number} was never migrated; run `lastpair migrate` with the URL of its owner") from None
    if different := sorted(path for path in {*deployed, *files} if deployed.get(path, "") != files.get(path, "")):
        raise NodeRefused(f"node {number} has another version than the router: db/{different[0]}; migrate both")
    if not may_have_drops and [row for status in STATUSES for row in await node.fetch(ANY_DROP, status)]:
        raise NodeRefused(f"node {number} has drops; only the first node may have some when it joins")
    its_number = await node.fetchval("select api.node()")
    if its_number == number:
        return
    why = "this command changes only a number that is still 0"
    if not its_number:
        try:
            await node.execute(f"reset role; select inventory.set_node({number}); set role {SERVICE_ROLE}")
        except asyncpg.PostgresError as error:
            why = f"this login cannot change that ({reason(error)})"
        else:
            return
    raise NodeRefused(
        f"node {number} calls itself {its_number}, and {why}; if no router knows it under that number,"
        f" run `select inventory.set_node({number})` there, as its owner"
    )


async def _wait_for_clock(node: asyncpg.Connection, number: int, numbered_from: datetime) -> None:
    # An id of a new node that is older than this would be taken for one of the first node.
    for _ in range(PATIENCE_SECONDS * 10):
        if await node.fetchval("select clock_timestamp()") > numbered_from:
            return
        await asyncio.sleep(0.1)
    raise NodeRefused(f"node {number} has a clock that is behind that of the router; set it")


async def _add_to_router(
    connection: asyncpg.Connection, number: int, joined_at: datetime, address: str, user: str, password: str | None
) -> None:
    server = f"node_{number}"
    await connection.execute(
        f"create server {server} foreign data wrapper plproxy options (p0 {await _literal(connection, address)})"
    )
    options = [f"user {await _literal(connection, user)}"]
    if password is not None:
        options.append(f"password {await _literal(connection, password)}")
    await connection.execute(f"create user mapping for current_user server {server} options ({', '.join(options)})")
    await _make_schema_of_node(connection, number)
    await connection.execute(ADD_NODE, number, joined_at, DROPS_AFTER)
    await connection.execute(f"set local statement_timeout = '{CONNECT_TIMEOUT_SECONDS}s'")  # PL/Proxy waits for a silent server
    try:
        await connection.execute(f"select node_{number}.node()")
    except asyncpg.PostgresError as error:
        raise NodeRefused(f"the router cannot reach node {number}: {reason(error)}") from None
    await connection.execute("set local statement_timeout to default")
    await connection.execute(COPY_ENDPOINTS, number)


async def _literal(connection: asyncpg.Connection, value: str) -> str:
    return str(await connection.fetchval("select quote_literal($1::text)", value))


async def list_nodes(url: str) -> list[NodeLine]:
    """The nodes of a router, in the order in which they joined. Raises NodeRefused."""
    async with _connected(url, "the router") as router:
        rows = await router.fetch(LIST_NODES)
        return [
            NodeLine(number, address, None if is_away else int(load), is_draining)
            for number, address, load, is_draining, is_away in rows
        ]


async def set_draining(routers: str, number: int, *, is_draining: bool) -> None:
    """Let new drops go elsewhere than to this node, or to it again, on each router. Raises NodeRefused."""
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection:
            await _require_node(connection, number)
            await connection.execute(
                "update router.nodes set is_draining = $2, changed_at = clock_timestamp()"
                " where number = $1 and is_draining <> $2",
                number,
                is_draining,
            )


async def detach_node(routers: str, number: int) -> None:
    """Take a node out of each router. Raises NodeRefused if it is not draining, sells or holds anything, or is the first one.

    It can be repeated if it was interrupted.

    Every name is claimed on the first node, besides others (db/router/users.sql), so no name is lost with another node.
    """
    if number not in await _joined(routers):
        raise NodeRefused(f"there is no node {number}")
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection:
            if not await connection.fetchval("select exists (select from router.nodes where number = $1)", number):
                continue  # a command that was interrupted has taken it out here
            if await connection.fetchval("select (router.all_nodes())[1]") == number:
                raise NodeRefused(
                    f"node {number} is the first one, which registers the names of all users, so it stays;"
                    f" docs/cluster.md says how it moves to another server"
                )
            if not await connection.fetchval("select is_draining from router.nodes where number = $1", number):
                raise NodeRefused(f"node {number} is not draining; run `lastpair node drain {number}` first")
            await _require_idle(connection, number)
    for one in Servers(routers).urls:
        async with _connected(one, "the router") as connection, connection.transaction():
            await connection.execute("delete from router.nodes where number = $1", number)
            await connection.execute(f"drop schema if exists node_{number} cascade")
            await connection.execute(f"drop server if exists node_{number} cascade")


async def _require_node(connection: asyncpg.Connection, number: int) -> None:
    if not await connection.fetchval("select exists (select from router.nodes where number = $1)", number):
        raise NodeRefused(f"there is no node {number}")


async def _require_idle(connection: asyncpg.Connection, number: int) -> None:
    rows = await connection.fetch(WHAT_IS_OPEN, number)
    if any(row["is_away"] for row in rows):
        raise NodeRefused(f"node {number} cannot be reached, so it is not known whether it still sells")
    for row in rows:
        if row["number"]:
            raise NodeRefused(f"node {number} still has {row['what']} ({row['number']}); wait until they are done")
