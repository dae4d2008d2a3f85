"""The PostgreSQL servers that a URL names, and a connection to the one that takes writes."""

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

CONNECTION_FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What asyncpg raises when a connection, or a statement on it, fails."""


class Servers:
    """One server, or several of which one takes writes (`host=a,b&target_session_attrs=read-write`)."""

    def __init__(self, url: str) -> None:
        self.urls = _urls_of_servers(url)
        """One URL for each server. The server that was connected to last comes first."""

    async def connect(self, dsn: str | None = None, *, timeout: float = 60, **options: Any) -> asyncpg.Connection:
        """Connect to the first server that accepts, beginning with the one that was connected to last.

        Each server gets an equal share of `timeout` (seconds), so that one that does not answer leaves time for the others.
        `options` are those of asyncpg.connect. A pool passes a `dsn`, which is ignored. Raises CONNECTION_FAULTS.
        """
        last_error: Exception | None = None
        for url in list(self.urls):
            try:
                connection: asyncpg.Connection = await asyncpg.connect(url, timeout=timeout / len(self.urls), **options)
            except CONNECTION_FAULTS as error:
                last_error = error
            else:
                self.urls.remove(url)
                self.urls.insert(0, url)
                return connection
        assert last_error is not None  # noqa: S101 - a URL names one server at least
        raise last_error


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
