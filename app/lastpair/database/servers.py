"""The PostgreSQL servers that a URL names, and a connection to the one that takes writes."""

import asyncio
import re
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import asyncpg

CONNECTION_FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What asyncpg raises when a connection, or a statement on it, fails."""

# The system closes a TCP connection whose other side acknowledges nothing for three seconds. Without these options it needs
# fifteen minutes, or for ever if nothing is sent. The names are those of Linux; other systems do without.
TCP_OPTIONS = {
    name: value
    for name, value in {"TCP_USER_TIMEOUT": 3000, "TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}


PATIENCE_SECONDS = 1
"""How long one attempt to connect may be silent before others are made beside it."""

SHORT_ATTEMPT_SECONDS, PAUSE_SECONDS = 0.7, 0.3
"""How long such an attempt lasts, and the pause between two."""

KEYWORD = re.compile(r"""\s*(\w+)\s*=\s*(?:'((?:\\.|[^'\\])*)'|((?:\\.|[^\s'\\])*))""", re.DOTALL)
"""A keyword and its value in a connection string of libpq, with quotes and without."""

PASSED_ON = frozenset(
    {"host", "port", "target_session_attrs", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl"}
)
"""The keywords of libpq that asyncpg knows as well, besides the database and the login."""


class Servers:
    """One server, or several of which one takes writes (`host=a,b&target_session_attrs=read-write`)."""

    def __init__(self, url: str) -> None:
        self.urls = _urls_of_servers(url)
        """One URL for each server. The server that was connected to last comes first."""

    def move_to(self, url: str) -> None:
        """From now on connect to these servers. Connections that exist stay."""
        self.urls[:] = _urls_of_servers(url)

    async def connect(self, dsn: str | None = None, *, timeout: float = 60, **options: Any) -> asyncpg.Connection:
        """Connect to the first server that accepts, beginning with the one that was connected to last.

        Each server gets an equal share of `timeout` (seconds), so that one that does not answer leaves time for the others.
        `options` are those of asyncpg.connect. A pool passes a `dsn`, which is ignored. Raises CONNECTION_FAULTS.
        """
        last_error: Exception | None = None
        share_seconds = timeout / len(self.urls)
        for url in list(self.urls):
            try:
                connection = await _connect(url, share_seconds, options)
            except TimeoutError as error:  # one of asyncpg's has no message, one of the system has
                last_error = error if str(error) else TimeoutError(f"{_address(url)} did not answer in {share_seconds:g} s")
            except CONNECTION_FAULTS as error:
                last_error = error
            else:
                self.urls.remove(url)
                self.urls.insert(0, url)
                _close_when_dead(connection)
                return connection
        assert last_error is not None  # noqa: S101 - a URL names one server at least
        raise last_error


async def _connect(url: str, timeout: float, options: dict[str, Any]) -> asyncpg.Connection:
    # An attempt that is silent may have been swallowed, or the server may be slow. So it goes on, and others are made beside it.
    first = asyncio.create_task(asyncpg.connect(url, timeout=timeout, **options))
    later = asyncio.create_task(_connect_beside(url, options))
    used: asyncio.Task[asyncpg.Connection] | None = None
    try:
        done, _ = await asyncio.wait((first, later), return_when=asyncio.FIRST_COMPLETED)
        used = first if first in done else later
        return used.result()
    finally:
        for task in {first, later} - {used}:
            task.cancel()
            task.add_done_callback(_close_unused)


async def _connect_beside(url: str, options: dict[str, Any]) -> asyncpg.Connection:
    pause_seconds: float = PATIENCE_SECONDS
    while True:
        await asyncio.sleep(pause_seconds)
        pause_seconds = PAUSE_SECONDS
        with suppress(*CONNECTION_FAULTS):
            return await asyncpg.connect(url, timeout=SHORT_ATTEMPT_SECONDS, **options)


def _close_unused(task: "asyncio.Task[asyncpg.Connection]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


def url_of(address: str, login_url: str) -> str:
    """The URL of the servers that a connection string of libpq names (`host=a,b port=5432 dbname=x`), with the login of a URL."""
    given = {name: re.sub(r"\\(.)", r"\1", quoted or plain) for name, quoted, plain in KEYWORD.findall(address)}
    if "hostaddr" in given:
        given["host"] = given["hostaddr"]
    login = urlsplit(login_url)
    credentials, at, _ = login.netloc.rpartition("@")
    in_query = dict(parse_qsl(login.query))
    fields = {name: value for name, value in in_query.items() if name in {"user", "password"}}
    fields |= {name: value for name, value in given.items() if name in PASSED_ON}
    if "host" in fields:  # asyncpg knows an IPv6 address by its brackets, which libpq does not take
        hosts = fields["host"].split(",")
        fields["host"] = ",".join(f"[{host}]" if ":" in host and host[0] not in "/[" else host for host in hosts)
    name = given.get("dbname") or unquote(login.path[1:])
    return f"{login.scheme}://{credentials}{at}/{quote(name, safe='')}?{urlencode(fields, quote_via=quote)}"


def reason(error: BaseException) -> str:
    """What an error says, in one line that is never empty."""
    if text := " ".join(str(error).split()):
        return text
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def _close_when_dead(connection: asyncpg.Connection) -> None:
    endpoint = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    # The socket is closed if the connection was lost meanwhile. uvloop says so with a ValueError, asyncio with an OSError; the
    # first call on the connection says it with an error that callers expect.
    with suppress(ValueError, OSError):
        if endpoint.family == socket.AF_UNIX:
            return
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in TCP_OPTIONS.items():
            endpoint.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _address(url: str) -> str:
    # Where a URL of one server leads to: its host and port, without the user and the password.
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host") or "the server"


def _urls_of_servers(url: str) -> list[str]:
    parts = urlsplit(url)
    credentials, at, netloc_hosts = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query))
    if "," in netloc_hosts:
        return [urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}")) for host in netloc_hosts.split(",")]
    hosts = query.get("host", "").split(",")
    if netloc_hosts or len(hosts) == 1:
        return [url]
    ports = query.get("port", "").split(",")
    urls = []
    for n, host in enumerate(hosts):
        one = query | {"host": host} | ({"port": ports[n % len(ports)]} if "port" in query else {})
        urls.append(f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(one, quote_via=quote)}")
    return urls
