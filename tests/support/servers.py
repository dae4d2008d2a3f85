"""Servers that tests may break: the service with its log, a PostgreSQL of the test's own, its standby, and a pooler."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from lastpair.database.private_server import PrivateServer, as_user
from tests.support.debian import needed
from tests.support.waiting import PATIENCE_SECONDS, wait_for

ROOT = Path(__file__).resolve().parents[2]
UVICORN = ("uvicorn", "--factory", "lastpair.web.application:create_app", "--port", "PORT", "--log-level", "warning")
"""The module and options for `started` that serve the application without `lastpair run`."""


@dataclass(frozen=True)
class Service:
    """A process of the service, and the processes that it starts."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def log(self) -> str:
        """The text that it has printed so far, standard error included."""
        return self.log_file.read_text()

    def answers(self, path: str, status: int) -> bool:
        """Does a GET get this status?"""
        assert self.process.poll() is None, self.log()
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == status
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Wait until /readyz answers 200."""
        wait_for(lambda: self.answers("/readyz", 200), 2 * PATIENCE_SECONDS)

    def stop(self, signal_number: int = signal.SIGTERM, *, group: bool = False) -> float:
        """Stop it, all its processes as Ctrl-C does or the first alone; it must exit with 0. Returns the seconds it took."""
        begin = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, signal_number)
        assert self.process.wait(timeout=PATIENCE_SECONDS) == 0, self.log()
        assert "Traceback" not in self.log(), self.log()
        return time.monotonic() - begin


STOP_SECONDS = 20
"""Within this a service has stopped, on a machine that is busy with other tests as well: it waits for clients for 2 s at most."""

PORTS = count(20_000 + 3_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))
"""Ports below those that the system gives to clients. Each of up to four test processes has its own, so they do not meet."""


def free_port() -> int:
    """A TCP port on which no process listens, another one each time."""
    for port in PORTS:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no port left")


@contextmanager
def started(*command: str, folder: Path = ROOT, **environment: str) -> Iterator[Service]:
    """Start `lastpair run`, or another module, in the folder and with these variables; yields without waiting for it.

    DATABASE_URL is set only if it is among them. Any Host is allowed, because tests of raw requests invent one. Any log line is
    allowed. Processes that still run at the end are killed.
    """
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    defaults = {"PORT": str(port), "LOG_LEVEL": "warning", "ALLOWED_HOSTS": "*", "PYTHONPATH": str(ROOT / "app")}
    variables = inherited | defaults | environment
    arguments = [sys.executable, "-m", *(command or ("lastpair", "run"))]
    arguments = [argument.replace("PORT", str(port)) for argument in arguments]
    with NamedTemporaryFile(prefix="lastpair-log-") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield Service(process, f"http://127.0.0.1:{variables['PORT']}", Path(log.name))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # workers, too
                process.wait()


def is_running(pid: int) -> bool:
    """Does the process run? A zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def postgres_of(folder: Path) -> list[int]:
    """Every process of the PostgreSQL servers whose data is in the folder."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == "postgres" and Path(process.cwd()).is_relative_to(folder.resolve()):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass  # it has just gone
    return found


class Crashable:
    """The embedded server of a folder, run by this process, which can crash and be started again."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self.url = url
        self.superuser_url = url.replace("lastpair@", "postgres@")
        self._folder = data_dir
        self._server = PrivateServer(data_dir.resolve() / "postgres")

    def crash(self) -> None:
        """Cut off every session and write nothing any more: data that is not on disk is lost."""
        pid = self._server.pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: not is_running(pid) and not postgres_of(self._folder))

    def kill(self) -> None:
        """Kill every process, so that none can tell its client or clean up."""
        postmaster = self._server.pid()
        assert postmaster is not None
        os.kill(postmaster, signal.SIGKILL)
        wait_for(lambda: not is_running(postmaster) and not kill_all(postgres_of(self._folder)))

    def start(self) -> None:
        """Recover and serve again."""
        self._server.start()

    @contextmanager
    def standby(self, folder: Path) -> Iterator["Standby"]:
        """A server in this folder that streams what is committed here; from now on every commit waits for it."""
        source = urlsplit(self.superuser_url.replace("postgres@/lastpair", "postgres@/postgres"))
        account = as_user(self._server.user)
        data = folder / "data"
        folder.mkdir()
        if self._server.user is not None:
            os.chown(folder, self._server.user.pw_uid, self._server.user.pw_gid)
            folder.parent.chmod(0o711)  # the standby must reach the server
        backup = ["--checkpoint=fast", "--write-recovery-conf", "--no-sync", f"--pgdata={data}", f"--dbname={urlunsplit(source)}"]
        subprocess.run([self._server.programs / "pg_basebackup", *backup], check=True, **account)
        control = [self._server.programs / "pg_ctl", "--wait", f"--pgdata={data}"]
        options = ["--options", f"-h '' -k '{folder}'", f"--log={folder / 'log'}"]
        subprocess.run([*control, *options, "start"], check=True, stdout=subprocess.DEVNULL, **account)
        try:
            standby = Standby(self.url, folder)
            with psycopg.connect(self.superuser_url, autocommit=True) as primary:
                primary.execute("alter system set synchronous_standby_names = '*'")
                primary.execute("select pg_reload_conf()")
                is_waited_for = "select exists (select from pg_stat_replication where sync_state = 'sync')"
                wait_for(lambda: primary.execute(is_waited_for).fetchone() == (True,))
            yield standby
        finally:
            subprocess.run([*control, "--mode=immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **account)


class Standby:
    """A server that follows another one until it is promoted."""

    def __init__(self, primary_url: str, folder: Path) -> None:
        there = conninfo_to_dict(primary_url)
        self.url = f"postgresql://lastpair@/lastpair?host={folder}"
        self.superuser_url = self.url.replace("lastpair@", "postgres@")
        self.either_url = f"postgresql://lastpair@/lastpair?host={folder},{there['host']}&target_session_attrs=read-write"
        """The URL of the one of the two that takes writes."""

    def promote(self) -> None:
        """Take writes from now on."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            assert connection.execute("select pg_promote()").fetchone() == (True,)


def kill_all(pids: list[int]) -> list[int]:
    """Kill those of the processes that still run; returns the pids given."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


def find_pooler() -> str:
    """The path of PgBouncer."""
    path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
    return needed(lambda: shutil.which("pgbouncer", path=path), "PgBouncer", "pgbouncer")


class Pooler:
    """PgBouncer in transaction mode before a database."""

    def __init__(self, folder: Path, database_url: str, server_sessions: int) -> None:
        port = free_port()
        parts = urlsplit(database_url)
        name = parts.path.removeprefix("/")
        self.url = f"postgresql://lastpair@127.0.0.1:{port}/{name}"
        self._path = find_pooler()
        self._settings = folder / "pgbouncer.ini"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        server = {"host": "127.0.0.1", "port": 5432} | conninfo_to_dict(database_url)
        # PgBouncer refuses to run as root. The owner of the folder of the server's socket may connect there.
        user = Path(server["host"]).owner() if server["host"].startswith("/") else "nobody"
        self._settings.write_text(
            "\n".join(
                [
                    "[databases]",
                    f"{name} = " + " ".join(f"{key}={value}" for key, value in server.items()),
                    "[pgbouncer]",
                    f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =",
                    f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {server_sessions}",
                    f"user = {user}" if os.geteuid() == 0 else "",
                ]
            )
        )

    def start(self) -> None:
        """Run it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._path, self._settings], stdout=log, stderr=log, start_new_session=True)
        wait_for(self._listens)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        parts = urlsplit(self.url)
        with socket.socket() as client:
            return client.connect_ex((parts.hostname, parts.port)) == 0

    def kill(self) -> None:
        """Kill it: all its connections, on both sides, break."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@contextmanager
def pooler(database_url: str, server_sessions: int) -> Iterator[Pooler]:
    """Run PgBouncer before a database, with at most so many sessions there."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder:
        runs = Pooler(Path(folder), database_url, server_sessions)
        runs.start()
        try:
            yield runs
        finally:
            runs.kill()
