"""Counts the watchers: the streams that are open in all processes of the service.

Each process knows its own streams. It tells the database how many they are, learns the sum of all processes from the same call,
and keeps it, so that an answer costs no call. A process that is killed tells nothing more, and its streams count for 20 seconds.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from lastpair.database.pool import Database

COUNT_SECONDS = 5
"""How often a process counts. `api.count_watchers` waits for four counts before it takes a process for dead."""

COUNT_WATCHERS = "select watchers, as_of from api.count_watchers($1, $2)"


class Count(NamedTuple):
    """How many watchers there were, and when that was."""

    watchers: int
    as_of: datetime


class Watchers:
    """One for each process. `latest` is the last count, or None if there was none yet."""

    def __init__(self, database: Database, open_streams: Callable[[], int]) -> None:
        """`open_streams` says how many streams this process has open."""
        self.latest: Count | None = None
        self._database = database
        self._open_streams = open_streams
        self._process_id = uuid4()

    async def count(self) -> None:
        """Count again. Raises Refusal when the database cannot serve."""
        [row] = await self._database.fetch(COUNT_WATCHERS, self._process_id, self._open_streams())
        self.latest = Count(*row)

    async def leave(self) -> None:
        """The process stops, and its streams have ended: the others need not wait until it is taken for dead. Raises Refusal."""
        await self._database.fetch(COUNT_WATCHERS, self._process_id, 0)
