"""HTTP as uvicorn speaks it, but for what a client may do while it is being sent an endless answer."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STREAM_PATHS = frozenset({"/api/events", "/api/v1/events"})


class StreamProtocol(HttpToolsProtocol):
    """Cuts off a client that sends another request on a connection whose event stream is open.

    uvicorn would tell of the client's leaving and slowness only that request, which waits for ever, or the WebSocket it asks to
    become: the stream would never end, and what its client does not read would pile up.
    """

    def on_headers_complete(self) -> None:
        """A request has come."""
        running = self.cycle
        super().on_headers_complete()
        if running is not None and not running.response_complete and running.scope["path"] in STREAM_PATHS:
            self.cycle = running
            self.pipeline.clear()
            self.transport.abort()

    def handle_websocket_upgrade(self) -> None:
        """The request was one for a WebSocket."""
        if not self.transport.is_closing():
            super().handle_websocket_upgrade()
