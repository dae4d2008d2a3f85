"""Which targets a webhook may have.

A URL is given by a seller, and the request comes from inside: it must not reach what only this machine or its network reaches.
So every name is resolved here, each of its addresses is checked, and the connection goes to an address that was checked. What the
name resolves to a moment later does not matter.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpcore

MAX_RESOLVING = 20
"""Names that are resolved at the same time. Each has a thread of its own, because a resolver may hang for long, and the threads
of the event loop resolve the name of the database."""

NAT64 = IPv6Network("64:ff9b::/96")
LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")
SITE_LOCAL = IPv6Network("fec0::/10")
COMPATIBLE = IPv6Network("::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""It returns the addresses of a name, as text. Raises OSError."""


class NotAllowed(Exception):
    """A webhook may not have this target."""


class SystemResolver:
    """The resolver of the system, which also takes an address as a name. Those who ask for one name together share an answer."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_RESOLVING, "resolve")
        self._under_way: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses. Raises OSError."""
        key = (host, port)
        answer = self._under_way.get(key)
        if answer is None:
            answer = asyncio.get_running_loop().run_in_executor(self._threads, _addresses, host, port)
            self._under_way[key] = answer
            answer.add_done_callback(lambda _: self._under_way.pop(key))
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # all who asked may have left
        return await asyncio.shield(answer)


def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError("not a name") from error


class Targets:
    """The rule for targets. `private_networks` are those that are allowed although they are not public."""

    def __init__(self, private_networks: Iterable[str], *, only_https: bool, resolve: Resolve | None = None) -> None:
        self._networks = [ip_network(network) for network in private_networks]
        self._only_https = only_https
        self._resolve = resolve or SystemResolver()

    def check_url(self, url: str) -> None:
        """Refuse what can be refused without the resolver: the scheme, and an address as the host. Raises NotAllowed."""
        try:
            parsed = httpcore.URL(url)
        except ValueError:
            raise NotAllowed("has a host or a port that cannot be") from None
        if self._only_https and parsed.scheme != b"https":
            raise NotAllowed("must begin with https://")
        try:
            address = ip_address(parsed.host.decode().strip("[]"))
        except ValueError:  # a name
            return
        self._check(address)

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host to connect to. Raises NotAllowed if one of them is not allowed, and OSError."""
        found = [ip_address(text) for text in await self._resolve(host.strip("[]"), port)]
        for address in found:
            self._check(address)
        return [str(address) for address in dict.fromkeys(found)]

    def _check(self, address: Address) -> None:
        if not all(self._is_allowed(each) for each in _reached(address)):
            raise NotAllowed("leads to an address that is not public")

    def _is_allowed(self, address: Address) -> bool:
        is_public = address.is_global and not address.is_multicast and not address.is_reserved and address not in SITE_LOCAL
        return is_public or any(address in network for network in self._networks)


def _reached(address: Address) -> list[Address]:
    # The address, or those that a packet to it may reach: an IPv6 address can have an IPv4 address in it.
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in NAT64:
        return [last]
    if address in COMPATIBLE:
        return [address, last]
    if address in LOCAL_NAT64 or address in TEREDO:
        return [IPv6Address("::")]  # whose rest cannot be told; neither is allowed
    if address in SIX_TO_FOUR:
        return [address, IPv4Address(int(address) >> 80 & 0xFFFFFFFF)]
    return [address]


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connections of httpcore, which go to addresses that were checked."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises NotAllowed, OSError and httpcore's errors."""
        error: Exception = OSError("the name has no address")
        for address in await self._targets.addresses(host, port):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._backend.sleep(seconds)
