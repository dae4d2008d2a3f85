"""A page that has the dashboard's stream.js and nothing else, and a server that says exactly what a test wants, when it wants."""

import asyncio
from contextlib import suppress
from typing import Any

from playwright.async_api import Page

from lastpair.web.pages import DASHBOARD_FOLDER

SLOW_CALL_SECONDS = 10


class Connection:
    """A request for events. It gets the answer that the test gives, each thing sent as a chunk of its own."""

    def __init__(self, head: str, writer: asyncio.StreamWriter) -> None:
        request, *headers = head.rstrip().split("\r\n")
        self.path, _, self.query = request.split()[1].partition("?")
        self.headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in headers)}
        self.closed = asyncio.Event()
        """The page has hung up."""

        self._writer = writer

    async def answer(self, status: str = "200 OK", media_type: str = "text/event-stream; charset=utf-8", **headers: str) -> None:
        """Send the head of a response."""
        headers = {"Content-Type": media_type, "Transfer-Encoding": "chunked", "Connection": "close"} | headers
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        await self._write("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def send(self, chunk: bytes) -> None:
        """Send some of the body."""
        await self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    async def end(self) -> None:
        """Say that this was all, and hang up."""
        await self.send(b"")
        await self.cut()

    async def cut(self) -> None:
        """Hang up without a word."""
        self._writer.close()

    async def _write(self, sent: bytes) -> None:
        with suppress(ConnectionError):  # the page may have had enough
            self._writer.write(sent)
            await self._writer.drain()


class Server:
    """Serves a blank page and the module; whoever asks for events is the test's to answer."""

    def __init__(self) -> None:
        self._handlers: set[asyncio.Task[None] | None] = set()
        self.forget()

    def forget(self) -> None:
        """Nobody has asked for events yet."""
        self.asked = 0
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def start(self) -> None:
        """Listen at `url`."""
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.url = "http://127.0.0.1:{1}".format(*self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        """Once the browser has gone, go, too."""
        self._server.close()
        await self._server.wait_closed()
        async with asyncio.timeout(SLOW_CALL_SECONDS):
            await asyncio.gather(*filter(None, self._handlers))

    async def connection(self) -> Connection:
        """The next one that asks for events."""
        return await asyncio.wait_for(self._connections.get(), SLOW_CALL_SECONDS)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handlers.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            connection = Connection((await reader.readuntil(b"\r\n\r\n")).decode(), writer)
            if connection.path == "/api/events":
                self.asked += 1
                self._connections.put_nowait(connection)
                await reader.read()
                connection.closed.set()
            else:
                is_module = connection.path == "/dashboard/stream.js"
                await connection.answer(media_type="text/javascript" if is_module else "text/html")
                await connection.send((DASHBOARD_FOLDER / "stream.js").read_bytes() if is_module else b"<!doctype html>")
                await connection.end()
        writer.close()


# Notes whatever happens, with its time: "asks" for a request, the states, the events. Counts the bytes of the streams, which go
# on unchanged, chunk by chunk; who awaits until() goes on after all that the page did at the same moment.
EAR = """async () => {
  const { listen, snapshotOf } = await import("/dashboard/stream.js");
  window.heard = [];
  window.received = 0;
  const begun = Date.now();
  const tell = () => dispatchEvent(new Event("told"));
  const note = (what) => {
    heard.push({ what, ms: Date.now() - begun });
    tell();
  };
  window.until = async (holds) => {
    while (!holds()) await new Promise((resume) => addEventListener("told", resume, { once: true }));
  };
  const ask = window.fetch;
  window.fetch = async (...request) => {
    note("asks");
    const response = await ask(...request);
    const counted = new TransformStream({
      transform(bytes, next) {
        next.enqueue(bytes);
        received += bytes.length;
        tell();
      },
    });
    return new Response(response.body.pipeThrough(counted), response);
  };
  window.begin = () => { listen((type, data, id) => note([type, data, id]), note); };
  window.look = (dropIds) => { snapshotOf(dropIds).then(note, (error) => note(error instanceof Error ? "rejects" : error)); };
}"""


class Ear:
    """A page that has the module, and whose clock stands still unless it is moved."""

    def __init__(self, page: Page, server: Server) -> None:
        self._page = page
        self._server = server
        self._heard = 0
        self._received = 0

    async def listen(self) -> Connection:
        """Begin to listen."""
        await self._page.evaluate("begin()")
        return await self.asks()

    async def look(self, *drop_ids: str) -> Connection:
        """Ask for a snapshot."""
        await self._page.evaluate("look", drop_ids)
        return await self.asks()

    async def asks(self) -> Connection:
        """The next thing that happens is a request."""
        await self.hears("asks")
        return await self._server.connection()

    async def hears(self, *expected: Any) -> None:
        """Wait until something happens: this, in this order."""
        with suppress(TimeoutError):
            await self._until(f"heard.length >= {self._heard + len(expected)}")
        heard = [note["what"] for note in (await self.notes())[self._heard :]]
        assert heard == list(expected)
        self._heard += len(expected)

    async def hears_no_more(self) -> None:
        """Nothing has happened since."""
        assert len(await self.notes()) == self._heard
        assert self._server.asked == [note["what"] for note in await self.notes()].count("asks")

    async def receives(self, connection: Connection, chunk: bytes) -> None:
        """Send this, which comes as it was sent; wait until the page has made of it what it does."""
        await connection.send(chunk)
        self._received += len(chunk)
        await self._until(f"received >= {self._received}")

    async def passes(self, milliseconds: float) -> None:
        """Let time pass, for everything that waits, in its order."""
        await self._page.clock.run_for(milliseconds)

    async def pauses(self, milliseconds: int) -> Connection:
        """Nothing happens for this long, and then a request."""
        await self.passes(milliseconds - 1)
        await self.hears_no_more()
        await self.passes(1)
        return await self.asks()

    async def chance(self, chance: float) -> None:
        """Let Math.random() say this."""
        await self._page.evaluate("(chance) => { Math.random = () => chance }", chance)

    async def notes(self) -> list[dict[str, Any]]:
        """What has happened so far."""
        notes: list[dict[str, Any]] = await self._page.evaluate("heard")
        return notes

    async def _until(self, holds: str) -> None:
        async with asyncio.timeout(SLOW_CALL_SECONDS):
            await self._page.evaluate(f"until(() => {holds})")
