"""Calls to the functions of one node of a router."""

import asyncio
import logging
import re
from contextlib import AbstractAsyncContextManager, suppress
from functools import cache
from time import perf_counter
from typing import Any

import asyncpg

from lastpair.database.liveness import LOOK_SECONDS, SILENT_SECONDS, Probe, Wait, Watch
from lastpair.database.pool import BEGIN, NOTIFY_QUEUE, ROUTER_SETTINGS, Database, begin_with
from lastpair.database.servers import CONNECTION_FAULTS, Servers
from lastpair.errors import Refusal, Unavailable

CHECKS = 2
"""Checks in a row that a silent node must fail before it is taken for away. The second one has more time."""

AWAY_SECONDS = 5
"""For how long the router is told that the node is away; it is told again after each check that fails."""

CALL = re.compile(r"\bapi\.(?=\w+\()")

logger = logging.getLogger("lastpair")


class NodeDatabase(Database):
    """Calls the functions on one node, with sessions to the router that are for this node alone.

    A session of the router waits for the node in a call, so a slow node can only use up the sessions that are its own. If the
    node is silent, because its server is frozen or its machine is gone, the calls that wait for it are given up after some
    seconds, and others are refused at once until it answers again.
    """

    settings = ROUTER_SETTINGS

    def __init__(self, router: Database, number: int, servers: Servers) -> None:
        """`servers` lead to the node itself. Only the probe uses them, and the relay, whose connections `watch` looks after."""
        super().__init__(router.servers, router.pool_size, pooled=router.pooled, max_pending=router.max_single_calls)
        self._name = f"Node {number}"
        self._number = number
        self._router = router
        self.probe.servers = servers
        self._calls = Watch(router.probe)  # the sessions of the calls lead to the router
        self._calls.on_loss += [self._close_idle, router.watch.lost]
        self._probe_through_router = Probe(router.servers, behind=servers)
        self._heard_at = 0.0
        self._is_away = False
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Make the pool. Neither the router nor the node need be reachable yet."""
        await super().open()
        self._router.watch.on_loss.append(self._close_idle)
        self._tasks = [asyncio.create_task(self._calls.run()), asyncio.create_task(self._check_node())]

    async def close(self) -> None:
        """Close the pool. Sessions that are still busy after a second are cut off."""
        for task in self._tasks:
            task.cancel()
        with suppress(ValueError):
            self._router.watch.on_loss.remove(self._close_idle)
        self._probe_through_router.close()
        await super().close()

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement on the node and return its rows.

        The functions that the statement calls run there and not on the router. That costs least, but a refusal that one of them
        raises costs the router's connection to the node, so this is for functions that return refusals, and for jobs.
        """
        return await self._fetch(perf_counter(), on_node(statement, self._number), *arguments)

    async def notify_queue_usage(self) -> float:
        """The same of the node, which must be asked directly. Raises Unavailable."""
        try:
            usage, _ = await self.probe.ask(lambda session: session.fetchval(NOTIFY_QUEUE))
        except CONNECTION_FAULTS as error:
            raise Unavailable(self.unavailable) from error
        return float(usage)

    async def _fetch(self, begin: float, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        if self._is_away:
            raise Unavailable(self.unavailable)
        try:
            rows = await super()._fetch(begin, statement, *arguments)
        except Unavailable:
            raise
        except Refusal:
            self._heard_at = asyncio.get_running_loop().time()
            raise
        self._heard_at = asyncio.get_running_loop().time()
        return rows

    def _waiting(self, what: str, key: str | None, limit_seconds: float | None = None) -> AbstractAsyncContextManager[Wait]:
        return self._calls.waiting(what, key, limit_seconds)

    async def _check_node(self) -> None:
        # A long silence proves nothing, because a call may wait for a lock. So a node that is silent is asked something that
        # needs no lock, through the router as well. An answer to any other call meanwhile also proves that it is there.
        loop = asyncio.get_running_loop()
        failed = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._is_away and loop.time() - max(self._calls.silent_since(), self._heard_at) < SILENT_SECONDS:
                failed = 0
                continue
            asked_at = loop.time()
            try:
                await self._probe_through_router.ask(self._ask_node)
            except CONNECTION_FAULTS:
                failed += self._heard_at < asked_at
                if failed >= CHECKS:
                    await self._lose()
            except Exception:
                logger.exception("%s could not be checked", self._name)
            else:
                failed = 0
                self._heard_at = loop.time()
                if self._is_away:
                    self._is_away = False
                    logger.info("%s answers again", self._name)
                    await self._tell_router(0)

    async def _ask_node(self, session: asyncpg.Connection) -> None:
        await session.execute(f"{begin_with(self.settings)}; select from node_{self._number}.errors() limit 1; rollback")

    async def _lose(self) -> None:
        is_new, self._is_away = not self._is_away, True
        if is_new:
            logger.warning("%s does not answer, so requests for its drops are refused until it does", self._name)
            self._calls.give_up()
        await self._tell_router(AWAY_SECONDS)
        if is_new:
            # Lists that wait for it took sessions that others need. Asked again, they leave its rows out.
            self._router.watch.give_up(SILENT_SECONDS)

    async def _tell_router(self, seconds: int) -> None:
        # Functions of the router that ask several nodes leave this one out for so long.
        statement = f"{BEGIN}; select router.note_away({self._number}, {seconds}); commit"
        with suppress(*CONNECTION_FAULTS):
            await self._router.probe.ask(lambda session: session.execute(statement))


@cache
def on_node(statement: str, number: int) -> str:
    """The statement with calls of the functions that run on this node. Types keep their schema."""
    return CALL.sub(f"node_{number}.", statement)
