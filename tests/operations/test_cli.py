"""The command `lastpair`: help, exit codes, errors in one line, and what a person sees in the terminal."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
import jwt
import psycopg
import pytest

from lastpair import __version__
from lastpair.cli import COMMANDS, MAX_TOKEN_TTL_SECONDS, connection_for_psql
from lastpair.database.embedded import service_url
from lastpair.database.migrate import migrate
from lastpair.database.private_server import PrivateServer
from lastpair.settings import Settings
from tests.support.commands import lastpair
from tests.support.database import Database, connected, running_api
from tests.support.factories import make_drop_by_sql, make_users
from tests.support.payments import begin_payments, payments_taken_by
from tests.support.servers import started
from tests.support.waiting import PATIENCE_SECONDS, wait_for

JWT = {
    "AUTH_MODE": "jwt",
    "JWT_SECRET": "a secret that only the tests know of",
    "JWT_AUDIENCE": "lastpair",
    "JWT_ISSUER": "https://id.example",
}
NO_SERVER = "postgresql://lastpair:hunter2@127.0.0.1:1/lastpair"


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The commands run in an empty folder, and the environment has no settings."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def assert_one_line(result: subprocess.CompletedProcess[str], begin: str, exit_code: int = 1) -> str:
    """The command failed with one line on standard error, which begins like this; returns the line."""
    assert (result.returncode, result.stdout) == (exit_code, "")
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(begin), result.stderr
    assert "hunter2" not in result.stderr
    return result.stderr


def failed(command: str) -> int:
    """The exit code of a command that could not do its work. That of `audit` differs from the one for a violation."""
    return 2 if command == "audit" else 1


# Help, versions, arguments


def test_help_lists_every_command() -> None:
    """With what each does."""
    result = lastpair("--help")
    assert (result.returncode, result.stderr) == (0, "")
    text = " ".join(result.stdout.split())
    for name, function in COMMANDS.items():
        assert f"{name} {' '.join((function.__doc__ or '').split())}" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    """`--help` explains the command and does nothing."""
    result = lastpair(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: lastpair {command}")
    assert " ".join((COMMANDS[command].__doc__ or "").split()) in " ".join(result.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run", "fast"], ["seed", "--rest"], ["migrate", "--port", "1"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    """Wrong arguments get the usage and a reason, and exit code 2."""
    result = lastpair(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage: lastpair")
    assert re.search(r"^lastpair.*: error: ", result.stderr, re.MULTILINE)


@pytest.mark.parametrize("argument", ["version", "--version"])
def test_version(argument: str) -> None:
    """The version is printed whatever the settings are."""
    result = lastpair(argument, PORT="nonsense")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"lastpair {__version__}\n", "")


# Settings and databases that cannot be used


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "version"])
def test_a_bad_setting(command: str) -> None:
    """Every command names the variable in one line."""
    arguments = ("list",) if command == "node" else ()
    assert_one_line(lastpair(command, *arguments, LOG_LEVEL="loud"), "LOG_LEVEL: ", exit_code=failed(command))


def test_nodes_without_a_router(database: Database) -> None:
    """A database that is no router has no nodes."""
    assert_one_line(lastpair("node", "list", DATABASE_URL=database.url), "node: DATABASE_URL leads to no router; make one with ")


@pytest.mark.parametrize("currency", ["usd", "XXX", "US$", "EURO"])
def test_a_default_currency_that_does_not_exist(database: Database, currency: str) -> None:
    """`run` does not serve with it."""
    result = lastpair("run", DATABASE_URL=database.url, DEFAULT_CURRENCY=currency, PORT="0")
    assert_one_line(result, f"DEFAULT_CURRENCY: '{currency}' is not ")


@pytest.mark.parametrize("command", ["run", "migrate", "rollback", "seed", "audit"])
def test_no_database(command: str) -> None:
    """Every command that uses a database says in one line that there is none."""
    result = lastpair(command, DATABASE_URL=NO_SERVER, PORT="0")
    assert_one_line(result, "DATABASE_URL: cannot use the database: ", exit_code=failed(command))


def test_an_embedded_server_that_cannot_start(tmp_path: Path) -> None:
    """The last line names DATA_DIR, after the lines of PostgreSQL's own program, and no stack trace is shown."""
    server = PrivateServer(tmp_path / "data" / "postgres")
    (server.folder / "PG_VERSION").write_text("9.6\n")
    if server.user:
        for path in (server.folder, server.folder / "PG_VERSION"):
            os.chown(path, server.user.pw_uid, server.user.pw_gid)
    result = lastpair("migrate", DATA_DIR="data")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("DATA_DIR: the embedded PostgreSQL cannot start in ")
    assert "postgresql.conf" in result.stderr
    assert "Traceback" not in result.stderr


async def test_a_port_that_is_taken_is_reported_before_anything_is_migrated(empty_url: str) -> None:
    """The line names PORT, and the database is as empty as before."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_line(lastpair("run", DATABASE_URL=empty_url, PORT=port), f"PORT: {port} cannot be used")
    connection = await asyncpg.connect(empty_url)
    assert await connection.fetchval("select to_regnamespace('inventory')::text") is None
    await connection.close()


# run


@pytest.mark.slow
def test_the_terminal_of_run(empty_url: str, tmp_path: Path) -> None:
    """The first start prints the migrations, then the URL; the second start prints only the URL."""
    for is_first in (True, False):
        with started(folder=tmp_path, DATABASE_URL=empty_url, LOG_LEVEL="info") as service:
            wait_for(lambda service=service: "serves" in service.log())
            lines = service.log().splitlines()
            service.stop()
        assert re.fullmatch(
            rf"\d\d:\d\d:\d\d info    Lastpair {__version__} serves {service.url.replace('127.0.0.1', 'localhost')}", lines[-1]
        )
        if is_first:
            assert all(re.match(r"Migrated: \d+_\w+\.sql", line) for line in lines[:-2])
            assert re.fullmatch(r"Functions: \d+ applied", lines[-2])
        else:
            assert len(lines) == 1


async def test_run_without_the_rights_to_migrate(empty_url: str, tmp_path: Path) -> None:
    """It stops if something is pending and names it, from the first migration to the last function; else it serves."""
    service = {"DATABASE_URL": service_url(empty_url), "PORT": "0"}
    if service["DATABASE_URL"] == empty_url:
        pytest.skip("the server of DATABASE_URL has no lastpair_app")
    for command in ("run", "migrate"):
        line = assert_one_line(lastpair(command, **service), "MIGRATION_DATABASE_URL: db/migrations/20261122090000 is pending")
        assert "lastpair_app" in line
        assert "lastpair migrate" in line
    await migrate(empty_url)
    up_to_date = "The schema is up to date; the role lastpair_app could not migrate it, and need not\n"
    assert lastpair("migrate", **service).stdout == up_to_date
    with started(folder=tmp_path, DATABASE_URL=service["DATABASE_URL"], LOG_LEVEL="critical") as running:
        running.wait_until_ready()
        assert running.log() == up_to_date
        running.stop()

    connection = await asyncpg.connect(empty_url)
    for change, pending, repair in [
        (
            "insert into inventory.function_files (path, checksum) values ('api/old.sql', '')",
            "functions/api/old.sql",
            "delete from inventory.function_files where path = 'api/old.sql'",
        ),
        (
            "delete from public.schema_migrations where version = '20261122130000'",
            "migrations/20261122130000",
            "insert into public.schema_migrations values ('20261122130000')",
        ),
        (
            "update inventory.function_files set checksum = '' where path = 'api/reserve.sql'",
            "functions/api/reserve.sql",
            "select",
        ),
        ("drop function api.deployed()", "migrations/20261122090000", "select"),
    ]:
        await connection.execute(change)
        assert_one_line(lastpair("run", **service), f"MIGRATION_DATABASE_URL: db/{pending} is pending")
        await connection.execute(repair)
    await connection.close()


async def test_a_newer_schema_is_served(migrated_url: str) -> None:
    """During a rollout a process of the old version that starts again finds migrations that it does not know."""
    if service_url(migrated_url) == migrated_url:
        pytest.skip("the server of DATABASE_URL has no lastpair_app")
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("insert into public.schema_migrations values ('20991231000000')")
    await connection.execute("update inventory.function_files set checksum = '' where path = 'api/reserve.sql'")
    await connection.close()
    result = lastpair("migrate", DATABASE_URL=service_url(migrated_url))
    assert (result.returncode, result.stdout) == (0, "A newer version has migrated the schema; this version serves on it\n")


def test_run_migrates_by_the_url_of_the_owner(empty_url: str, tmp_path: Path) -> None:
    """With both URLs it migrates as the owner and serves as the other, without a warning."""
    urls = {"DATABASE_URL": service_url(empty_url), "MIGRATION_DATABASE_URL": empty_url}
    with started(folder=tmp_path, APP_ENV="production", LOG_LEVEL="critical", **urls, **JWT) as service:
        service.wait_until_ready()
        assert re.search(r"^Functions: \d+ applied\n\Z", service.log(), re.MULTILINE)
        service.stop()


def test_production_warns_that_the_service_owns_the_tables(migrated_url: str, tmp_path: Path) -> None:
    """In one line, which says how to change it; an installation of 0.2 goes on working."""
    variables = JWT | {"APP_ENV": "production", "DATABASE_URL": migrated_url, "LOG_LEVEL": "critical"}
    with started(folder=tmp_path, **variables) as service:
        service.wait_until_ready()
        assert re.fullmatch(r"Warning: the role of DATABASE_URL owns the tables; .*MIGRATION_DATABASE_URL.*\n", service.log())
        service.stop()


def test_the_line_names_the_url_of_the_owner(database: Database) -> None:
    """If it is that one that cannot be used."""
    urls = {"DATABASE_URL": database.service_url, "MIGRATION_DATABASE_URL": NO_SERVER, "PORT": "0"}
    for command in ("run", "migrate", "rollback", "seed", "psql --as-owner"):
        assert_one_line(lastpair(*command.split(), **urls), "MIGRATION_DATABASE_URL: cannot use the database: ")
    assert_one_line(lastpair("migrate", MIGRATION_DATABASE_URL=database.url), "DATABASE_URL: not set")


async def test_run_tries_the_url_of_the_service(database: Database, empty_url: str, migrated_url: str) -> None:
    """Also if the owner's URL works: no server, another database, a login that may not work as the service."""
    name, parts = f"stranger_{uuid4().hex[:12]}", urlsplit(migrated_url)
    stranger = urlunsplit(parts._replace(netloc=f"{name}:hunter2@{parts.netloc.rpartition('@')[2]}"))
    urls = {"MIGRATION_DATABASE_URL": migrated_url, "PORT": "0"}
    async with connected(database.superuser_url) as superuser:
        await superuser.execute(f"create role {name} login password 'hunter2'")
        try:
            for url, reason in [
                (NO_SERVER, "cannot use the database: "),
                (service_url(empty_url), "its database lacks db/migrations/2026"),
                (stranger, "cannot use the database: permission denied to set role"),
            ]:
                assert_one_line(lastpair("run", DATABASE_URL=url, **urls), f"DATABASE_URL: {reason}")
                both = {"DATABASE_URL": service_url(migrated_url), "DATABASE_DIRECT_URL": url}
                assert_one_line(lastpair("run", **both, **urls), f"DATABASE_DIRECT_URL: {reason}")
        finally:
            await superuser.execute(f"drop role {name}")
    assert_one_line(lastpair("audit", DATABASE_URL=migrated_url, DATABASE_DIRECT_URL=NO_SERVER), "DATABASE_DIRECT_URL: ", 2)


@pytest.mark.parametrize("command", ["rollback", "seed", "seed --reset", "psql --as-owner"])
async def test_what_takes_the_owner(command: str, empty_url: str, migrated_url: str) -> None:
    """With the URL of the service alone the line says what to set, and nothing has changed."""
    if service_url(migrated_url) == migrated_url:
        pytest.skip("the server of DATABASE_URL has no lastpair_app")
    for url in (service_url(migrated_url), service_url(empty_url)):
        for urls in ({"DATABASE_URL": url}, {"DATABASE_URL": url, "MIGRATION_DATABASE_URL": url}):
            line = assert_one_line(
                lastpair(*command.split(), **urls), "MIGRATION_DATABASE_URL: the role lastpair_app does not own"
            )
            assert line.endswith("set it to the owner's URL\n")


# migrate, rollback, seed, psql, audit


def test_migrate_rollback_seed_and_audit(empty_url: str) -> None:
    """The commands in the order in which a developer would use them."""
    never_migrated = lastpair("audit", DATABASE_URL=empty_url)
    assert "lastpair migrate" in assert_one_line(never_migrated, "audit: this database was never migrated", exit_code=2)
    printed = [lastpair("migrate", DATABASE_URL=empty_url) for _ in range(2)]
    assert [result.returncode for result in printed] == [0, 0]
    assert re.search(r"^Functions: \d+ applied\n\Z", printed[0].stdout, re.MULTILINE)
    assert printed[1].stdout == "Functions: up to date\n"
    rolled_back = lastpair("rollback", DATABASE_URL=empty_url)
    assert (rolled_back.returncode, rolled_back.stderr) == (0, "")
    assert "Rolled back: " in rolled_back.stdout
    for arguments in (["seed"], ["seed"], ["seed", "--reset"]):
        result = lastpair(*arguments, DATABASE_URL=empty_url)
        assert (result.returncode, result.stderr) == (0, "")
        counts = dict(re.findall(r"^ +(\w+)  (\d+)$", result.stdout, re.MULTILINE))
        assert set(counts) == {"users", "drops", "reservations", "purchases"}
        assert "0" not in counts.values()
    healthy = lastpair("audit", DATABASE_URL=empty_url)
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert healthy.stdout.startswith("0 violations")


async def test_seed_and_payments(empty_url: str) -> None:
    """A provider is not told of sample sales. A reset empties the tables of payments, too."""
    assert lastpair("migrate", DATABASE_URL=empty_url).returncode == 0
    async with asyncpg.create_pool(empty_url, min_size=1, max_size=1) as owner:
        drop_id, users = await make_drop_by_sql(owner, 3), await make_users(owner, 2)
        async with payments_taken_by(owner, "webhook"):
            await begin_payments(owner, drop_id, users)
            refused = lastpair("seed", DATABASE_URL=empty_url)
            assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
            assert refused.stderr.startswith("seed: the payment provider webhook")
        assert lastpair("seed", "--reset", DATABASE_URL=empty_url).returncode == 0
        assert await owner.fetchval("select count(*) from inventory.payments") == 0
    assert lastpair("audit", DATABASE_URL=empty_url).stdout.startswith("0 violations")


async def test_audit_fails_on_a_violated_invariant(empty_url: str) -> None:
    """It prints the drop, the invariant and both numbers, and has exit code 1."""
    assert lastpair("seed", DATABASE_URL=empty_url).returncode == 0
    connection = await asyncpg.connect(empty_url)
    await connection.execute("alter table inventory.drops disable trigger user")  # they refuse what does not balance
    drop_id = await connection.fetchval(
        "update inventory.drops set available_stock = available_stock - 1 where id = (select id from inventory.drops"
        " where available_stock > 0 and id not in (select drop_id from inventory.variants) limit 1) returning id"
    )
    await connection.close()
    result = lastpair("audit", DATABASE_URL=empty_url)
    assert result.returncode == 1
    assert re.fullmatch(rf"drop {drop_id}: total_stock = [\w +]+: expected (\d+), found (?!\1\n)\d+\n", result.stdout)


def test_audit_that_is_stopped(database: Database) -> None:
    """An audit that is stopped before its end does not say that nothing is violated."""
    with psycopg.connect(database.url) as blocking:
        blocking.execute("lock table inventory.drops in access exclusive mode")
        with started("lastpair", "audit", DATABASE_URL=database.url) as service:
            waiting = "select exists (select from pg_locks where relation = 'inventory.drops'::regclass and not granted)"
            wait_for(lambda: blocking.execute(waiting).fetchone() == (True,))
            service.process.terminate()
            assert service.process.wait(timeout=PATIENCE_SECONDS) == 2


@pytest.mark.parametrize("command", ["audit", "migrate", "seed", "token", "version"])
def test_output_that_cannot_be_written(migrated_url: str, command: str) -> None:
    """The error is named in one line; /dev/full is what a full disk is."""
    result = lastpair(command, stdout="/dev/full", DATABASE_URL=migrated_url, **JWT)
    assert_one_line(result, "standard output: cannot be written: No space left on device\n", exit_code=failed(command))


def test_a_reader_that_has_left() -> None:
    """It ends the command without a word."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "lastpair", "version"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_production_takes_no_sample_data(database: Database) -> None:
    """With or without --reset."""
    for arguments in (["seed"], ["seed", "--reset"]):
        assert_one_line(lastpair(*arguments, DATABASE_URL=database.url, APP_ENV="production", **JWT), "APP_ENV: ")


def test_psql(database: Database) -> None:
    """It runs as the role of the service, or as the owner if asked, and its exit code is psql's."""
    result = lastpair("psql", typed="select session_user, current_user;\n", DATABASE_URL=database.service_url)
    assert result.returncode == 0
    assert result.stdout.splitlines()[2].split(" | ")[1].strip() == "lastpair_service"
    owner = {"DATABASE_URL": database.service_url, "MIGRATION_DATABASE_URL": database.url}
    result = lastpair("psql", "--as-owner", typed="select count(*) >= 0 as it from inventory.drops;\n", **owner)
    assert (result.returncode, result.stdout.split()[2]) == (0, "t")
    for url in (database.service_url, database.url):
        result = lastpair("psql", typed="select from inventory.drops;\n", DATABASE_URL=url)
        assert "permission denied for schema inventory" in result.stderr
    assert lastpair("psql", typed="\\set ON_ERROR_STOP on\nselect nothing;\n", DATABASE_URL=database.url).returncode == 3
    assert lastpair("psql", DATABASE_URL=NO_SERVER).returncode == 2


PSQL = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("PGPASSWORD")]))
"""
"""A psql that prints its arguments and the password."""


@pytest.mark.parametrize(
    ("url", "begin", "password"),
    [
        ("postgresql://ann:hunter2@db.example/shop", "postgresql://ann@db.example/shop?", "hunter2"),
        ("postgresql://ann:hun%40ter2@a:1,b:2/shop", "postgresql://ann@a:1,b:2/shop?", "hun@ter2"),
        ("postgresql://ann:hunter2@/shop?host=/run/postgresql", "postgresql://ann@/shop?host=/run/postgresql&", "hunter2"),
        ("postgresql://ann@db.example/shop?password=hunter2&sslmode=prefer", "postgresql://ann@db.example/shop?sslm", "hunter2"),
        ("postgresql://ann@db.example/shop?pass%77ord=hunter2", "postgresql://ann@db.example/shop?", "hunter2"),
        ("postgresql://ann:hun@hunter2@db.example", "postgresql://ann@db.example?", "hun@hunter2"),
        ("postgresql://db.example/shop", "postgresql://db.example/shop?", None),
        ("postgresql://a%40b:hun%2Fter2@db.example/?user=a%40b", "postgresql://a%40b@db.example/?user=a%40b&", "hun/ter2"),
        ("postgresql://db.example/shop?sslkey=k&sslkeylogfile=l", "postgresql://db.example/shop?sslkey=k&sslkeylogfile=l&", None),
    ],
)
@pytest.mark.parametrize("as_owner", [False, True])
def test_no_password_is_among_the_arguments(tmp_path: Path, url: str, begin: str, password: str | None, as_owner: bool) -> None:
    """Every user of the machine can read them. The URL is otherwise as it was."""
    psql = tmp_path / "psql"
    psql.write_text(f"#!{sys.executable}{PSQL}")
    psql.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    if as_owner:  # the command connects first, to find out whether it is the owner
        argument, environment = connection_for_psql(url, as_owner=True)
        given = environment.get("PGPASSWORD")
    else:
        [*_, argument], given = json.loads(lastpair("psql", DATABASE_URL=url, PATH=path).stdout)
    assert given == password
    assert "hunter2" not in argument
    assert argument == begin.rstrip("?&") if as_owner and begin[-1] in "?&" else argument.startswith(begin)
    assert ("options=" in argument) is not as_owner


def test_psql_keeps_the_options_that_are_given(database: Database) -> None:
    """Those in the URL, and those in PGOPTIONS; the role comes last, so that none of them can change it."""
    typed = "show work_mem; select current_user;\n"
    separator = "&" if "?" in database.url else "?"
    for url, options in ((database.url, "-c work_mem=7MB"), (f"{database.url}{separator}options=-cwork_mem%3D7MB", "")):
        result = lastpair("psql", typed=typed, DATABASE_URL=url, PGOPTIONS=options + " -c role=lastpair_api" * bool(options))
        assert result.stdout.split()[2] == "7MB", result.stderr
        assert "lastpair_service" in result.stdout


@pytest.mark.parametrize(
    "parameter",
    ["sslpassword", "sslpass%77ord", "oauth_client_secret", "scram_client_key", "scram_server_key", "Password", "SSLPASSWORD"],
)
def test_a_secret_that_has_no_variable_is_refused(parameter: str) -> None:
    """It can only be in the URL, so psql is not started with it. The line names the parameter."""
    url = f"postgresql://ann@db.example/shop?sslmode=prefer&{parameter}=hunter2"
    assert_one_line(lastpair("psql", DATABASE_URL=url), f"psql: the URL has {unquote(parameter)}, ")


@pytest.mark.parametrize(
    "rest", ["1/hunter2@db.example/shop", "1?hunter2@db.example/shop", "1/?hunter2@db.example", "1/a?b=hunter2@db.example/shop"]
)
def test_a_password_that_is_not_encoded_is_refused(rest: str) -> None:
    """Programs differ in where such a URL has its password."""
    assert_one_line(lastpair("psql", DATABASE_URL=f"postgresql://ann:{rest}"), "psql: the URL has an @ behind its host; ")


# token


def token(*arguments: str, **changes: str) -> str:
    """The token that the command prints."""
    result = lastpair("token", *arguments, **JWT | changes)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.removesuffix("\n")


def test_claims_of_a_token() -> None:
    """A token has what the service asks for, and only what was given besides."""
    arguments = ["--subject", "auth0|5f", "--role", "admin", "--name", "Zoë", "--ttl-seconds", "60"]
    for given, more in ([arguments, {"sub": "auth0|5f", "role": "admin", "preferred_username": "Zoë"}], [[], {}]):
        claims = jwt.decode(token(*given), JWT["JWT_SECRET"], ["HS256"], audience="lastpair", issuer=JWT["JWT_ISSUER"])
        assert claims["exp"] - claims["iat"] == (60 if given else 3600)
        assert given or UUID(claims["sub"])
        assert claims.items() >= more.items()
        assert set(claims) == {"sub", "iss", "aud", "iat", "exp", *more}


def test_the_service_takes_the_tokens(database: Database) -> None:
    """An admin creates a drop, a buyer reserves a unit of it, and a token of another secret is refused."""
    with running_api(database.url, **JWT) as url, httpx.Client(base_url=f"{url}/api", timeout=60) as client:
        name = f"buyer {uuid4()}"

        def post(path: str, bearer: str, json: object = None) -> httpx.Response:
            return client.post(path, headers={"Authorization": f"Bearer {bearer}"}, json=json)

        drop = {"name": "Air", "price": 1, "total_stock": 1, "starts_at": "2026-01-01T00:00:00Z"}
        buyer = token("--name", name)
        assert post("/drops", buyer, drop).json()["error"]["code"] == "FORBIDDEN"
        made = post("/drops", token("--role", "admin"), drop)
        assert made.status_code == 201
        path = f"/drops/{made.json()['data']['drop']['id']}"
        assert post(f"{path}/reserve", buyer).status_code == 201
        assert post(f"{path}/purchase", buyer).status_code == 201
        [listed] = [drop for drop in client.get("/drops").json()["data"]["drops"] if path.endswith(drop["id"])]
        assert [purchaser["username"] for purchaser in listed["activity_feed"]["latest_purchasers"]] == [name]
        assert post(f"{path}/reserve", token(JWT_SECRET="another secret of 32 bytes or more")).status_code == 401  # noqa: S106
        assert post(f"{path}/reserve", token(JWT_AUDIENCE="another")).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        *[(["--subject", text], "argument --subject: must be 1 to 255 characters") for text in ("", " ", "a\nb", "x" * 256)],
        (["--role", "king"], "argument --role: invalid choice"),
        (["--name", ""], "argument --name: must be 1 to 200 characters"),
        (["--name", "a\tb"], "argument --name: must be 1 to 200 characters"),
        *[
            (["--ttl-seconds", text], "argument --ttl-seconds: must be a whole number from 1")
            for text in ("0", "-1", "1.5", "an hour", str(MAX_TOKEN_TTL_SECONDS + 1), "9" * 5000)
        ],
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_arguments_of_token(arguments: list[str], reason: str) -> None:
    """Each bad argument is named with a reason."""
    result = lastpair("token", *arguments, **JWT)
    assert (result.returncode, result.stdout) == (2, "")
    assert reason in result.stderr


def test_settings_of_token() -> None:
    """It takes AUTH_MODE=jwt and JWT_SECRET, and says so."""
    assert_one_line(lastpair("token"), "AUTH_MODE: ")
    assert_one_line(lastpair("token", **JWT | {"JWT_SECRET": ""}), "AUTH_MODE: ")
    jwks = JWT | {"JWT_SECRET": "", "JWT_JWKS_URL": "https://id.example/keys"}
    assert_one_line(lastpair("token", **jwks), "JWT_SECRET: not set")
