"""The two transports of events: Server-Sent Events and WebSocket."""

import asyncio
from contextlib import aclosing, suppress
from typing import Literal

from pydantic import BaseModel
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.bodies import Text
from app.events import Event, make_event
from app.feed import MAX_DROPS, Feed
from app.http import Refusal, failure, invalid, parse_json, parse_uuid
from app.limits import Places, address_of
from app.metrics import STREAMS
from app.protocol import FRAMES
from app.services import services_of

HEARTBEAT_SECONDS = 15
MAX_MESSAGE_BYTES = 4096
"""What a WebSocket client may say at once."""

RECONNECT_MS = 1000
SERVICE_RESTART = 1012
HEARTBEAT = b": heartbeat\n\n"
SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # nginx
}


def feed_for(connection: HTTPConnection) -> Feed:
    """The feed that the query asks for: `dropId` (repeatable), `snapshot`. Raises VALIDATION_ERROR."""
    query = connection.query_params
    drop_ids = {parse_uuid("dropId", value) for value in query.getlist("dropId")}
    if len(drop_ids) > MAX_DROPS:
        raise invalid("dropId", f"must not be more than {MAX_DROPS} drops")
    if query.get("snapshot", "true") not in {"true", "false"}:
        raise invalid("snapshot", "must be true or false")
    services = services_of(connection)
    return Feed(services.hub, services.event_log, drop_ids, wants_snapshot=query.get("snapshot") != "false")


def last_event_id(connection: HTTPConnection) -> str | None:
    """The event the client has: the header that a browser sends when it reconnects, else `lastEventId` of the query."""
    return connection.headers.get("last-event-id") or connection.query_params.get("lastEventId")


async def events(request: Request) -> Response:
    """GET /events: Server-Sent Events until the client leaves or the process stops. HEAD: their headers."""
    return EventStream(feed_for(request), last_event_id(request), services_of(request).places)


class EventStream(Response):
    """A feed as Server-Sent Events.

    Our own and not sse-starlette's, whose four tasks a client are what limits the fan-out: measured side by side by
    bench/fanout.py with 1,000 clients, it takes 56 KiB a client and has a p99 latency of 224 ms, this 22 KiB and 87 ms.
    """

    def __init__(self, feed: Feed, last_event_id: str | None, places: Places) -> None:
        super().__init__(headers=SSE_HEADERS)
        del self.headers["content-length"]
        self._feed = feed
        self._last_event_id = last_event_id
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Refusal before anything is sent."""
        start: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(start)
        else:
            with self._places.taken(address_of(scope)), STREAMS.labels("sse").track_inprogress():
                await self._feed.open(self._last_event_id)
                await send(start)
                await self._run(receive, send)
        await send({"type": "http.response.body", "body": b""})

    async def _run(self, receive: Receive, send: Send) -> None:
        watching = asyncio.create_task(self._watch(receive))
        try:
            chunk = b"retry: %d\n\n" % RECONNECT_MS
            async with aclosing(self._feed.batches()) as batches:
                async for batch in batches:
                    chunk += b"".join([event.sse for event in batch])
                    await send({"type": "http.response.body", "body": chunk or HEARTBEAT, "more_body": True})
                    chunk = b""
        finally:
            watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._feed.close()


class RoomChange(BaseModel, extra="forbid"):
    """What a WebSocket client may say: that it wants the events of one more drop, or of one less."""

    type: Literal["drops:join", "drops:leave"]
    dropId: Text  # noqa: N815


async def websocket_events(websocket: WebSocket) -> None:
    """WebSocket /ws: a text frame for each event; the client may join and leave drops. A refusal comes as HTTP."""
    websocket.scope["route"] = websocket.scope["path"]
    with suppress(WebSocketDisconnect, OSError):  # it left meanwhile
        try:
            feed = feed_for(websocket)
            with services_of(websocket).places.taken(address_of(websocket.scope)), STREAMS.labels("websocket").track_inprogress():
                await feed.open(last_event_id(websocket))
                await websocket.accept()
                await WebSocketStream(websocket, feed).run()
        except Refusal as refusal:
            await websocket.send_denial_response(failure(websocket, refusal))
            await asyncio.sleep(0)  # the server has closed the connection only then, and logs an error if we return earlier


class WebSocketStream:
    """A feed as WebSocket frames."""

    def __init__(self, websocket: WebSocket, feed: Feed) -> None:
        self._websocket = websocket
        self._feed = feed
        self._sending = asyncio.Lock()  # the answer to a mistake is numbered and sent between two events
        self._sent_id = 0

    async def run(self) -> None:
        """Send until the client leaves or the process stops. Raises WebSocketDisconnect."""
        obeying = asyncio.create_task(self._obey())
        try:
            async with aclosing(self._feed.batches()) as batches:
                async for batch in batches:
                    async with self._sending:
                        await self._send(batch)
            if not self._feed.closed:
                await self._websocket.close(SERVICE_RESTART, "This process is stopping. Connect again, and another one answers.")
        finally:
            obeying.cancel()

    async def _obey(self) -> None:
        # Do what the client says until it leaves; what is not understood is answered with an ERROR frame.
        try:
            while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
                text = message.get("text")
                try:
                    self._change_rooms(parse_json(message["bytes"] if text is None else text, RoomChange))
                except Refusal as refusal:
                    error = {"code": refusal.code, "message": refusal.message}
                    async with self._sending:
                        await self._send([make_event("ERROR", self._sent_id, error)])
                await asyncio.sleep(0)  # whoever talks without end does not stop the others
        except WebSocketDisconnect:
            pass  # it left instead of hearing the answer
        finally:
            self._feed.close()

    async def _send(self, events: list[Event]) -> None:
        if FRAMES not in self._websocket.scope.get("extensions", {}):  # another server than ours
            for event in events:
                await self._websocket.send_text(event.text)
        elif events:
            frames = b"".join([event.websocket for event in events])
            await self._websocket.send({"type": "websocket.send", "frames": frames})
        if events:
            self._sent_id = events[-1].id

    def _change_rooms(self, change: RoomChange) -> None:
        drop_id = parse_uuid("dropId", change.dropId)
        if change.type == "drops:join":
            self._feed.join(drop_id)
        else:
            self._feed.leave(drop_id)
