"""The two clients. What they ask for and how is in the other modules; here is only the input and output."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import aclosing, closing
from threading import Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import httpx

from lastpair_client.events import SILENCE_SECONDS, STREAM_RETRY_SECONDS, Change, Event, Position, State, is_stream
from lastpair_client.methods import Methods
from lastpair_client.requests import LOST, Answer, Id, ListRequest, Request, Settings, Steps, exchange
from lastpair_client.rows import ListedDrop

T = TypeVar("T")
Http = TypeVar("Http", httpx.Client, httpx.AsyncClient)

STREAM_TIMEOUT = httpx.Timeout(20, read=SILENCE_SECONDS)
REREAD_TIMEOUT = httpx.Timeout(5)
"""While drops are read again, no event is told."""


class AnyClient(Methods, Generic[Http]):
    """What both clients know of the service.

    `token` is the bearer token, or a function that returns it (AUTH_MODE=jwt). `user_id`, and `user_name` of a new user, are for
    AUTH_MODE=header. A request that fails for a passing reason is repeated up to `retries` times if that is safe. The pause
    begins with `retry_seconds` and doubles each time, up to 4 s; what the server asks for is added. ValueError or TypeError means
    that nothing can be sent to this URL or with this identity.
    """

    _new_http: Callable[[], Http]

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Callable[[], str] | None = None,
        user_id: Id | None = None,
        user_name: str | None = None,
        timeout_seconds: float = 20,
        retries: int = 5,
        retry_seconds: float = 0.3,
        http: Http | None = None,
    ) -> None:
        self._settings = Settings(base_url.rstrip("/"), token, user_id, user_name, timeout_seconds, retries, retry_seconds)
        self._http: Http = http or self._new_http()


class Client(AnyClient[httpx.Client]):
    """A client of the service; see AnyClient for its settings. It may be used by several threads."""

    _new_http = httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, request: Request[Any]) -> Answer:
        """Send any request; returns all of the answer."""
        return self._run(exchange(self._settings, self._http, request))

    def send(self, request: Request[T]) -> T:
        """Send a request; returns what its answer has under its name."""
        row: T = self.ask(request).data[request.name]
        return row

    def pages_of(self, request: ListRequest[T]) -> "Pages[T]":
        """The list that a request asks for."""
        return Pages(self, request)

    def events(
        self, drop_ids: Iterable[Id] = (), *, last_event_id: str | None = None, retry_seconds: float = STREAM_RETRY_SECONDS
    ) -> Generator[Event, None, None]:
        """Each event of these drops, or of all, for ever: over lost connections, and after `last_event_id` if it is given.

        Without that, a SNAPSHOT comes first. With the client's identity come the events that are for this user alone, too. Raises
        LastpairError only if the request itself is wrong, and ValueError or TypeError if a function returns what is no token.
        """
        position = Position(drop_ids, last_event_id, retry_seconds, gets_new_tokens=callable(self._settings.token))
        while True:
            try:
                query, url = position.connect(), f"{self._settings.base_url}/api/events"
                headers = self._settings.headers()
                with self._http.stream("GET", url, params=query, headers=headers, timeout=STREAM_TIMEOUT) as response:
                    if is_stream(response):
                        for received in response.iter_bytes():
                            yield from position.feed(received)
                    else:
                        response.read()
                        position.check(response)
            except LOST:
                pass  # the connection was lost
            time.sleep(position.pause())

    def live(self, drop_ids: Iterable[Id] = (), *, retry_seconds: float = STREAM_RETRY_SECONDS) -> "Live":
        """The state of these drops, or of all that are scheduled or live, and each change of it."""
        return Live(self, list(drop_ids), retry_seconds)

    def snapshot(self, drop_ids: Iterable[Id] = ()) -> list[ListedDrop]:
        """These drops as they are now, in any status but draft; without ids those that are scheduled or live."""
        with closing(self.events(drop_ids)) as events:
            rows: list[ListedDrop] = next(event.data["drops"] for event in events if event.type == "SNAPSHOT")
        return rows

    def snapshot_once(self, drop_ids: Iterable[Id]) -> list[ListedDrop] | None:
        """The same, of these drops; None if the first try fails."""
        position, url = Position(drop_ids, None, STREAM_RETRY_SECONDS), f"{self._settings.base_url}/api/events"
        try:
            with self._http.stream("GET", url, params=position.connect(), timeout=REREAD_TIMEOUT) as response:
                if is_stream(response):
                    for received in response.iter_bytes():
                        for event in position.feed(received):
                            return cast(list[ListedDrop], event.data["drops"])
        except LOST:
            pass
        return None

    def _run(self, steps: Steps) -> Answer:
        reply: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            reply = None
            if isinstance(step, httpx.Request):
                try:
                    reply = self._http.send(step)
                except LOST as error:
                    reply = error
            else:
                time.sleep(step)


class AsyncClient(AnyClient[httpx.AsyncClient]):
    """The same for asyncio."""

    _new_http = httpx.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, request: Request[Any]) -> Answer:
        """Send any request; returns all of the answer."""
        return await self._run(exchange(self._settings, self._http, request))

    async def send(self, request: Request[T]) -> T:
        """Send a request; returns what its answer has under its name."""
        row: T = (await self.ask(request)).data[request.name]
        return row

    def pages_of(self, request: ListRequest[T]) -> "AsyncPages[T]":
        """The list that a request asks for."""
        return AsyncPages(self, request)

    async def events(
        self, drop_ids: Iterable[Id] = (), *, last_event_id: str | None = None, retry_seconds: float = STREAM_RETRY_SECONDS
    ) -> AsyncGenerator[Event, None]:
        """Each event of these drops, or of all, for ever; see Client.events."""
        position = Position(drop_ids, last_event_id, retry_seconds, gets_new_tokens=callable(self._settings.token))
        while True:
            try:
                query, url = position.connect(), f"{self._settings.base_url}/api/events"
                headers = self._settings.headers()
                async with self._http.stream("GET", url, params=query, headers=headers, timeout=STREAM_TIMEOUT) as response:
                    if is_stream(response):
                        async for received in response.aiter_bytes():
                            for event in position.feed(received):
                                yield event
                    else:
                        await response.aread()
                        position.check(response)
            except LOST:
                pass  # the connection was lost
            await asyncio.sleep(position.pause())

    def live(self, drop_ids: Iterable[Id] = (), *, retry_seconds: float = STREAM_RETRY_SECONDS) -> "AsyncLive":
        """The state of these drops, or of all that are scheduled or live, and each change of it."""
        return AsyncLive(self, list(drop_ids), retry_seconds)

    async def snapshot(self, drop_ids: Iterable[Id] = ()) -> list[ListedDrop]:
        """These drops as they are now, in any status but draft; without ids those that are scheduled or live."""
        async with aclosing(self.events(drop_ids)) as events:
            rows: list[ListedDrop] = await anext(event.data["drops"] async for event in events if event.type == "SNAPSHOT")
        return rows

    async def snapshot_once(self, drop_ids: Iterable[Id]) -> list[ListedDrop] | None:
        """The same, of these drops; None if the first try fails."""
        position, url = Position(drop_ids, None, STREAM_RETRY_SECONDS), f"{self._settings.base_url}/api/events"
        try:
            async with self._http.stream("GET", url, params=position.connect(), timeout=REREAD_TIMEOUT) as response:
                if is_stream(response):
                    async for received in response.aiter_bytes():
                        for event in position.feed(received):
                            return cast(list[ListedDrop], event.data["drops"])
        except LOST:
            pass
        return None

    async def _run(self, steps: Steps) -> Answer:
        reply: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                answer: Answer = end.value
                return answer
            reply = None
            if isinstance(step, httpx.Request):
                try:
                    reply = await self._http.send(step)
                except LOST as error:
                    reply = error
            else:
                await asyncio.sleep(step)


def _all_of(incomplete: list[str], meta: dict[str, Any]) -> list[str]:
    # The nodes that were missing before, and those that this page lacks.
    return list(dict.fromkeys([*incomplete, *meta.get("incomplete", [])]))


class Pages(Generic[T]):
    """A list that is read page by page, as far as it is needed."""

    def __init__(self, client: Client, request: ListRequest[T]) -> None:
        self._client = client
        self._request = request
        self.incomplete: list[str] = []
        """The nodes of the service that could not be reached for a page read so far, whose rows may be missing."""

    def pages(self) -> Iterator[list[T]]:
        """The list, a page at a time."""
        self.incomplete = []
        cursor = None
        while True:
            answer = self._client.ask(self._request.with_cursor(cursor))
            self.incomplete = _all_of(self.incomplete, answer.meta)
            yield answer.data[self._request.name]
            if (cursor := answer.meta.get("nextCursor")) is None:
                return

    def __iter__(self) -> Iterator[T]:
        for rows in self.pages():
            yield from rows


class AsyncPages(Generic[T]):
    """A list that is read page by page, as far as it is needed."""

    def __init__(self, client: AsyncClient, request: ListRequest[T]) -> None:
        self._client = client
        self._request = request
        self.incomplete: list[str] = []
        """The nodes of the service that could not be reached for a page read so far, whose rows may be missing."""

    async def pages(self) -> AsyncIterator[list[T]]:
        """The list, a page at a time."""
        self.incomplete = []
        cursor = None
        while True:
            answer = await self._client.ask(self._request.with_cursor(cursor))
            self.incomplete = _all_of(self.incomplete, answer.meta)
            yield answer.data[self._request.name]
            if (cursor := answer.meta.get("nextCursor")) is None:
                return

    async def __aiter__(self) -> AsyncIterator[T]:
        async for rows in self.pages():
            for row in rows:
                yield row


class Live(State):
    """The drops as they are now, in `drops`; iterate over it to let them change. Leave the loop to end the stream.

    After a refund the units held are read again, once a second at most, so they may change while the loop waits for an event.
    """

    def __init__(self, client: Client, drop_ids: list[Id], retry_seconds: float) -> None:
        super().__init__()
        self._client = client
        self._drop_ids = drop_ids
        self._retry_seconds = retry_seconds

    def __iter__(self) -> Iterator[Change]:
        events = self._client.events(self._drop_ids, retry_seconds=self._retry_seconds)
        while True:
            event = next(events) if self.seconds_to_reread() is None else self._reread_until(_in_thread(lambda: next(events)))
            change = self.apply(event)
            if self.seconds_to_reread() == 0:
                self._reread()
                change = Change(self.drops.get(event.drop_id or "", change.drop), event)
            yield change

    def _reread_until(self, event: Future[Event]) -> Event:
        # httpx ends a stream whose read took too long. So a thread reads on, and this one waits no longer than it may.
        while not event.done():
            wait([event], self.seconds_to_reread())
            if not event.done():
                self._reread()
        return event.result()

    def _reread(self) -> None:
        self.correct(self._client.snapshot_once(self.to_reread()))


def _in_thread(call: Callable[[], T]) -> Future[T]:
    # No executor, because a program that ends would wait for its thread.
    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    future: Future[T] = Future()
    Thread(target=run, daemon=True).start()
    return future


class AsyncLive(State):
    """The same for asyncio."""

    def __init__(self, client: AsyncClient, drop_ids: list[Id], retry_seconds: float) -> None:
        super().__init__()
        self._client = client
        self._drop_ids = drop_ids
        self._retry_seconds = retry_seconds

    async def __aiter__(self) -> AsyncIterator[Change]:
        async with aclosing(self._client.events(self._drop_ids, retry_seconds=self._retry_seconds)) as events:
            while True:
                event = await (anext(events) if self.seconds_to_reread() is None else self._reread_until(events))
                change = self.apply(event)
                if self.seconds_to_reread() == 0:
                    await self._reread()
                    change = Change(self.drops.get(event.drop_id or "", change.drop), event)
                yield change

    async def _reread_until(self, events: AsyncGenerator[Event, None]) -> Event:
        event = asyncio.ensure_future(anext(events))
        try:
            while not event.done():
                await asyncio.wait([event], timeout=self.seconds_to_reread())
                if not event.done():
                    await self._reread()
            return event.result()
        finally:
            event.cancel()
            await asyncio.wait([event])

    async def _reread(self) -> None:
        self.correct(await self._client.snapshot_once(self.to_reread()))
