"""uvicorn's HTTP protocol, with limits on clients that misbehave.

An incomplete request has a largest size and a time limit. Beyond them the connection is closed (closing.py). Many bytes that
arrive at once are parsed in turns (turns.py).

A request that another HTTP parser could read in another way is refused, and its connection is closed. A proxy in front would
otherwise see other requests than this process does, and one client would get the answers of another (request smuggling).
"""

import asyncio
import re
from collections.abc import Sequence

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from lastpair.errors import STOPPING, Refusal, Unavailable, invalid
from lastpair.web.closing import WriteTimeout, refusal_bytes
from lastpair.web.hot_path import HotPath, HotRequest, hot_path_behind
from lastpair.web.http_answers import DRAIN_BYTES, CoalescedWrites, with_own_answers
from lastpair.web.requests import HEADERS
from lastpair.web.turns import PacedReading
from lastpair.web.url_paths import SOCKETIO_PATH, SSE_PATHS, WEBSOCKET_PATHS

MAX_HEAD_BYTES = 32 * 1024
"""The most bytes of the request line and all headers together, and of the trailers of a body."""

MAX_URL_BYTES = 8 * 1024
FEED_BYTES = 4 * 1024
"""The number of bytes that the parser gets at once.

The size of a head is therefore known with an error of at most FEED_BYTES. It must be at most half of MAX_URL_BYTES.
"""

MAX_PIPELINED = 100
"""Requests of one connection that may wait for the answers to earlier ones."""

HEAD_TIMEOUT_SECONDS = 10
BODY_TIMEOUT_SECONDS = 30

DRAIN_SECONDS = 0.5
"""How long an idle connection stays open when the process stops, because a request may be on its way."""

HOST = rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
HOST_VALUE = re.compile(HOST)
ABSOLUTE_TARGET = re.compile(rb"https?://(?P<host>" + HOST + rb")(?P<rest>[/?].*)?", re.IGNORECASE)
WEBSOCKET_TARGETS = frozenset(path.encode() for path in (*WEBSOCKET_PATHS, SOCKETIO_PATH))

FALSE_PROTOCOLS = (b"RTSP/", b"ICE/")
"""Protocols that llhttp serves as if they were HTTP."""

FALSE_PROTOCOL = re.compile(rb" (?:RTSP|ICE)/")
FALSE_PROTOCOL_BYTES = frozenset(b" RTSPICE")
"""The last byte of a piece is one of these, if the next piece begins with the rest of such a name."""

SPACES_BEFORE_FALSE_PROTOCOL = re.compile(rb"(?<! ) ++(?=RTSP/|ICE/|R?T?S?P?\Z|I?C?E?\Z)")

NOT_HTTP = "request", "is not well-formed HTTP/1.1"
HEAD_TOO_LARGE = "headers", f"must not be larger than {MAX_HEAD_BYTES} bytes, the request line included"
TRAILERS_TOO_LARGE = "body", f"must not have trailers or chunk extensions larger than {MAX_HEAD_BYTES} bytes"
URL_TOO_LARGE = "URL", f"must not be larger than {MAX_URL_BYTES} bytes"
BAD_VERSION = "HTTP version", "must be HTTP/1.1 or HTTP/1.0"
BAD_HOST = "Host", "must be given once, as a host name or address with an optional port"
BAD_CODING = "Transfer-Encoding", "must be `chunked`, given once, in an HTTP/1.1 request"
BAD_TARGET = "request target", "must be a path, or a http or https URL with a host and without a user"
CONNECT = "method", "CONNECT is not possible here, because this is no proxy"


class _Refused(Exception):
    """A head is too large, or not clear; the field and the reason."""


class _Stopping(Exception):
    """The process stops, so that it begins no further request."""


class HttpProtocol(PacedReading, WriteTimeout, HttpToolsProtocol):
    """Sends each answer in one write, refuses heads that are too large or not clear, and closes connections whose request does
    not end in time.

    Only a WebSocket handshake on a path for it leaves HTTP. Any other Upgrade header is ignored, and what follows the head is the
    body, as RFC 9110, section 7.8, wants it. llhttp ends the message at such a head and would read the body as the next request.

    It cuts off a client that sends a second request while an event stream is open on the connection. The second request would
    wait forever. If it is a WebSocket handshake, uvicorn would tell only the WebSocket that the client is slow, and unread events
    of the stream would fill the memory.
    """

    _piece_bytes = FEED_BYTES
    _unread_bytes = 0  # bytes fed to the parser since it last completed a head or a part of a body, to within FEED_BYTES
    _drained_bytes = 0  # bytes of a request's body that came after its answer had begun
    _unanswered: Sequence[RequestResponseCycle] = ()  # requests before the latest one; some may be answered by now
    _answers: CoalescedWrites
    _refusal: bytes = b""  # what is sent when the requests before the refused one are answered
    _checked_host: bytes | None = None  # the Host of an earlier request, which most requests of a connection share
    _hot_path: HotPath | None = None
    _url_has_ended = False  # with the space that was fed alone
    _protocol: bytes | None = None  # the first bytes of the protocol's name, if a piece ended behind the URL or within the name
    _is_stopping = False
    _idle_since: float | None = None  # when the last answer was sent, by loop.time(), if nothing was received since
    _deadline: asyncio.TimerHandle | None = None
    # What the deadline waits for: a head (a request's scope), a body (its cycle) or the first head (None).
    _awaited: object = None
    # Since when uvicorn does not read, and how long it did not while the deadline ran.
    _paused_at = 0.0
    _paused_seconds = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self.flow = FlowControl(self)  # type: ignore[arg-type] # it has what FlowControl uses of a transport
        self._hot_path = hot_path_behind(self.app)
        self.app = with_own_answers(self.app)
        self._answers = CoalescedWrites(transport, self._close_answered)
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._expire, HEAD_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._cancel_deadline()
        self._disconnect_cycles()
        super().connection_lost(exc)
        self._let_go()

    def _parse(self, data: bytes) -> None:
        # uvicorn's own method would log a warning for each request that is not HTTP.
        self._idle_since = None
        self._unread_bytes += len(data)
        try:
            if FALSE_PROTOCOL.search(data) or data[-1] in FALSE_PROTOCOL_BYTES or self._protocol is not None:
                self._feed_in_parts(data)
            else:
                self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except _Refused as refused:
            self._refuse(*refused.args)
        except HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Stopping):
                self._end_with(Unavailable(STOPPING))
            else:
                self._refuse(*(cause.args if isinstance(cause, _Refused) else NOT_HTTP))
        cycle = self.cycle
        if isinstance(cycle, HotRequest) and cycle.more_body and self._is_listening():
            self._leave_hot_path(cycle)
        if cycle is None or cycle.scope is not self.scope or cycle.more_body or cycle.response_complete:
            self._set_deadline(len(data))
        elif self._deadline is not None:
            self._cancel_deadline()
        elif self._unread_bytes > DRAIN_BYTES:  # behind the last request of a connection, whose answer is a stream or late
            self._cut_off()

    def _feed_in_parts(self, data: bytes) -> None:
        # Feed bytes that may have RTSP or ICE where the protocol should be. Raises _Refused, and what the parser raises.
        #
        # The parser does not tell the protocol, and these bytes may as well be in a header or a body. But if the space before
        # them is fed alone and ends the URL, the parser calls on_url for it.
        if self._protocol is not None:
            self._check_protocol(self._protocol + data)
        fed = 0
        try:
            for spaces in SPACES_BEFORE_FALSE_PROTOCOL.finditer(data):
                self.parser.feed_data(data[fed : spaces.start()])
                fed = spaces.start()
                self._url_has_ended = False
                self.parser.feed_data(b" ")
                fed += 1
                if self._url_has_ended:
                    self._check_protocol(data[fed:])
            self.parser.feed_data(data[fed:])
        except HttpParserUpgrade as upgrade:
            raise HttpParserUpgrade(fed + upgrade.args[0]) from None

    def _check_protocol(self, begin: bytes) -> None:
        # `begin` follows the URL. If it ends within the name of the protocol, the next piece is checked, too.
        begin = begin.lstrip(b" ")
        if begin.startswith(FALSE_PROTOCOLS):
            raise _Refused(*BAD_VERSION)
        self._protocol = begin if any(name.startswith(begin) for name in FALSE_PROTOCOLS) else None

    def on_url(self, url: bytes) -> None:
        """A part of the URL arrived. It is empty if the byte that ends the URL was fed alone."""
        self.url += url
        self._url_has_ended = not url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header arrived. Blanks behind its value are no part of it (RFC 9110, section 5.5), but the parser keeps them."""
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        if self._unread_bytes > FEED_BYTES:
            self._check_head()
        self._unread_bytes = self._drained_bytes = 0
        version = self.parser.get_http_version()
        fields = self._check_clarity(version)
        if self._is_stopping:
            raise _Stopping
        running = self.cycle
        if self._hot_path is not None and (running is None or running.response_complete) and not self.flow.write_paused:
            target = self._hot_path.target_of(self.parser.get_method(), self.url, fields)
            if target is not None:
                if len(fields) == len(self.headers):  # none came twice
                    self.scope[HEADERS] = fields  # type: ignore[literal-required]
                keep_alive = version != "1.0" and self.parser.should_keep_alive()
                self.cycle = HotRequest(self._hot_path, self, target, self.scope, keep_alive=keep_alive)
                return
        self._begin_cycle(running)

    def _leave_hot_path(self, request: HotRequest) -> None:
        # The rest of the body comes later.
        self.cycle = None  # type: ignore[assignment] # as before the first request
        self._begin_cycle(None)
        self.cycle.body += request.body

    def _begin_cycle(self, running: RequestResponseCycle | None) -> None:
        super().on_headers_complete()
        if self.cycle is running:
            if self.scope["method"] == "CONNECT":
                raise _Refused(*CONNECT)
            return  # the message ends here for the parser, and _upgrade goes on
        if self.scope["http_version"] == "1.0":
            self.cycle.waiting_for_100_continue = False
        self.cycle.transport = self._answers  # type: ignore[assignment] # it has what a cycle uses of a transport
        self.headers = []  # trailers go here, because they are not headers of the request
        if running is not None and not running.response_complete:
            self._unanswered = [cycle for cycle in (*self._unanswered, running) if not cycle.response_complete]
            if running.scope["path"] in SSE_PATHS or len(self._unanswered) > MAX_PIPELINED:
                self._cut_off()

    def on_body(self, body: bytes) -> None:
        """A part of a request's body arrived."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete. uvicorn's own method would not say so of one that is answered already."""
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            cycle.more_body = False
            if isinstance(cycle, HotRequest):
                cycle.begin()
                return
            cycle.message_event.set()
            if self.headers and not self.parser.should_keep_alive() and cycle.keep_alive:
                # The trailers say `Connection: close`, so the parser reads no other request.
                cycle.keep_alive = False
                if cycle.response_complete:
                    self._close()

    def finish(self, request: HotRequest, answer: Sequence[bytes]) -> None:
        """Send these pieces of an answer, which is whole."""
        self.transport.writelines(answer)
        request.response_started = request.response_complete = True
        if request.keep_alive and not self.pipeline and not self._refusal and self._is_listening():
            self.server_state.total_requests += 1
            self._stay_open()
            return
        if not request.keep_alive:
            self._close_answered()
        self.on_response_complete()

    def _stay_open(self) -> None:
        # What uvicorn does when the last request is answered. But the timer goes on if it runs, because starting and stopping
        # it costs as much as parsing the request.
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        """A request is answered."""
        self._answers.flush()
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            self._start_write_timer_if_unsent()
        elif self._refusal:
            self._send_refusal_if_all_is_answered()
        elif self.transport.get_protocol() is not self:  # it lingers, and has a timer for that
            self._unset_keepalive_if_required()

    def timeout_keep_alive_handler(self) -> None:
        """No other request arrived in time, unless the connection was used since the timer was started."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # a request is being received or answered, and then the timer starts again
        seconds_left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if seconds_left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(seconds_left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()
            self._start_write_timer_if_unsent()

    def shutdown(self) -> None:
        """The process stops. The request that is being answered is the last one, and one that still arrives gets 503."""
        if not self._is_listening():
            return
        self._is_stopping = True
        if self.cycle is None or self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.loop.call_later(DRAIN_SECONDS, self._close_idle)
        else:
            self.cycle.keep_alive = False

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the WebSocket protocol. Cut off a client that has not read the answer to an earlier request."""
        if self.cycle is not None and (not self.cycle.response_complete or self.flow.write_paused):
            self._cut_off()
        elif not self.transport.is_closing():
            self._cancel_deadline()
            super().handle_websocket_upgrade()
            self._let_go()

    def pause_reading(self) -> None:
        """uvicorn wants no more bytes for now."""
        super().pause_reading()
        self._paused_at = self.loop.time()

    def resume_reading(self) -> None:
        """uvicorn wants bytes again."""
        super().resume_reading()
        self._paused_seconds += self.loop.time() - self._paused_at

    def _is_paused(self) -> bool:
        return self.flow.read_paused

    def _let_go(self) -> None:
        # This protocol has no connection any more. Nothing may point back to it, because the garbage collector runs seldom.
        self._unset_keepalive_if_required()
        for cycle, _ in self.pipeline:
            cycle.on_response = lambda: None
        self.pipeline.clear()
        self.parser = None  # type: ignore[assignment] # as in uvicorn's connection_lost
        self.flow._transport = self.transport
        self._answers._close = self.transport.close

    def _close_answered(self) -> None:
        # Close the connection after an answer.
        if self.cycle.response_complete and self.cycle.more_body and self._is_listening():
            self._cancel_deadline()
            self._linger()
        else:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        # uvicorn must leave every message that has an upgrade alone, because _upgrade decides.
        return True

    def _upgrade(self, rest: bytes) -> None:
        # The parser has ended a message after its head, because of the Upgrade header. `rest` is what follows the head.
        if self._is_websocket_handshake():
            rest, self._waiting = rest + self._waiting, memoryview(b"")
            self.handle_websocket_upgrade()
            if rest and not self.transport.is_closing():
                protocol = self.transport.get_protocol()
                assert isinstance(protocol, PacedReading)  # noqa: S101 - it has just been set
                protocol.data_received(rest)
            return
        # Parse the message again, without that header, and with another parser, because this one has ended the message.
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        message = b"".join([*head, b"\r\n", rest])
        for start in range(0, len(message), FEED_BYTES):
            if self._is_listening():
                self._parse(message[start : start + FEED_BYTES])

    def _is_websocket_handshake(self) -> bool:
        # WebSocketProtocol refuses one whose Sec-WebSocket headers are wrong.
        def values(name: bytes) -> list[bytes]:
            return [value.lower() for key, value in self.headers if key == name]

        return (
            self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and self.url.partition(b"?")[0] in WEBSOCKET_TARGETS
            and values(b"upgrade") == [b"websocket"]
            and not values(b"transfer-encoding")
            and values(b"content-length") in ([], [b"0"])
        )

    def _check_clarity(self, version: str) -> dict[bytes, bytes]:
        # llhttp refuses what is malformed in other ways. Nothing has been done for the request yet. Returns the headers.
        if version not in ("1.1", "1.0"):
            raise _Refused(*BAD_VERSION)
        fields = dict(self.headers)  # much faster than a loop
        host, coding = fields.get(b"host"), fields.get(b"transfer-encoding")
        if host is None:
            if version == "1.1":
                raise _Refused(*BAD_HOST)
        elif host != self._checked_host:
            if not HOST_VALUE.fullmatch(host):
                raise _Refused(*BAD_HOST)
            self._checked_host = host
        if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
            raise _Refused(*BAD_CODING)
        if len(fields) < len(self.headers):
            names = [name for name, _ in self.headers]
            if names.count(b"host") > 1:
                raise _Refused(*BAD_HOST)
            if names.count(b"transfer-encoding") > 1:
                raise _Refused(*BAD_CODING)
        if not self.url.startswith(b"/"):
            self._read_absolute_target()
            fields = dict(self.headers)
        elif b"#" in self.url:
            raise _Refused(*BAD_TARGET)
        return fields

    def _read_absolute_target(self) -> None:
        # The host in the request line counts and the Host header does not: RFC 9112, section 3.2.2.
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise _Refused(*CONNECT)
        if self.url == b"*" and method == b"OPTIONS":
            return
        target = ABSOLUTE_TARGET.fullmatch(self.url)
        if target is None or b"#" in self.url:
            raise _Refused(*BAD_TARGET)
        rest = target["rest"] or b"/"
        self.url = rest if rest.startswith(b"/") else b"/" + rest
        self.headers[:] = [(b"host", target["host"]), *(header for header in self.headers if header[0] != b"host")]

    def _cut_off(self) -> None:
        self._count_as("out_of_turn")
        self._disconnect_cycles()
        self.transport.abort()

    def _disconnect_cycles(self) -> None:
        # uvicorn tells only the latest request that the client left.
        for cycle in (*self._unanswered, self.cycle):
            if isinstance(cycle, HotRequest):
                cycle.leave()
            elif cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _check_head(self) -> None:
        if len(self.url) > MAX_URL_BYTES:
            raise _Refused(*URL_TOO_LARGE)
        request_line_bytes = len(self.parser.get_method()) + len(self.url) + len("  HTTP/1.1\r\n")
        if request_line_bytes + sum(len(name) + len(value) + 4 for name, value in self.headers) + 2 > MAX_HEAD_BYTES:
            raise _Refused(*HEAD_TOO_LARGE)

    def _set_deadline(self, received_bytes: int) -> None:
        # The received bytes end inside a request or between two requests, so the next part needs a deadline.
        if not self._is_listening():
            return
        cycle = self.cycle
        is_body = cycle is not None and cycle.scope is self.scope and cycle.more_body
        if self._unread_bytes > MAX_HEAD_BYTES:
            self._refuse(*(TRAILERS_TOO_LARGE if is_body else HEAD_TOO_LARGE))
            return
        if self.scope is not None and len(self.url) > MAX_URL_BYTES:
            self._refuse(*URL_TOO_LARGE)
            return
        if is_body and cycle.response_started:
            self._drained_bytes += received_bytes
            if self._drained_bytes > DRAIN_BYTES:
                self._stop_draining()
                return
        awaited = cycle if is_body else self.scope if cycle is not None else None
        if self._deadline is None or awaited is not self._awaited:
            self._cancel_deadline()
            self._awaited = awaited
            self._paused_seconds = 0
            seconds = BODY_TIMEOUT_SECONDS if is_body else HEAD_TIMEOUT_SECONDS
            self._deadline = self.loop.call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        # While this process did not read, the client is not to blame.
        if self.flow.read_paused or self._waiting:
            self._deadline = self.loop.call_later(seconds, self._expire, seconds)
        elif self._paused_seconds:
            self._deadline = self.loop.call_later(self._paused_seconds, self._expire, seconds)
            self._paused_seconds = 0
        else:
            self._deadline = None
            self._count_as("slow")
            self._close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, field: str, reason: str) -> None:
        if self.transport.is_closing():
            return
        too_large = (HEAD_TOO_LARGE, TRAILERS_TOO_LARGE, URL_TOO_LARGE)
        self._count_as("too_large" if (field, reason) in too_large else "malformed")
        self._end_with(invalid(field, reason))

    def _end_with(self, refusal: Refusal) -> None:
        # Refuse the request that is being read, and read no other. The requests before it are answered first, because the client
        # would take the refusal for the answer to one of them.
        self._cancel_deadline()
        cycles: Sequence[RequestResponseCycle] = (*self._unanswered, self.cycle)
        if self.cycle is not None and self.cycle.scope is self.scope and self.cycle.more_body:
            refused, cycles = self.cycle, self._unanswered
            if self.pipeline:
                self.pipeline.popleft()
            refused.disconnected = True
            refused.message_event.set()
            if refused.response_started:
                self._close()  # it has its answer, or a part of it, already
                return
        self._unanswered = [cycle for cycle in cycles if cycle is not None and not cycle.response_complete]
        if any(cycle.scope["path"] in SSE_PATHS for cycle in self._unanswered):
            self._close()  # the answer to a stream does not end
            return
        self._refusal = refusal_bytes(refusal, self.scope, self.server_state.default_headers)
        self.flow.resume_reading()
        self._discard_input()
        self._send_refusal_if_all_is_answered()

    def _send_refusal_if_all_is_answered(self) -> None:
        if all(cycle.response_complete for cycle in self._unanswered):
            self._unset_keepalive_if_required()
            self.transport.write(self._refusal)
            self._linger()

    def _close_idle(self) -> None:
        if not self._is_listening():
            return
        if self._waiting or self.scope is not (self.cycle and self.cycle.scope):  # a part of a request has arrived
            self._end_with(Unavailable(STOPPING))
        else:
            self._close()

    def _close(self) -> None:
        self.transport.close()
        self._start_write_timer_if_unsent()

    def _stop_draining(self) -> None:
        # Read no more of a body whose answer has begun.
        if self.cycle.response_complete:
            self._count_as("too_large")
            self._cancel_deadline()
            self._unset_keepalive_if_required()
            self._linger()
        else:
            self._cut_off()
