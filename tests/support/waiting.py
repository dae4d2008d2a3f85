"""Waiting for a condition."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable


async def eventually(condition: Callable[[], object], timeout_seconds: float = 10) -> None:
    """Wait until the condition, which may be a coroutine function, holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not (await held if isawaitable(held := condition()) else held):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def wait_for(condition: Callable[[], object], timeout_seconds: float = 10) -> None:
    """Wait until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
