"""How `lastpair run` serves the application: the sockets, uvicorn's configuration, and the processes."""

import asyncio
import errno
import logging
import os
import resource
import selectors
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from multiprocessing import parent_process, resource_tracker
from time import monotonic

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from lastpair.errors import STOPPING, Unavailable
from lastpair.observability.logs import log_config
from lastpair.settings import InvalidSettings, Settings
from lastpair.web.closing import refusal_bytes
from lastpair.web.http_protocol import HttpProtocol
from lastpair.web.stream_requests import HEARTBEAT_SECONDS
from lastpair.web.websocket import MAX_MESSAGE_BYTES
from lastpair.web.websocket_protocol import WebSocketProtocol

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than proxies keep theirs (nginx: 60), because a request that a proxy sends while
the connection is being closed gets 502."""

SHUTDOWN_SECONDS = 2
"""How long requests in flight may take after SIGTERM."""

BACKLOG_SECONDS = 1
"""How long clients that connected too late have to send their request and to read the answer to it."""

RECEIVE_BYTES = 64 * 1024

logger = logging.getLogger("lastpair")


def listen(settings: Settings) -> list[socket.socket]:
    """Sockets that listen on PORT of HOST, then those on ADMIN_PORT if it is set. Raises InvalidSettings.

    `lastpair run` calls this before it migrates, so a port that is taken is reported before anything changes. A client that
    connects before the service is ready waits.
    """
    listeners: list[socket.socket] = []
    try:
        listeners += listen_on(settings.listening_host, "PORT", settings.port)
        if settings.admin_port is not None:
            listeners += listen_on(settings.listening_host, "ADMIN_PORT", settings.admin_port)
    except InvalidSettings:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen_on(host: str, variable: str, port: int) -> list[socket.socket]:
    """Sockets that listen on the port that this variable names; two for `::`, one otherwise. Raises InvalidSettings.

    `::` has a socket for IPv6 and one for IPv4. With one for both, the address of an IPv4 proxy would be `::ffff:…`, and
    FORWARDED_ALLOW_IPS would not know it.
    """
    listeners: list[socket.socket] = []
    for each in ["::", "0.0.0.0"] if host == "::" else [host]:  # noqa: S104
        try:
            listeners.append(bound(each, listeners[0].getsockname()[1] if listeners else port))
        except OSError as error:
            for listener in listeners:
                listener.close()
            reason = (error.strerror or "").lower()
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                raise InvalidSettings(
                    f"{variable}: {port} cannot be used ({reason}); stop what uses it, or set another"
                ) from None
            raise InvalidSettings(f"HOST: {host} cannot be listened on ({reason}); set an address of this machine") from None
    return listeners


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens on the first address of this host, an IPv4 address if it has one. Raises OSError."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(addresses, key=lambda found: found[0] != socket.AF_INET)
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # of two processes that start together, both can bind the port, but only one can listen
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(True)
    return listener


def serve(settings: Settings, *listeners: socket.socket) -> None:
    """Serve on the sockets that listen() returned, until SIGINT or SIGTERM.

    Each process reads the settings from the environment by itself.
    """
    raise_open_files_limit()
    config = WorkerConfig(
        "lastpair.web.application:create_app",
        factory=True,
        workers=settings.web_concurrency,
        loop="uvloop",
        http=HttpProtocol,
        ws=WebSocketProtocol,
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
    if settings.auth_mode == "header" and not all(map(is_loopback, listeners)):
        logger.warning(
            "HOST: %s lets other machines in, and AUTH_MODE=header believes any user id that they send", settings.listening_host
        )
    os.environ["PORT"] = str(listeners[0].getsockname()[1])
    try:
        if settings.web_concurrency > 1:
            Workers(config, sockets=list(listeners)).run()
        else:
            with ExitStack() as stack:  # uvicorn closes its sockets when the shutdown begins
                Server(config).run(sockets=[stack.enter_context(listener.dup()) for listener in listeners])
    finally:
        answer_backlog(listeners)


class Workers(Multiprocess):
    """Several processes, which a Ctrl-C stops quietly from their first moment on.

    Ctrl-C sends SIGINT to the parent and to all children. A child that has not installed its handlers yet would print a
    traceback. Therefore SIGINT is blocked while children start; they inherit that, and unblock it when they have handlers.
    """

    def init_processes(self) -> None:
        """Start the processes."""
        with sigint_blocked():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        """Replace the processes that have died."""
        with sigint_blocked():
            super().keep_subprocess_alive()


class WorkerConfig(Config):
    """uvicorn's configuration. A process loads it after it has installed its handlers of signals."""

    def load(self) -> None:
        """Load the application, and let SIGINT in, which Workers had blocked."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        stop_without_parent()
        super().load()


def stop_without_parent() -> None:
    """In one of several processes, stop as after SIGTERM when the parent is gone, for example killed.

    Nobody would replace the process when it ends, and it would hold the port, so that the service could not be started again.
    """
    parent = parent_process()
    if parent is None:
        return
    loop, its_end = asyncio.get_running_loop(), parent.sentinel  # a pipe, which the system closes with the parent

    def stop() -> None:
        loop.remove_reader(its_end)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(its_end, stop)


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Block SIGINT in this thread and in the processes that it starts; one that comes meanwhile is delivered afterwards."""
    resource_tracker.ensure_running()  # it would unblock SIGINT when the first process starts
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def answer_backlog(listeners: Sequence[socket.socket]) -> None:
    """Answer 503 to the clients that have connected since the last process stopped accepting, and close the listeners.

    The kernel accepts connections on its own and queues them. When a listener is closed, it resets those in the queue, although
    their clients may have sent a request. This takes at most BACKLOG_SECONDS, and no time if there are none.
    """
    deadline = monotonic() + BACKLOG_SECONDS
    with selectors.DefaultSelector() as clients:
        for listener in listeners:
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


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches the socket."""
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def raise_open_files_limit() -> None:
    """Raise the soft limit of open files to the hard limit.

    Each connection is an open file, and the usual soft limit is lower than MAX_STREAMS.
    """
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems have a smaller limit of their own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
