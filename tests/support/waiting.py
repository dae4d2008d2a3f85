"""Waiting for a condition, and time that passes only when a test says so."""

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable

PATIENCE_SECONDS = 60
"""How long tests wait for something that will happen. A busy machine needs many times as long as a quiet one."""


async def eventually(condition: Callable[[], object], timeout_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition, which may be a coroutine function, holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not (await held if isawaitable(held := condition()) else held):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def wait_for(condition: Callable[[], object], timeout_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Clock:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000_000.125

    def __call__(self) -> float:
        return self.now
