"""Background tasks of a process: the sweeper, the relays, the worker of the webhooks and the heartbeats.

The database sessions live as long as they do.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from types import FrameType

from lastpair import __version__
from lastpair.database.nodes import counted, on_each
from lastpair.errors import Refusal
from lastpair.payments.payments import NodePayments
from lastpair.realtime.hub import Hub
from lastpair.realtime.watchers import COUNT_SECONDS
from lastpair.settings import Settings
from lastpair.shop.sweeper import Job, repeat, sweep
from lastpair.web.components import Components
from lastpair.web.stream_requests import HEARTBEAT_SECONDS

ANNOUNCE_SECONDS = 5
RECONCILE_SECONDS = 600
"""How often each process asks whether the daily comparison with the payment providers is due."""

LEAVE_SECONDS = 0.5
"""How long a process that stops tries to tell the database so."""

logger = logging.getLogger("lastpair")


@asynccontextmanager
async def running(components: Components, settings: Settings) -> AsyncIterator[None]:
    """Run the background tasks during the block."""
    database, nodes, hub = components.database, components.nodes, components.hub
    await database.open()
    await nodes.open()
    tune_garbage_collector()
    counting = repeat(Job("count_watchers", COUNT_SECONDS, components.watchers.count), nodes.whole)
    sweeping = on_each(nodes, lambda node: sweep(node, settings, payment_jobs(components.payments.on(node), settings)))
    background = [nodes.run(), counting, sweeping, components.webhook_workers.run()]
    background.append(beat(hub, HEARTBEAT_SECONDS))
    tasks = [asyncio.create_task(coroutine) for coroutine in background]
    database_words = f" from a router with {counted(len(nodes.all))}" if nodes.is_router else ""
    address = f"http://{named(settings.listening_host)}:{settings.port}"
    logger.info("Lastpair %s serves %s%s", __version__, address, database_words)
    try:
        with closed_on_signal(components):
            yield
    finally:
        await components.rushes.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, components.relays.close(), return_exceptions=True)
        with suppress(Refusal, TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await components.watchers.leave()
        await components.payments.close()
        await nodes.close()
        await database.close()


def payment_jobs(payments: NodePayments, settings: Settings) -> list[Job]:
    """The jobs of the sweeper that payments need.

    Payments of a provider that the settings no longer name end like others. What it cannot be told any more fails, so that the
    seller sees it.
    """
    poll_seconds = settings.expiry_poll_ms / 1000
    found = [
        Job("announce_payment_provider", ANNOUNCE_SECONDS, payments.announce),
        Job("expire_payments", poll_seconds, payments.expire),
        Job("call_providers", poll_seconds, payments.work_off),
    ]
    if payments.providers:
        found.append(Job("reconcile_payments", RECONCILE_SECONDS, payments.reconcile_daily))
    return found


def named(host: str) -> str:
    """The host of a URL that leads here."""
    if host in {"0.0.0.0", "::", "127.0.0.1", "::1"}:  # noqa: S104
        return "localhost"
    return f"[{host}]" if ":" in host else host


def tune_garbage_collector() -> None:
    """Make garbage collection rare, and exclude the objects that exist now, because they live as long as the process.

    It can be rare, because requests leave few reference cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def beat(hub: Hub, interval_seconds: float) -> None:
    """Let every stream send a heartbeat every `interval_seconds`, until cancelled."""
    while True:
        await asyncio.sleep(interval_seconds)
        hub.beat()


@contextmanager
def closed_on_signal(components: Components) -> Iterator[None]:
    """Close the hub and end a rush at SIGTERM or SIGINT, before the server's own handler runs.

    That handler waits for open streams and for requests to end.
    """
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(components.hub.close)
        loop.call_soon_threadsafe(components.rushes.stop)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in handlers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
