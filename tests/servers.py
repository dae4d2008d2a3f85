"""Servers that tests may break: the service with its log, and a PostgreSQL of its own that can crash and come back."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import NamedTemporaryFile

import psutil

from app.embedded import get_server  # type: ignore[attr-defined]

ROOT = Path(__file__).resolve().parent.parent


def wait_for(condition: Callable[[], object], timeout_seconds: float = 10) -> None:
    """Wait until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class Service:
    """A process of the service, and whatever it starts."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def log(self) -> str:
        """What it has printed so far, standard error included."""
        return self.log_file.read_text()

    def answers(self, path: str, status: int) -> bool:
        """Does a GET get this status?"""
        assert self.process.poll() is None, self.log()
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == status
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Wait until /readyz answers 200."""
        wait_for(lambda: self.answers("/readyz", 200), timeout_seconds=20)

    def stop(self, signal_number: int = signal.SIGTERM, *, group: bool = False) -> float:
        """Stop it, all its processes as Ctrl-C does or the first alone; it must exit with 0. Returns the seconds it took."""
        begin = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, signal_number)
        assert self.process.wait(timeout=20) == 0, self.log()
        assert "Traceback" not in self.log(), self.log()
        return time.monotonic() - begin


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def started(*command: str, folder: Path = ROOT, **environment: str) -> Iterator[Service]:
    """Start `python -m app run`, or another module, in the folder and with these variables; yields without waiting for it.

    Without a DATABASE_URL among them it is not set. It may log what it likes. What still runs at the end is killed.
    """
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    variables = inherited | {"PORT": str(port), "LOG_LEVEL": "warning", "PYTHONPATH": str(ROOT)} | environment
    arguments = [sys.executable, "-m", *(command or ("app", "run"))]
    arguments = [argument.replace("PORT", str(port)) for argument in arguments]
    with NamedTemporaryFile(prefix="lastpair-log-") as log:
        process = subprocess.Popen(
            arguments, cwd=folder, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield Service(process, f"http://127.0.0.1:{port}", Path(log.name))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def is_running(pid: int) -> bool:
    """Does the process run? One that only waits to be reaped does not."""
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
        self._server = get_server((data_dir / "postgres").resolve())

    def crash(self) -> None:
        """Every session is cut off and nothing is written any more: what is not on disk is lost."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        wait_for(lambda: not is_running(pid) and not postgres_of(self._folder))

    def start(self) -> None:
        """Recover and serve again."""
        self._server.ensure_postgres_running()
