"""Clients of Socket.IO: npm's socket.io-client, in a process of node."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import dumps, loads
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.debian import needed
from tests.support.factories import Owner
from tests.support.npm import npm_packages
from tests.support.servers import ROOT
from tests.support.streams import logged
from tests.support.waiting import PATIENCE_SECONDS, eventually

TYPES = {"DROP_CREATED", "STOCK_UPDATED", "RESERVATION_EXPIRED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"}
"""The events that a client gets."""

PACKAGES = ROOT / "tests" / "realtime" / "socketio"
SCRIPT = Path(__file__).with_name("socketio_clients.js")
MAX_LINE_BYTES = 256 * 1024 * 1024
Given = list[tuple[str, dict[str, Any]]]
"""The name and the data of each event that a client was given."""


class SocketIOClients:
    """The clients of one process of node. Each has a number, in the order of connect()."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    async def command(self, command: str, **details: object) -> Any:
        """What the script answers to this command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._lock:
            self._process.stdin.write(dumps({"command": command} | details).encode() + b"\n")
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                answer = loads(await self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer["answer"]

    def give_way(self) -> None:
        """Let other processes go first, because the clients of a real sale run on other machines."""
        psutil.Process(self._process.pid).nice(19)

    async def connect(self, url: str, *, count: int = 1, **options: object) -> None:
        """Connect clients with these options, and wait until all are connected."""
        before = len(await self.states())
        await self.command("connect", url=url, count=count, options=options)
        await eventually(lambda: self.are_connected(range(before, before + count)))

    async def are_connected(self, numbers: range) -> bool:
        """Whether these clients are connected."""
        states = await self.states()
        return all(states[n]["connected"] for n in numbers)

    async def states(self) -> list[dict[str, Any]]:
        """Of each client whether it is connected, its transport, the number of events it was given, the newest, and what happened
        to it."""
        states: list[dict[str, Any]] = await self.command("state")
        return states

    async def given(self, client: int = 0, count: int = 0) -> Given:
        """What a client was given so far, as soon as it is this many events."""

        async def has_enough() -> bool:
            return bool((await self.states())[client]["given"] >= count)

        await eventually(has_enough)
        return [tuple(event) for event in await self.command("given", client=client)]


async def announced(owner: Owner, after: int) -> Given:
    """The events of the log after this id that Socket.IO clients get."""
    return [(event.type, loads(event.whole_text)) for event in await logged(owner, after) if event.type in TYPES]


@asynccontextmanager
async def socketio_clients(cache: pytest.Cache) -> AsyncIterator[SocketIOClients]:
    """Run node during the block."""
    folder = npm_packages(cache, PACKAGES)
    node = needed(lambda: shutil.which("node"), "Node.js", "nodejs")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(node, SCRIPT, folder, stdin=pipe, stdout=pipe, limit=MAX_LINE_BYTES)
    try:
        yield SocketIOClients(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
