"""A session that notes the plans of the statements it runs."""

import re

import asyncpg

TABLES = "reservations|purchases|changes|events|payments|payment_events|provider_calls"
"""The tables that grow, beside that of users."""


class Explained:
    """A session that notes the plan of every statement it runs, those inside functions included."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.plans: list[str] = []

    async def open(self) -> None:
        """Load auto_explain, which takes a superuser."""
        self.connection.add_log_listener(lambda _, message: self.plans.append(message.message))
        await self.connection.execute(
            "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;"
            " set client_min_messages = log"
        )

    async def indexes(self, statement: str, *arguments: object) -> tuple[list[asyncpg.Record], set[str]]:
        """Run a statement; its rows, and the indexes used on the tables that grow. Fails on any other way to their rows."""
        rows = await self._run(statement, *arguments)
        plan = "\n".join(self.plans)
        assert "Index" in plan
        assert not re.search(rf"(Seq|Bitmap Heap) Scan on ({TABLES}|users)\b", plan), plan
        # A step that is not put into its caller's statement would be planned at every call.
        assert not re.search(r"Function Scan on (reserve_facts|term_facts|purchase_decisions|find_holds|drop_rows)", plan), plan
        walked = rf"Index (?:Only )?Scan (?:Backward )?using (\w+) on (?:{TABLES})\b"
        return rows, set(re.findall(walked, plan))

    async def notes(self, statement: str, *arguments: object) -> list[str]:
        """Run a statement; the plans by which triggers note in changes what it did to reservations and purchases."""
        return await self.plans_with(r"insert into inventory\.changes.* new_rows", statement, *arguments)

    async def plans_with(self, pattern: str, statement: str, *arguments: object) -> list[str]:
        """Run a statement; the plans of those statements inside it whose text has this pattern."""
        await self._run(statement, *arguments)
        return [plan for plan in self.plans if re.search(pattern, plan, re.DOTALL)]

    async def _run(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        self.plans.clear()
        rows = await self.connection.fetch(statement, *arguments)
        await self.connection.execute("select")  # messages come with an answer; after this one, all are here
        return rows
