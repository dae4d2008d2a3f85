"""The embedded PostgreSQL: a private server under DATA_DIR. Its programs come with the extra `embedded`."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg

from lastpair.database.private_server import INSTALL_DIR, PrivateServer
from lastpair.settings import InvalidSettings

BIN_DIR: Path | None = INSTALL_DIR and INSTALL_DIR / "bin"
"""The folder with psql, pg_dump, pgbench and the server's own programs."""

# The owner makes these roles, because a migration grants them to lastpair_api in its name. The last line lets the owner see and
# end the sessions of the service.
SERVICE_ROLES = """
set role lastpair;
do $$
declare
  v_role text;
begin
  foreach v_role in array array['lastpair_buyer', 'lastpair_seller', 'lastpair_service'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin', v_role);
    end if;
  end loop;
  create role lastpair_app login in role lastpair_buyer, lastpair_seller, lastpair_service;
end
$$;
reset role;
grant lastpair_app to lastpair with inherit true
"""


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Run the server of `data_dir` and yield its superuser's URL. Several processes may share it; the last one stops it.

    The folder is made on first use. Raises InvalidSettings if it cannot be made, if the server does not start, or if the extra is
    not installed.
    """
    with ExitStack() as stack:
        try:
            server = PrivateServer(data_dir.resolve() / "postgres")
            url = stack.enter_context(server.used())
        except OSError as error:
            raise InvalidSettings(f"DATA_DIR: cannot be used: {error}") from error
        yield url


@contextmanager
def embedded_database(data_dir: Path) -> Iterator[str]:
    """Run the server of `data_dir` and yield the URL of its database `lastpair`, as the ordinary role that owns it."""
    with embedded_server(data_dir) as url:
        asyncio.run(_ensure_database(url))
        yield url.replace("postgres:@/postgres", "lastpair@/lastpair")


def service_url(owner_url: str) -> str:
    """The URL of the same embedded database as the role that the service logs in as, which owns nothing."""
    return owner_url.replace("lastpair@/", "lastpair_app@/")


async def _ensure_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("select exists (select from pg_roles where rolname = 'lastpair')"):
            await connection.execute("create role lastpair login createrole")
        if not await connection.fetchval("select exists (select from pg_database where datname = 'lastpair')"):
            await connection.execute("create database lastpair owner lastpair")
        if not await connection.fetchval("select exists (select from pg_roles where rolname = 'lastpair_app')"):
            await connection.execute(SERVICE_ROLES)
    finally:
        await connection.close()
