"""Bring a database up to date: the pending migrations and the function files that changed, all in one transaction.

Migrations have the format of dbmate, and its table says which ones have run.
"""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from uuid import uuid4

import asyncpg

from lastpair.database.embedded import BIN_DIR, embedded_database
from lastpair.database.pool import SERVICE_ROLE
from lastpair.database.servers import CONNECTION_FAULTS, Servers, reason

DB_DIR = Path(__file__).resolve().parent.parent / "db"
"""Migrations, functions, sample data, recipes. In the repository this is a link to db/ at the top; a wheel carries a copy."""

FUNCTIONS_DIR = DB_DIR / "functions"
SCHEMA_FILE = DB_DIR / "schema" / "schema.sql"
PRIVILEGES = "privileges.sql"  # this file is no function; it runs at the end of every deployment that changed one
LOCK_TIMEOUT_SECONDS = 60
"""How long a deployment waits for another one to end, and for a lock while it applies the function files."""

CREATE_MIGRATIONS = "create table schema_migrations (version varchar primary key)"  # as dbmate does it
MADE_MEANWHILE = (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError)
"""What CREATE_MIGRATIONS raises if another deployment makes the table at the same moment."""

HALVES = re.compile(r"^-- migrate:(?:up|down)$", re.MULTILINE)
LOCK_MIGRATIONS = "lock table schema_migrations in share update exclusive mode"

# The pid 0 stands for a transaction that was prepared and has no session.
LOCK_HOLDERS = """
select case b.pid
  when 0 then 'a prepared transaction, see pg_prepared_xacts'
  else format(
    'pid %s, application_name %L, user %s, %s since %s', b.pid, a.application_name, coalesce(a.usename, '?'),
    coalesce(a.state, 'state unknown'), coalesce(date_trunc('second', a.state_change)::text, '?'))
  end
from (
  select distinct unnest(pg_blocking_pids(w.pid)) as pid from pg_stat_activity w
  where w.datname = current_database() and w.application_name = $1 and w.wait_event_type = 'Lock'
) b
left join pg_stat_activity a on a.pid = b.pid
order by a.xact_start nulls last
limit 3
"""
LOOK_SECONDS, REMEMBER_SECONDS = 0.2, 2
"""How often to look who holds a lock that a deployment waits for, and how long to name those that were found."""

MAY_MIGRATE = """
select
  coalesce(
    (select pg_has_role(n.nspowner, 'usage') from pg_namespace n where n.nspname = 'inventory'),
    has_database_privilege(current_database(), 'create')),
  session_user
"""
NOT_DEPLOYED = (
    asyncpg.InvalidParameterValueError,  # there is no role lastpair_service
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedFunctionError,
)
"""What api.deployed() raises in a database that has no such function yet."""

# If the set that is deployed was in force before, this deployment goes back to it: the sets after it are not newer any more.
FORGET_LATER_SETS = """
delete from inventory.function_sets
where number >= (select s.number from inventory.function_sets s where s.checksum = $1)
"""


class MigrationFailed(Exception):
    """A migration or a function file failed. The message says which and why."""


def is_checkout() -> bool:
    """Whether this is the repository, and not an installed package."""
    return DB_DIR.is_symlink()


async def migrate(url: str) -> str | None:
    """Run the pending migrations and apply the changed function files, in one transaction.

    Calls see the database as it was before or as it is afterwards, never new tables with old functions. Returns what was done: a
    line for each migration and one about the function files; None if nothing was. If the role of the URL does not own the
    schemas, nothing is changed, and the line says that nothing is pending. Raises MigrationFailed, also if such a role finds
    something pending.
    """
    if not await may_migrate(url):
        return await _check_up_to_date(url)
    async with only_deployment(url) as connection:
        done = [f"Migrated: {path.name}" for path in await _apply_migrations(connection)]
        if applied := await apply_functions(connection, FUNCTIONS_DIR):
            done.append(f"Functions: {len(applied)} applied")
    return "\n".join(done) or None


async def roll_back(url: str) -> str:
    """Take the last migration back. Returns a line that names it. Raises MigrationFailed."""
    async with only_deployment(url) as connection:
        version = await connection.fetchval("select max(version) from schema_migrations")
        path = next((path for path in _migration_files() if _version(path) == version), None)
        if path is None:
            what = f"this version has no file of the migration {version}" if version else "no migration has run"
            raise MigrationFailed(f"nothing to take back: {what}")
        await _run(connection, path, down=True)
        await connection.execute("delete from schema_migrations where version = $1", version)
    return f"Rolled back: {path.name}"


@asynccontextmanager
async def naming_lock_holders(url: str, application_name: str) -> AsyncIterator[None]:
    """If a session of this name waits for a lock within the block and fails, MigrationFailed names the sessions that hold it."""
    holders, seen_at = "", 0.0

    async def look() -> None:
        nonlocal holders, seen_at
        while True:
            if rows := await connection.fetch(LOCK_HOLDERS, application_name):
                holders, seen_at = "; ".join(row[0] for row in rows), monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    connection = await asyncpg.connect(url)
    looking = asyncio.create_task(look())
    try:
        yield
    except (MigrationFailed, asyncpg.LockNotAvailableError) as error:
        named = f"; it waited for {holders}" if holders and monotonic() - seen_at < REMEMBER_SECONDS else ""
        raise MigrationFailed(f"{error}{named}") from None
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError, *CONNECTION_FAULTS):
            await looking
        connection.terminate()


@asynccontextmanager
async def only_deployment(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Within this block no other deployment runs on the database. Waits for another one to end.

    Yields a connection within a transaction, which the end of the block commits. If it fails because of a lock, MigrationFailed
    names the sessions that hold it.

    The lock is on the table of migrations, because that takes a privilege: only the owner can stop a deployment. An advisory lock
    could be taken by any role that may connect. Raises MigrationFailed if the lock is not free within LOCK_TIMEOUT_SECONDS.
    """
    application_name = f"lastpair migrate {uuid4().hex[:8]}"
    async with naming_lock_holders(url, application_name):
        connection = await asyncpg.connect(url, server_settings={"application_name": application_name})
        try:
            if await connection.fetchval("select to_regclass('schema_migrations') is null"):
                with suppress(*MADE_MEANWHILE):
                    await connection.execute(CREATE_MIGRATIONS)
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
                await connection.execute("set local statement_timeout = 0")
                await connection.execute("set local idle_in_transaction_session_timeout = 0")
                try:
                    await connection.execute(LOCK_MIGRATIONS)
                except asyncpg.LockNotAvailableError:
                    raise MigrationFailed(f"the table schema_migrations was locked for {LOCK_TIMEOUT_SECONDS} s") from None
                yield connection
        finally:
            await connection.close()


async def _apply_migrations(connection: asyncpg.Connection) -> list[Path]:
    known = {row["version"] for row in await connection.fetch("select version from schema_migrations")}
    pending = [path for path in _migration_files() if _version(path) not in known]
    for path in pending:
        await _run(connection, path)
        await connection.execute("insert into schema_migrations (version) values ($1)", _version(path))
    return pending


async def _run(connection: asyncpg.Connection, path: Path, *, down: bool = False) -> None:
    try:
        _, up_half, down_half = HALVES.split(path.read_text())
    except ValueError:
        raise MigrationFailed(f"db/migrations/{path.name}: must have the lines `-- migrate:up` and `-- migrate:down`") from None
    try:
        # The empty statement is there because asyncpg does not understand the answer to a text of comments only.
        await connection.execute(f"{down_half if down else up_half}\n;select")
    except asyncpg.PostgresError as error:
        raise MigrationFailed(f"db/migrations/{path.name}: {reason(error)}") from error


async def may_migrate(url: str) -> bool:
    """Whether the role of the URL owns the schemas, or may make them in a database that has none."""
    may, _ = await _right_to_migrate(url)
    return may


async def require_owner(url: str) -> None:
    """Raise MigrationFailed, which says what to set, unless the role of the URL may migrate."""
    may, role = await _right_to_migrate(url)
    if not may:
        raise MigrationFailed(f"MIGRATION_DATABASE_URL: the role {role} does not own the schemas; set it to the owner's URL")


async def _right_to_migrate(url: str) -> tuple[bool, str]:
    # Whether the role of the URL may migrate, and its name.
    connection = await Servers(url).connect()
    try:
        [(may, role)] = await connection.fetch(MAY_MIGRATE)
        return may, role
    finally:
        await connection.close()


async def first_missing_migration(url: str) -> str | None:
    """The first migration that the database of this URL lacks, as `migrations/<version>`, or None. It is asked as the service is.

    Raises CONNECTION_FAULTS if the service could not work with this URL.
    """
    connection = await Servers(url).connect(statement_cache_size=0)  # the URL may lead through a pooler
    try:
        async with connection.transaction():
            await connection.execute(f"set local role {SERVICE_ROLE}")
            deployed = {row["path"] for row in await connection.fetch("select path from api.deployed()")}
    except NOT_DEPLOYED:
        deployed = set()
    finally:
        await connection.close()
    return next((path for path in _migrations() if path not in deployed), None)


async def _check_up_to_date(url: str) -> str:
    checksums = _checksums(_read_files(FUNCTIONS_DIR))
    deployed: dict[str, str | None] = {}
    is_superseded = False
    connection = await Servers(url).connect()
    try:
        role = await connection.fetchval("select session_user")
        try:
            await connection.execute(f"set role {SERVICE_ROLE}")
            deployed = {row["path"]: row["checksum"] for row in await connection.fetch("select * from api.deployed()")}
            is_superseded = await connection.fetchval("select api.is_superseded($1)", checksum_of_set(checksums))
        except NOT_DEPLOYED:
            pass
    finally:
        await connection.close()
    expected: dict[str, str | None] = dict.fromkeys(_migrations())
    if any(path not in expected for path in deployed if path.startswith("migrations/")):
        return "A newer version has migrated the schema; this version serves on it"
    if is_superseded and all(path in deployed for path in expected):
        return "A newer version has replaced the functions; this version serves on them"
    expected |= {f"functions/{path}": checksum for path, checksum in checksums.items()}
    pending = [path for path in expected if deployed.get(path, "") != expected[path]]
    pending += [path for path in deployed if path not in expected]
    if pending:
        raise MigrationFailed(
            f"MIGRATION_DATABASE_URL: db/{pending[0]} is pending, and the role {role} does not own the schemas;"
            " run `lastpair migrate` with the owner's URL here"
        )
    return f"The schema is up to date; the role {role} could not migrate it, and need not"


async def apply_functions(connection: asyncpg.Connection, directory: Path) -> list[str]:
    """Apply the function files of `directory` that changed since last time, and drop the functions whose file is gone.

    It runs in a transaction, the caller's if there is one, and takes no lock that stops a reader or writer of a table. A file
    `api/reserve.sql` defines the function `api.reserve`; versions of it with another signature are dropped. Returns the paths
    applied or dropped. Raises MigrationFailed, and then nothing was changed.
    """
    files = _read_files(directory)
    checksums = _checksums(files)
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
        known = {row["path"]: row["checksum"] for row in await connection.fetch("table inventory.function_files")}
        removed = [path for path in known if path not in files]
        changed = [path for path in files if known.get(path) != checksums[path]]
        if not changed and not removed:
            return []
        await connection.execute("set local check_function_bodies = off")  # files may name each other in any order
        for path in removed:
            await _drop_functions(connection, await _versions(connection, path))  # these functions have no file any more
            await connection.execute("delete from inventory.function_files where path = $1", path)
        for path in changed:
            try:
                if path != PRIVILEGES:
                    await _apply(connection, path, files[path])
            except asyncpg.PostgresError as error:
                raise MigrationFailed(f"db/functions/{path}: {reason(error)}") from error
            await connection.execute(
                "insert into inventory.function_files (path, checksum) values ($1, $2)"
                " on conflict (path) do update set checksum = excluded.checksum, applied_at = now()",
                path,
                checksums[path],
            )
        await connection.execute(files[PRIVILEGES])
        await connection.execute(FORGET_LATER_SETS, checksum_of_set(checksums))
        await connection.execute("insert into inventory.function_sets (checksum) values ($1)", checksum_of_set(checksums))
    return changed + removed


def _migration_files() -> list[Path]:
    return sorted((DB_DIR / "migrations").glob("*.sql"))


def _version(path: Path) -> str:
    return path.name.partition("_")[0]


def _migrations() -> list[str]:
    return [f"migrations/{_version(path)}" for path in _migration_files()]


def _read_files(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): path.read_text() for path in sorted(directory.rglob("*.sql"))}


def deployed_files() -> dict[str, str | None]:
    """What api.deployed() says of a database that this version has deployed."""
    functions = _checksums(_read_files(FUNCTIONS_DIR))
    return dict.fromkeys(_migrations()) | {f"functions/{path}": checksum for path, checksum in functions.items()}


def _checksums(files: dict[str, str]) -> dict[str, str]:
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}


def checksum_of_set(checksums: dict[str, str]) -> str:
    """One checksum for function files together, by their paths and checksums."""
    return hashlib.sha256("".join(f"{path} {checksums[path]}\n" for path in sorted(checksums)).encode()).hexdigest()


async def _apply(connection: asyncpg.Connection, path: str, text: str) -> None:
    before = await _versions(connection, path)
    try:
        async with connection.transaction():
            await connection.execute(text)
    except asyncpg.InvalidFunctionDefinitionError:
        # PostgreSQL does not replace a function when its return type or the names of its arguments changed.
        await _drop_functions(connection, before)
        await connection.execute(text)
    after = await _versions(connection, path)
    # A row version that existed before was not replaced, because its signature is another one, which the file no longer has.
    if not after - before:
        raise MigrationFailed(f"db/functions/{path} does not define the function it is named after")
    await _drop_functions(connection, after & before)


async def _versions(connection: asyncpg.Connection, path: str) -> set[tuple[str, str]]:
    """The functions that have the name of the file, as pairs (signature, row version)."""
    schema, name = path.removesuffix(".sql").split("/")
    rows = await connection.fetch(
        "select oid::regprocedure::text, ctid::text from pg_proc where pronamespace = $1::text::regnamespace and proname = $2",
        schema,
        name,
    )
    return {(signature, version) for signature, version in rows}


async def _drop_functions(connection: asyncpg.Connection, functions: set[tuple[str, str]]) -> None:
    for signature, _ in functions:
        await connection.execute(f"drop function {signature}")


def write_schema(schema_file: Path) -> None:
    """Write dbmate's dump of a database that has run the migrations and nothing else, on an embedded server (PostgreSQL 18)."""
    with TemporaryDirectory(prefix="lastpair-schema-") as folder, embedded_database(Path(folder)) as url:
        asyncio.run(_migrate_only(url))
        _dump(url, schema_file)


async def _migrate_only(url: str) -> None:
    async with only_deployment(url) as connection:
        await _apply_migrations(connection)


def _dump(url: str, schema_file: Path) -> None:
    command = ["dbmate", f"--migrations-dir={DB_DIR / 'migrations'}", f"--schema-file={schema_file}", "dump"]
    # dbmate is beside Python, and runs pg_dump.
    programs = [str(Path(sys.executable).parent), *([str(BIN_DIR)] if BIN_DIR else []), os.environ.get("PATH", "")]
    environment = {**os.environ, "DATABASE_URL": f"{url}&sslmode=disable", "PATH": os.pathsep.join(programs)}
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise MigrationFailed("dbmate dump failed")
