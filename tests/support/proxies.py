"""A TCP proxy before PostgreSQL whose connections a test can kill without a word: they stay open and carry nothing any more."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

CHUNK_BYTES = 65_536
SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A packet filter of one instruction: keep 0 bytes of each packet."""


class Proxy:
    """Forwards each connection to the server, or swallows what its two sides send."""

    def __init__(self, database_url: str) -> None:
        there = conninfo_to_dict(database_url)
        self._host, self._port = str(there["host"]), int(there.get("port") or 5432)
        self._parts = urlsplit(database_url)
        self._server: asyncio.Server | None = None
        self._alive: set[asyncio.StreamWriter] = set()
        """The client's side of each connection that is forwarded."""

        self._tasks: set[asyncio.Task[None]] = set()
        self.swallows_new = False
        """Whether connections that begin now are swallowed from their first byte on."""

        self.swallows_from: bytes | None = None
        """If this is in what a client sends, its connection is swallowed from there on, and only this one."""

    @property
    def url(self) -> str:
        """The URL of the database through this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        user = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{user}@127.0.0.1:{port}", query=""))

    def swallow(self) -> None:
        """Kill the connections that are there, as a frozen load balancer does: bytes are acknowledged and go nowhere."""
        self._alive.clear()

    def drop_packets(self) -> None:
        """Kill them as a firewall does that forgot them: no byte is acknowledged any more."""
        program = ctypes.create_string_buffer(DROP_ALL)
        for writer in self._alive:
            pointer = struct.pack("HP", 1, ctypes.addressof(program))
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
        self._alive.clear()

    async def start(self) -> None:
        """Listen on a free port of this machine."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Close every connection."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_server: asyncio.StreamWriter | None = None
        try:
            if not self.swallows_new:
                self._alive.add(writer)
            if self._host.startswith("/"):
                from_server, to_server = await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
            else:
                from_server, to_server = await asyncio.open_connection(self._host, self._port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(writer, reader, to_server))
                group.create_task(self._pump(writer, from_server, writer))
        except (asyncio.CancelledError, OSError, ExceptionGroup):
            pass
        finally:
            self._tasks.discard(task)
            self._alive.discard(writer)
            for side in filter(None, (writer, to_server)):
                side.close()

    async def _pump(self, client: asyncio.StreamWriter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A dead connection is not closed on the other side when one side closes it, as in a firewall that forgot it.
        while chunk := await reader.read(CHUNK_BYTES):
            if self.swallows_from is not None and self.swallows_from in chunk:
                self._alive.discard(client)
                self.swallows_from = None
            if client in self._alive:
                writer.write(chunk)
                with suppress(ConnectionError):
                    await writer.drain()
        if client in self._alive:
            writer.close()


@asynccontextmanager
async def proxied(database_url: str) -> AsyncIterator[Proxy]:
    """A proxy before this database."""
    proxy = Proxy(database_url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
