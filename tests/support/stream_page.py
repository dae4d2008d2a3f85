"""A page that has only the JavaScript client, and a server that sends exactly the bytes of a test, when the test says so."""

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from playwright.async_api import Page

from lastpair.web.pages import CLIENT_FOLDER
from tests.support.waiting import PATIENCE_SECONDS

SLOW_CALL_SECONDS = PATIENCE_SECONDS
SILENCE_MS = 40_000
"""How long a connection may be silent before the page closes it."""


class Connection:
    """A request for events, which the test answers. Each send() is a chunk of its own."""

    def __init__(self, head: str, writer: asyncio.StreamWriter) -> None:
        request, *headers = head.rstrip().split("\r\n")
        self.path, _, self.query = request.split()[1].partition("?")
        self.headers = {name.lower(): value for name, value in (header.split(": ", 1) for header in headers)}
        self.position = parse_qs(self.query).get("lastEventId", [None])[0]
        self.closed = asyncio.Event()
        """Set when the page has closed the connection."""

        self._writer = writer

    async def answer(self, status: str = "200 OK", media_type: str = "text/event-stream; charset=utf-8", **headers: str) -> None:
        """Send the head of a response."""
        headers = {"Content-Type": media_type, "Transfer-Encoding": "chunked", "Connection": "close"} | headers
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        await self._write("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def send(self, chunk: bytes) -> None:
        """Send a part of the body."""
        await self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    async def end(self) -> None:
        """End the body and close the connection."""
        await self.send(b"")
        await self.cut()

    async def cut(self) -> None:
        """Close the connection without an end of the body."""
        self._writer.close()

    async def _write(self, sent: bytes) -> None:
        with suppress(ConnectionError):  # the page may have closed it
            self._writer.write(sent)
            await self._writer.drain()


class ScriptedServer:
    """Serves a blank page and the module, and hands requests for events to the test."""

    def __init__(self) -> None:
        self._handlers: set[asyncio.Task[None] | None] = set()
        self.forget()

    def forget(self) -> None:
        """Forget the requests for events so far."""
        self.asked = 0
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def start(self) -> None:
        """Listen at `url`."""
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.url = "http://127.0.0.1:{1}".format(*self._server.sockets[0].getsockname())

    async def stop(self) -> None:
        """Stop, when the browser has closed its connections."""
        self._server.close()
        await self._server.wait_closed()
        async with asyncio.timeout(SLOW_CALL_SECONDS):
            await asyncio.gather(*filter(None, self._handlers))

    async def connection(self) -> Connection:
        """The next request for events."""
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
                is_module = connection.path == "/lastpair.js"
                await connection.answer(media_type="text/javascript" if is_module else "text/html")
                await connection.send((CLIENT_FOLDER / "lastpair.js").read_bytes() if is_module else b"<!doctype html>")
                await connection.end()
        writer.close()


# Records requests ("asks"), statuses, events and the beginning of each pause before a reconnect ("pauses"), which draws a random
# number; with their times. Counts the bytes of the streams and passes them on unchanged, chunk by chunk. until() returns after
# everything that the page does at the same moment.
RECORDER = """async () => {
  const { live, snapshot } = await import("/lastpair.js");
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
  window.chance = (chance) => {
    Math.random = () => {
      note("pauses");
      return chance;
    };
  };
  window.begin = () => {
    live({ shared: false, onStatus: note, onChange(drop, { type, data, id }) {
      note([type, data, id]);
      if (data.fault) throw new Error(data.fault);
    } });
  };
  window.look = (dropIds) => {
    snapshot({ dropIds }).then(note, (error) => note(error instanceof Error ? "rejects" : error));
  };
}"""


class PageListener:
    """A page that has the module. Its clock stands still until passes() moves it."""

    def __init__(self, page: Page, server: ScriptedServer) -> None:
        self._page = page
        self._server = server
        self._heard = 0
        self._status = ""
        self._received = 0

    async def listen(self) -> Connection:
        """Begin to listen; returns its request."""
        await self._page.evaluate("begin()")
        return await self.asks()

    async def look(self, *drop_ids: str) -> Connection:
        """Ask for a snapshot of drops; returns the request."""
        await self._page.evaluate("look", drop_ids)
        return await self.asks()

    async def asks(self) -> Connection:
        """Wait for the next thing, which must be a request; returns it."""
        await self.hears("asks")
        return await self._server.connection()

    async def hears(self, *expected: Any) -> None:
        """Wait until as many things happen: these, in this order."""
        with suppress(TimeoutError):
            await self._until(f"heard.length >= {self._heard + len(expected)}")
        heard = [note["what"] for note in (await self.notes())[self._heard :]]
        assert heard == list(expected)
        self._heard += len(expected)
        self._status = ([self._status] + [what for what in expected if what in ("live", "reconnecting")])[-1]

    async def hears_no_more(self) -> None:
        """Nothing more has happened."""
        assert len(await self.notes()) == self._heard
        assert self._server.asked == [note["what"] for note in await self.notes()].count("asks")

    async def receives(self, connection: Connection, chunk: bytes) -> None:
        """Send a chunk and wait until the page has processed it."""
        await connection.send(chunk)
        self._received += len(chunk)
        await self._until(f"received >= {self._received}")

    async def dispatch(self, event: str, target: str = "window") -> None:
        """An event happens to the window, or the document."""
        await self._page.evaluate(f"{target}.dispatchEvent(new Event({event!r}))")

    async def passes(self, milliseconds: float) -> None:
        """Move the page's clock; timers run in their order."""
        await self._page.clock.run_for(milliseconds)

    async def pauses(self, milliseconds: int) -> Connection:
        """Nothing happens for this long, and then a request does; returns it."""
        await self.passes(milliseconds - 1)
        await self.hears_no_more()
        await self.passes(1)
        return await self.asks()

    async def reconnects(self, milliseconds: int, *heard_before: Any) -> Connection:
        """The connection is lost, after these things; after this pause the page asks again. Returns the request."""
        is_known = self._status == "reconnecting" and "live" not in heard_before
        await self.hears(*heard_before, *([] if is_known else ["reconnecting"]), "pauses")
        return await self.pauses(milliseconds)

    async def ends_after_silence(self, connection: Connection, *heard: str) -> None:
        """After SILENCE_MS and no sooner, the page closes the connection, and these things happen."""
        await self.passes(SILENCE_MS - 1)
        await self.hears_no_more()
        assert not connection.closed.is_set()
        await self.passes(1)
        await self.hears(*heard)
        await asyncio.wait_for(connection.closed.wait(), SLOW_CALL_SECONDS)

    async def chance(self, chance: float) -> None:
        """Let Math.random() return this."""
        await self._page.evaluate("(number) => chance(number)", chance)

    async def notes(self) -> list[dict[str, Any]]:
        """Everything that has happened so far, with its time."""
        notes: list[dict[str, Any]] = await self._page.evaluate("heard")
        return notes

    async def _until(self, holds: str) -> None:
        async with asyncio.timeout(SLOW_CALL_SECONDS):
            await self._page.evaluate(f"until(() => {holds})")
