"""Coroutines that need not wait are run without a task."""

from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class MustWait(Exception):
    """A coroutine cannot finish at once."""


def at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What the coroutine returns, without a task. Raises MustWait if it would have to wait; it is closed then."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise MustWait
