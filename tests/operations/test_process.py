"""`lastpair run` as a process: signals, its embedded PostgreSQL, and what a killed one leaves behind."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock
from uuid import uuid4

import httpx
import psutil
import pytest
import uvicorn

from lastpair.server import serve
from tests.support.envelopes import as_user, assert_success
from tests.support.in_process import settings_for
from tests.support.servers import STOP_SECONDS, Service, is_running, postgres_of, started
from tests.support.waiting import PATIENCE_SECONDS, wait_for

SELLER = str(uuid4())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The folder that all these tests start in, one after the other. The first finds it empty."""
    with TemporaryDirectory(prefix="lastpair-test-") as name:
        yield Path(name)
        for pid in postgres_of(Path(name)):  # there is one only if a test failed
            os.kill(pid, signal.SIGKILL)


def embedded(folder: Path, **environment: str) -> AbstractContextManager[Service]:
    """`lastpair run` without DATABASE_URL, with its data in the folder."""
    return started(folder=folder, **{"DATA_DIR": "data", "EXPIRY_POLL_MS": "100"} | environment)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A client of all these services. Its connections stay open while they stop."""
    with httpx.Client(timeout=60) as client:
        yield client


def make_drop(http: httpx.Client, url: str) -> str:
    """A new drop; returns its id."""
    body = dumps({"name": "Air", "price": 1, "total_stock": 1, "starts_at": "2020-01-01T00:00:00Z"})
    headers = as_user(SELLER) | {"Content-Type": "application/json"}
    drop_id: str = assert_success(http.post(f"{url}/api/drops", content=body, headers=headers), "drop", 201)["id"]
    return drop_id


def assert_there(http: httpx.Client, url: str, drop_ids: list[str]) -> None:
    """Every drop that was made before can be read."""
    for drop_id in drop_ids:
        assert assert_success(http.get(f"{url}/api/drops/{drop_id}"), "drop")["id"] == drop_id


@pytest.fixture(scope="module")
def made() -> list[str]:
    """The ids of the drops made so far in the folder."""
    return []


@pytest.mark.parametrize(
    ("signal_number", "group", "workers"),
    [
        pytest.param(signal.SIGTERM, False, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, True, "2", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, False, "2", marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_all_of_it(
    folder: Path, http: httpx.Client, made: list[str], signal_number: int, group: bool, workers: str
) -> None:
    """It soon exits with 0, with its embedded server, although clients are connected; the data stays."""
    with embedded(folder, WEB_CONCURRENCY=workers) as service:
        service.wait_until_ready()
        assert_there(http, service.url, made)
        made.append(make_drop(http, service.url))
        assert postgres_of(folder)
        children = psutil.Process(service.process.pid).children(recursive=True)
        assert service.stop(signal_number, group=group) < STOP_SECONDS
        assert postgres_of(folder) == []
        wait_for(lambda: not any(is_running(child.pid) for child in children))  # multiprocessing's tracker ends after its parent


def is_starting_a_worker(parent: psutil.Process) -> bool:
    """Has it begun to start its first process?"""
    with suppress(psutil.Error):  # a child that was short has just ended
        return any("spawn_main" in word for child in parent.children() for word in child.cmdline())
    return False


@pytest.mark.slow
def test_ctrl_c_while_its_processes_start(folder: Path) -> None:
    """Ctrl-C stops it quietly, although it has only begun to start its processes."""
    with embedded(folder, WEB_CONCURRENCY="3") as service:
        wait_for(lambda: is_starting_a_worker(psutil.Process(service.process.pid)))
        assert service.stop(signal.SIGINT, group=True) < STOP_SECONDS
        assert postgres_of(folder) == []


def test_an_empty_database_url_is_none(folder: Path, http: httpx.Client, made: list[str]) -> None:
    """An empty DATABASE_URL, as in `DATABASE_URL= lastpair run`, means the embedded server."""
    with embedded(folder, DATABASE_URL="") as service:
        service.wait_until_ready()
        assert_there(http, service.url, made)
        service.stop()


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_behind_for_good(folder: Path, http: httpx.Client, made: list[str]) -> None:
    """The PostgreSQL of a killed run goes on; the next run uses it and stops it in the end."""
    with embedded(folder) as service:
        service.wait_until_ready()
        made.append(make_drop(http, service.url))
        service.process.kill()
        service.process.wait()
    assert postgres_of(folder)
    with embedded(folder) as service:
        service.wait_until_ready()
        assert_there(http, service.url, made)
        assert service.stop() < STOP_SECONDS
    assert postgres_of(folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("is_ready", [True, False], ids=["serving", "starting"])
def test_no_worker_outlives_a_killed_run(folder: Path, http: httpx.Client, made: list[str], is_ready: bool) -> None:
    """If the parent is killed, its workers end as after SIGTERM, also one that is still starting; the next run has the port."""
    with embedded(folder, WEB_CONCURRENCY="2") as service:
        parent = psutil.Process(service.process.pid)
        if is_ready:
            service.wait_until_ready()
            made.append(make_drop(http, service.url))
        else:
            wait_for(lambda: is_starting_a_worker(parent))
        parent.suspend()  # so that it starts no other one
        children = parent.children(recursive=True)
        parent.kill()
        service.process.wait()
        try:
            wait_for(lambda: not any(is_running(child.pid) for child in children), STOP_SECONDS)
        finally:
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        if is_ready:
            assert "Traceback" not in service.log(), service.log()
    assert postgres_of(folder)
    with embedded(folder, WEB_CONCURRENCY="2", PORT=service.url.rpartition(":")[2]) as successor:
        successor.wait_until_ready()
        assert_there(http, service.url, made)
        assert successor.stop() < STOP_SECONDS
    assert postgres_of(folder) == []


@pytest.mark.slow
def test_commands_share_the_embedded_server(folder: Path, http: httpx.Client, made: list[str]) -> None:
    """The command that ends last stops the embedded server."""
    with embedded(folder) as service:
        service.wait_until_ready()
        with embedded(folder) as other:
            other.wait_until_ready()
            made.append(make_drop(http, other.url))
            assert_there(http, service.url, made)
            service.stop()
            assert_there(http, other.url, made)
            with started("lastpair", "migrate", folder=folder, DATA_DIR="data") as migration:
                assert migration.process.wait(timeout=PATIENCE_SECONDS) == 0
            assert_there(http, other.url, made)
            other.stop()
    assert postgres_of(folder) == []


def test_a_port_that_is_taken(folder: Path) -> None:
    """One line names PORT, and nothing was started or migrated before it."""
    with socket.create_server(("127.0.0.1", 0)) as taken, embedded(folder, PORT=str(taken.getsockname()[1])) as service:
        assert service.process.wait(timeout=PATIENCE_SECONDS) == 1
        assert re.fullmatch(r"PORT: \d+ cannot be used \(address already in use\); .*\n", service.log())
    assert postgres_of(folder) == []


@pytest.mark.slow
def test_a_machine_that_went_down(folder: Path, http: httpx.Client, made: list[str]) -> None:
    """After a crash of the machine, the pid in the lock files may be another process's: that one is left alone."""
    with embedded(folder) as service:
        service.wait_until_ready()
        made.append(make_drop(http, service.url))
        cluster = folder / "data" / "postgres"
        pid = int((cluster / "postmaster.pid").read_text().split()[0])
        service.process.kill()
        service.process.wait()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: postgres_of(folder) == [])
    with subprocess.Popen(["sleep", "60"], user=cluster.stat().st_uid) as bystander:  # else the server would know it is none
        for file in [cluster / "postmaster.pid", *cluster.glob(".s.PGSQL.*.lock")]:
            file.write_text(file.read_text().replace(str(pid), str(bystander.pid), 1))
        try:
            with embedded(folder) as service:
                service.wait_until_ready()
                assert_there(http, service.url, made)
                assert service.stop() < STOP_SECONDS
        finally:
            alive = bystander.poll() is None
            bystander.kill()
            assert alive
    assert postgres_of(folder) == []


def test_idle_connections_stay_longer_than_those_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx keeps an idle connection for 60 seconds. If the service closed it first, a request in that moment would get 502."""
    configs: list[uvicorn.Config] = []
    monkeypatch.setenv("PORT", "0")  # so that the change is undone
    monkeypatch.setattr("lastpair.server.Server", lambda config: configs.append(config) or Mock())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serve(settings_for("postgresql://nowhere"), listener)
    assert configs[0].timeout_keep_alive > 60
