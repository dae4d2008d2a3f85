"""Limits on what one client may ask of a process: writes a minute, and open streams."""

import math
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, IPv6Network
from time import monotonic

from starlette.types import Scope

from app.http import Refusal, Unavailable

TOO_MANY_STREAMS = "As many streams as this process takes are open. Try again in a moment, and another one may answer."
TOO_MANY_OF_YOURS = "As many streams as one address may have are open. Close one."

WINDOW_SECONDS = 60
FORGOTTEN_AT_ONCE = 2
"""More than one request makes known, so that all the old go; few, so that none has to wait while thousands go."""


class RateLimit:
    """So many requests in any minute of each who is told apart; 0 is no limit.

    Our own and not the limits library's, whose storage in memory starts a thread every few milliseconds to look through all it
    knows: with 100,000 users known a request took 27 us and at times 47 ms, here 2 us. Its sliding window is an estimate.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._times: OrderedDict[str, list[float]] = OrderedDict()  # of each one's requests; who asked last is last

    def count(self, name: str) -> None:
        """One more request of this one; raises 429 RATE_LIMITED when it is one too many, which does not count."""
        if self._per_minute:
            now = monotonic()
            begin = now - WINDOW_SECONDS
            self._forget(begin)
            times = self._times.setdefault(name, [])
            del times[: bisect_right(times, begin)]
            if len(times) >= self._per_minute:
                retry_after_seconds = math.ceil(times[0] - begin)
                raise Refusal(
                    429,
                    "RATE_LIMITED",
                    f"More than {self._per_minute} requests in a minute. Try again in {retry_after_seconds} s.",
                    {"retry-after": str(retry_after_seconds)},
                )
            times.append(now)
            self._times.move_to_end(name)

    def _forget(self, begin: float) -> None:
        # Some of those who have not asked since.
        for _ in range(FORGOTTEN_AT_ONCE):
            if self._times and next(iter(self._times.values()))[-1] <= begin:
                self._times.popitem(last=False)


class Places:
    """The streams that a process has open: so many at most, and of each address so many, where 0 is no limit."""

    def __init__(self, most: int, most_of_address: int) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._count = 0
        self._taken: Counter[str] = Counter()  # by address, none of them 0

    @contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """Have a place for as long as the block runs; raises 503 OVERLOADED, or 429 RATE_LIMITED."""
        if self._count >= self._most:
            raise Unavailable(TOO_MANY_STREAMS, "OVERLOADED")
        if self._most_of_address and self._taken[address] >= self._most_of_address:
            raise Refusal(429, "RATE_LIMITED", TOO_MANY_OF_YOURS, {"retry-after": "1"})
        self._count += 1
        self._taken[address] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]


def address_of(scope: Scope) -> str:
    """The client's address: as the proxy tells it, if it is one of FORWARDED_ALLOW_IPS.

    Of IPv6 it is the /64 network: a client has all addresses in it.
    """
    client = scope.get("client")
    host: str = client[0] if client else ""
    if ":" in host:
        with suppress(ValueError):
            address = IPv6Address(host)
            return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))
    return host
