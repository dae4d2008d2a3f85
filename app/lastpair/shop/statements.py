"""How one statement of a request that shares no call with others becomes an Outcome."""

from collections.abc import Awaitable
from typing import Any

from lastpair.database.pool import Database
from lastpair.errors import Refusal, Unavailable
from lastpair.shop.outcome import DONE, Outcome, Page


class Statements:
    """Runs single statements in one database. A method returns an Outcome, also if the request is refused. Raises Unavailable."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def page(self, statement: str, limit: int, *arguments: Any) -> Outcome:
        """A page of a list; the statement is one of page_of()."""

        async def act() -> Outcome:
            [page] = await self.database.fetch_single(statement, limit, *arguments)
            return Outcome(DONE, None, None, False, Page(*page))

        return await outcome_of(act())

    async def row(self, statement: str, *arguments: Any) -> Outcome:
        """The row of api.outcome that the statement returns."""

        async def act() -> Outcome:
            [row] = await self.database.fetch_single(statement, *arguments)
            return Outcome(*row)

        return await outcome_of(act())

    async def single(self, statement: str, *arguments: Any) -> Outcome:
        """The one value that the statement returns."""

        async def act() -> Outcome:
            return Outcome(DONE, None, None, False, await self.database.value(statement, *arguments))

        return await outcome_of(act())

    async def repeatable(self, status: int, statement: str, *arguments: Any) -> Outcome:
        """The second value that the statement returns. The first says whether the request was carried out before."""

        async def act() -> Outcome:
            [(replayed, data)] = await self.database.fetch_single(statement, *arguments)
            return Outcome(DONE if replayed else status, None, None, replayed, data)

        return await outcome_of(act())


async def outcome_of(act: Awaitable[Outcome]) -> Outcome:
    """What the awaitable returns; a refusal that it raises as an outcome. Raises Unavailable."""
    try:
        return await act
    except Unavailable:
        raise
    except Refusal as refusal:
        return refused(refusal)


def refused(refusal: Refusal) -> Outcome:
    """A refusal as an outcome."""
    return Outcome(refusal.status, refusal.code, refusal.message, False, None)
