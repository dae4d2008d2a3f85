"""The peers: what one would build instead of Lastpair, with the settings that make it fastest.

Each is a program for Node in a folder of its own; the comment at its top says what it does. `npm ci` installs their packages into
build/bench-peers when they are first used. Where node, npm or redis-server is missing, or the packages cannot be had, there is no
peer, and rows that need it say "not measured".
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from uuid import uuid4

from psycopg.conninfo import conninfo_to_dict

from bench.bench import Bench
from tests.support.servers import ROOT, Service, free_port
from tests.support.waiting import wait_for

FOLDER = Path(__file__).parent
PACKAGES = ("package.json", "package-lock.json")


@dataclass(frozen=True)
class Peer:
    """A peer that sells, and how a new drop with so many units is made in it; that returns the id of the drop."""

    service: Service
    drop: Callable[[int], str]


@cache
def installed_packages() -> Path | None:
    """The folder with the packages of the peers, which are installed if the folder is not of this lock; None without npm."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    folder = ROOT / "build" / "bench-peers"
    node_modules = folder / "node_modules"
    lock = folder / "package-lock.json"
    if node_modules.exists() and lock.read_bytes() == (FOLDER / "package-lock.json").read_bytes():
        return node_modules
    folder.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        shutil.copy(FOLDER / name, folder)
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if subprocess.run(["npm", "ci", *options], cwd=folder, stdout=sys.stderr, check=False).returncode != 0:
        shutil.rmtree(node_modules, ignore_errors=True)
        return None
    return node_modules


def versions() -> list[str]:
    """The programs and packages of the peers, those that are there, with their versions."""
    if installed_packages() is None:
        return []
    packages = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    found = [f"Node {printed('node', '--version').removeprefix('v')}", *(f"{name} {number}" for name, number in packages.items())]
    if shutil.which("redis-server") is not None:
        found.append("Redis " + printed("redis-server", "--version").partition("v=")[2].partition(" ")[0])
    return found


def printed(*command: str) -> str:
    """What a program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def node(program: str, **environment: str) -> Iterator[Service | None]:
    """Run server.js of a peer's folder, until the block ends; yields it when it answers."""
    node_modules = installed_packages()
    if node_modules is None:
        yield None
        return
    port = free_port()
    variables = os.environ | {"PORT": str(port), "NODE_PATH": str(node_modules), "NODE_ENV": "production"} | environment
    with NamedTemporaryFile(prefix="lastpair-log-") as log:
        command = ["node", str(FOLDER / program / "server.js")]
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=subprocess.STDOUT)
        try:
            service = Service(process, f"http://127.0.0.1:{port}", Path(log.name))
            wait_for(lambda: service.answers("/healthz", 200), timeout_seconds=20)
            yield service
        finally:
            process.kill()
            process.wait()


@contextmanager
def redis_server() -> Iterator[Path | None]:
    """A Redis that writes every command to disk before it is answered, as PostgreSQL does every commit; yields its socket."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with TemporaryDirectory(prefix="lastpair-bench-") as folder:
        socket = Path(folder) / "socket"
        durability = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"]
        command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", folder, *durability]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(socket.exists, timeout_seconds=20)
            yield socket
        finally:
            process.terminate()
            process.wait()


def redis_peer(stack: ExitStack) -> Peer | None:
    """redis/server.js, until the stack is closed."""
    socket = stack.enter_context(redis_server())
    service = stack.enter_context(node("redis", REDIS_SOCKET=str(socket))) if socket is not None else None
    if service is None:
        return None

    def drop(stock: int) -> str:
        drop_id = str(uuid4())
        subprocess.run(
            ["redis-cli", "-s", str(socket), "set", f"stock:{drop_id}", str(stock)], check=True, stdout=subprocess.DEVNULL
        )
        return drop_id

    return Peer(service, drop)


def holdfast_peer(bench: Bench) -> Peer | None:
    """holdfast/server.js on the server of the bench, until its stack is closed."""
    database = conninfo_to_dict(bench.url)
    variables = {"PGHOST": database["host"], "PGUSER": database["user"], "PGDATABASE": database["dbname"]}
    service = bench.stack.enter_context(node("holdfast", **variables))
    if service is None:
        return None
    bench.script((FOLDER / "holdfast" / "tables.sql").read_text())

    def drop(stock: int) -> str:
        return str(bench.sql("insert into holdfast.drops values (gen_random_uuid(), $1, $1) returning id", stock)[0][0])

    return Peer(service, drop)
