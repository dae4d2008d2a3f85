"""db/recipes/role.sql: it can run again, on an older installation too, and no password reaches the server's log.

A migration says if it was not run. The embedded server does without it.
"""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lastpair.database.embedded import BIN_DIR, embedded_database, embedded_server, service_url
from lastpair.database.migrate import MigrationFailed, migrate
from lastpair.database.pool import SERVICE_ROLE
from tests.support.clusters import PASSWORD, ROLE_RECIPE, Cluster, cluster
from tests.support.database import Database

pytestmark = pytest.mark.slow

PASSWORDS = {"LASTPAIR_PASSWORD": "hunter2-of-the-owner", "LASTPAIR_APP_PASSWORD": "hunter2-of-the-app"}
LOG_EVERYTHING = [
    *(
        "log_statement = 'all'",
        "log_min_duration_statement = 0",
        "log_min_error_statement = 'debug5'",
        "log_min_messages = 'debug1'",
    ),
    *("debug_print_parse = on", "log_transaction_sample_rate = 1", "shared_preload_libraries = 'pg_stat_statements'"),
]
STATE = """
select rolname, rolcanlogin, rolpassword, (
  select array_agg(g.rolname order by 1) from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid
) from pg_authid r where rolname like 'lastpair%' order by 1
"""


@pytest.fixture(scope="module")
def server(database: Database) -> Iterator[Cluster]:
    """A server that logs every statement, on which the recipe was run once."""
    with cluster(BIN_DIR, *LOG_EVERYTHING) as server:
        yield server


def state(server: Cluster) -> str:
    """The roles, their passwords and memberships."""
    return server.psql(STATE, server.superuser_url)


def log(server: Cluster) -> str:
    """The log so far."""
    return (server.folder / "log").read_text()


def test_a_second_run_changes_nothing(server: Cluster) -> None:
    """Without passwords it says that they stay; with others it says that they are set, and those let in."""
    before = state(server)
    for role in ("lastpair", "lastpair_app"):
        assert f"\n{role}|t|" in f"\n{before}"
    printed = server.psql(ROLE_RECIPE, server.superuser_url)
    assert [line.partition(",")[0] for line in printed.splitlines()] == [
        "lastpair: its password stays as it is",
        "lastpair_app: its password stays as it is",
    ]
    assert state(server) == before
    assert server.psql("select 1", server.service_url) == "1"

    printed = server.psql(ROLE_RECIPE, server.superuser_url, **PASSWORDS)
    assert printed == "lastpair: its password is set\nlastpair_app: its password is set"
    assert server.psql("select 1", server.url, PGPASSWORD=PASSWORDS["LASTPAIR_PASSWORD"]) == "1"
    assert server.psql("select 1", server.service_url, PGPASSWORD=PASSWORDS["LASTPAIR_APP_PASSWORD"]) == "1"
    server.psql(ROLE_RECIPE, server.superuser_url, LASTPAIR_PASSWORD=PASSWORD, LASTPAIR_APP_PASSWORD=PASSWORD)


def test_no_password_reaches_the_log(server: Cluster) -> None:
    """Neither in a run that succeeds nor in one whose every statement fails; nor do statistics of statements keep one."""
    server.psql("create extension if not exists pg_stat_statements", server.superuser_url)
    server.psql(ROLE_RECIPE, server.superuser_url, **PASSWORDS)
    command = [server.bin_dir / "psql", "-X", "-f", ROLE_RECIPE, server.superuser_url]
    environment = os.environ | PASSWORDS | {"PGOPTIONS": "-c default_transaction_read_only=on"}
    failed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "cannot execute ALTER ROLE in a read-only transaction" in failed.stderr
    server.psql("alter role lastpair password 'a statement that is logged'", server.superuser_url)
    assert "a statement that is logged" in log(server)
    assert "hunter2" not in log(server) + failed.stderr + failed.stdout
    kept = server.psql("select query from pg_stat_statements", server.superuser_url)
    assert "pg_stat_statements" in kept
    assert "hunter2" not in kept
    server.psql(ROLE_RECIPE, server.superuser_url, LASTPAIR_PASSWORD=PASSWORD, LASTPAIR_APP_PASSWORD=PASSWORD)


async def test_a_server_of_the_version_before(server: Cluster) -> None:
    """The owner may not make roles, so a migration without the recipe fails in one line that names it; after it, it runs."""
    with psycopg.connect(server.superuser_url, autocommit=True) as superuser:
        superuser.execute("drop owned by lastpair_app")
        superuser.execute("revoke connect on database lastpair from lastpair_app")
        superuser.execute("drop role lastpair_app, lastpair_buyer, lastpair_seller, lastpair_service")
    with pytest.raises(MigrationFailed, match=r"lastpair may not make the role lastpair_buyer.*db/recipes/role\.sql"):
        await migrate(server.url_with_password)
    server.psql(ROLE_RECIPE, server.superuser_url, LASTPAIR_APP_PASSWORD=PASSWORD)
    assert await migrate(server.url_with_password)
    assert server.psql("select count(*) from api.audit()", server.service_url) == "0"


def test_the_owner_sees_and_ends_the_sessions_of_the_service(server: Cluster) -> None:
    """An operator needs both at three in the morning. The service can do neither with the owner's."""
    url = server.service_url.replace("@", f":{PASSWORD}@")
    with psycopg.connect(url, autocommit=True) as service, psycopg.connect(server.url_with_password, autocommit=True) as owner:
        pid = service.info.backend_pid
        query = "select query from pg_stat_activity where pid = %s"
        service.execute("select 'what it does'")
        assert owner.execute(query, [pid]).fetchone() == ("select 'what it does'",)
        assert service.execute(query, [owner.info.backend_pid]).fetchone() == ("<insufficient privilege>",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("select pg_terminate_backend(%s)", [owner.info.backend_pid])
        assert owner.execute("select pg_terminate_backend(%s)", [pid]).fetchone() == (True,)


def test_a_data_folder_of_the_version_before(tmp_path: Path) -> None:
    """The embedded server gets the login of the service when it starts again, and the sale goes on as that role."""
    with embedded_server(tmp_path) as url, psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("create role lastpair login createrole")
        superuser.execute("create database lastpair owner lastpair")
        with psycopg.connect(url.replace("postgres:@/postgres", "lastpair@/lastpair")) as owner:
            owner.execute("create role lastpair_api nologin; grant lastpair_api to lastpair")
    for _ in range(2):
        with embedded_database(tmp_path) as url:
            asyncio.run(migrate(url))
            with psycopg.connect(service_url(url), options=f"-c role={SERVICE_ROLE}", autocommit=True) as service:
                service.execute("select api.create_user(gen_random_uuid()::text)")
                service.execute("set role none")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    service.execute("table inventory.users")
