"""The commands behind the Makefile: `python -m app run|migrate|rollback|schema|seed|seed-reset|psql`."""

import signal

if __name__ == "__mp_main__":
    # A worker that has yet to import all the rest. Ctrl-C at a terminal is told to it, too; the first process sees to that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from tempfile import TemporaryDirectory
from types import FrameType

import asyncpg
import uvicorn

from app.embedded import BIN_DIR, embedded_database
from app.logs import log_config
from app.metrics import FOLDER_VARIABLE
from app.migrate import DB_DIR, SCHEMA_FILE, MigrationFailed, dbmate, migrate, write_schema
from app.protocol import FrameProtocol, StreamProtocol
from app.settings import InvalidSettings, Settings, load_settings
from app.streams import HEARTBEAT_SECONDS, MAX_MESSAGE_BYTES
from app.tracing import check_packages


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Yield the owner's URL of the configured database, or of the embedded one, which runs meanwhile."""
    if settings.session_url is not None:
        yield settings.session_url
    else:
        with embedded_database(settings.data_dir) as url:
            yield url


def run(settings: Settings) -> None:
    """Serve the API until SIGINT or SIGTERM, on a database that is up to date."""
    check_packages(settings)
    allow_many_connections()
    with ExitStack() as stack:
        with told_in_a_line():
            url = stack.enter_context(database(settings))
            asyncio.run(migrate(url))
        if settings.web_concurrency > 1:
            os.environ[FOLDER_VARIABLE] = stack.enter_context(TemporaryDirectory(prefix="lastpair-metrics-"))
        # The service, in whichever process, reads its settings from the environment.
        os.environ["DATABASE_URL"] = settings.database_url or url
        uvicorn.run(
            "app.service:create_app",
            factory=True,
            # Whoever reaches a development server may be anyone: it listens to this machine only.
            host="127.0.0.1" if settings.development else "0.0.0.0",  # noqa: S104
            port=settings.port,
            workers=settings.web_concurrency,
            loop="uvloop",
            http=StreamProtocol,
            ws=FrameProtocol,
            log_config=log_config(settings),
            access_log=False,  # app/context.py logs requests
            forwarded_allow_ips=settings.forwarded_allow_ips,
            server_header=False,
            timeout_graceful_shutdown=2,
            # A compressor for each client would cost more memory than all the rest of it, and frames are small.
            ws_per_message_deflate=False,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=HEARTBEAT_SECONDS,
        )


def seed(settings: Settings, *, reset: bool = False) -> None:
    """Fill the tables with believable data through the public functions; development only."""
    if not settings.development:
        raise InvalidSettings("APP_ENV: seeding is a development convenience, this is production")

    async def execute(url: str) -> None:
        await migrate(url)
        connection = await asyncpg.connect(url)
        try:
            for script in ["reset.sql", "seed.sql"] if reset else ["seed.sql"]:
                await connection.execute((DB_DIR / "seed" / script).read_text())
            for row in await connection.fetch((DB_DIR / "seed" / "summary.sql").read_text()):
                print(f"{row['table_name']:>14}  {row['row_count']}")
        finally:
            await connection.close()

    with database(settings) as url:
        asyncio.run(execute(url))


def psql(settings: Settings) -> None:
    """Open psql as the owner: the one on PATH, which has line editing, else the embedded one."""
    with database(settings) as url:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's
        # Wide rows one field a line; of a refusal its code and sentence, not the lines of code it came by.
        options = ["--pset=expanded=auto", "--set=SHOW_CONTEXT=never"]
        subprocess.run([shutil.which("psql") or BIN_DIR / "psql", *options, url], check=False)


def deploy(settings: Settings) -> None:
    """Run the pending migrations and apply the function files that changed."""
    with database(settings) as url:
        asyncio.run(migrate(url))


def rollback(settings: Settings) -> None:
    """Take the last migration back."""
    with database(settings) as url:
        asyncio.run(dbmate(url, "rollback"))


COMMANDS: dict[str, Callable[[Settings], None]] = {
    "run": run,
    "migrate": deploy,
    "rollback": rollback,
    "schema": lambda _: write_schema(SCHEMA_FILE),
    "seed": seed,
    "seed-reset": lambda settings: seed(settings, reset=True),
    "psql": psql,
}


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Around what uses the database; raises InvalidSettings when it cannot be used."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise InvalidSettings(f"DATABASE_URL: cannot use the database: {' '.join(str(error).split())}") from error
    except ValueError:  # it would quote what stands where a port belongs, which may be half a password
        reason = "cannot be understood; what is special in a user's name or password must be percent-encoded"
        raise InvalidSettings(f"DATABASE_URL: {reason}") from None


def allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection is one, and MAX_STREAMS more than the usual limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # where the system has a smaller limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Leave as Ctrl-C does, so that the embedded server is stopped on the way out."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command named by the only argument; a refusal is one line on standard error."""
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python -m app {'|'.join(COMMANDS)}")
    signal.signal(signal.SIGTERM, stop)
    command = COMMANDS[sys.argv[1]]
    try:
        with nullcontext() if command is run else told_in_a_line():  # which does more than to use the database
            command(load_settings())
    except (InvalidSettings, MigrationFailed) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
