"""How `lastpair run` serves the application: the socket, uvicorn's configuration, and the processes."""

import os
import resource
import selectors
import socket
from contextlib import suppress
from time import monotonic

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from lastpair.errors import STOPPING, Unavailable
from lastpair.observability.logs import log_config
from lastpair.settings import InvalidSettings, Settings
from lastpair.web.stream_requests import HEARTBEAT_SECONDS
from lastpair.web.uvicorn_protocols import FrameProtocol, StreamProtocol, refusal_bytes
from lastpair.web.websocket import MAX_MESSAGE_BYTES

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than proxies keep theirs (nginx: 60), because a request that a proxy sends while
the connection is being closed gets 502."""

SHUTDOWN_SECONDS = 2
"""How long requests in flight may take after SIGTERM."""

BACKLOG_SECONDS = 1
"""How long clients that connected too late have to send their request and to read the answer to it."""

RECEIVE_BYTES = 64 * 1024


def listen_on_port(settings: Settings) -> socket.socket:
    """A socket that listens on PORT. Raises InvalidSettings if the port cannot be used.

    `lastpair run` calls this before it migrates, so a port that is taken is reported before anything changes. A client that
    connects before the service is ready waits. In development the socket accepts connections from this machine only, because the
    service trusts X-User-Id there.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1" if settings.development else "0.0.0.0", settings.port))  # noqa: S104
        listener.listen(BACKLOG)  # of two processes that start together, both can bind the port, but only one can listen
    except OSError as error:
        listener.close()
        raise InvalidSettings(
            f"PORT: {settings.port} cannot be used ({(error.strerror or '').lower()}); stop what uses it, or set another"
        ) from None
    listener.set_inheritable(True)
    return listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Each process reads the settings from the environment by itself."""
    raise_open_files_limit()
    config = Config(
        "lastpair.web.application:create_app",
        factory=True,
        workers=settings.web_concurrency,
        loop="uvloop",
        http=StreamProtocol,
        ws=FrameProtocol,
        backlog=BACKLOG,
        log_config=log_config(settings),
        access_log=False,  # web/middleware.py logs requests
        forwarded_allow_ips=settings.forwarded_allow_ips,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        # Frames are not compressed, because they are small, and a compressor would need more memory than the rest of a client.
        ws_per_message_deflate=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=HEARTBEAT_SECONDS,
    )
    os.environ["PORT"] = str(listener.getsockname()[1])
    try:
        if settings.web_concurrency > 1:
            Multiprocess(config, sockets=[listener]).run()
        else:
            with listener.dup() as accepting:  # uvicorn closes it when the shutdown begins
                Server(config).run(sockets=[accepting])
    finally:
        answer_backlog(listener)


def answer_backlog(listener: socket.socket) -> None:
    """Answer 503 to the clients that have connected since the last process stopped accepting, and close the listener.

    The kernel accepts connections on its own and queues them. When the listener is closed, it resets those in the queue, although
    their clients may have sent a request. This takes at most BACKLOG_SECONDS, and no time if there are none.
    """
    deadline = monotonic() + BACKLOG_SECONDS
    with selectors.DefaultSelector() as clients:
        listener.setblocking(False)
        with suppress(OSError):  # the queue is empty, or too many files are open
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                clients.register(connection, selectors.EVENT_READ)
        listener.close()
        answered = set()
        while clients.get_map() and (seconds_left := deadline - monotonic()) > 0:
            for key, _ in clients.select(seconds_left):
                connection = key.fileobj  # type: ignore[assignment] # only sockets are registered
                try:
                    received = connection.recv(RECEIVE_BYTES)
                    if received and connection not in answered:
                        answered.add(connection)
                        connection.send(refusal_bytes(Unavailable(STOPPING), None, []))
                        connection.shutdown(socket.SHUT_WR)
                except OSError:
                    received = b""
                if not received:  # the client has closed the connection; until then its input is discarded
                    clients.unregister(connection)
                    connection.close()
        for key in list(clients.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr] # only sockets are registered


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files to the hard limit.

    Each connection is an open file, and the usual soft limit is lower than MAX_STREAMS.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems have a smaller limit of their own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
