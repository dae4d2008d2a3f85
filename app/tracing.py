"""Traces for an OpenTelemetry collector: a span for each request, where OTEL_EXPORTER_OTLP_ENDPOINT says where to send it.

The packages are the extra `otel`, imported only then. OpenTelemetry's own variables hold, too: OTEL_SERVICE_NAME,
OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_SCHEDULE_DELAY and the rest.
"""

import asyncio
import os
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.context import QUIET_ROUTES, STREAM_ROUTES, UNROUTED, drop_id_of, route_of
from app.settings import InvalidSettings, Settings

PACKAGES = ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.instrumentation.asgi", "opentelemetry.sdk")
UNTRACED_PATHS = QUIET_ROUTES | STREAM_ROUTES
"""Those are templates without parameters, and so the paths themselves."""

SEND_SECONDS = 1.5
"""How long the end of the process waits for spans to be sent."""

SERVICE_NAME = "lastpair"
WHOLE_SCOPE = "lastpair.scope"


def check_packages(settings: Settings) -> None:
    """Raises InvalidSettings when traces are wanted and what makes them is not installed."""
    try:
        for package in PACKAGES if settings.otel_exporter_otlp_endpoint else ():
            import_module(package)
    except ImportError as error:
        reason = f"{error.name} is not installed; install the extra otel (README.md), or unset the variable"
        raise InvalidSettings(f"OTEL_EXPORTER_OTLP_ENDPOINT: {reason}") from None


def tracing(settings: Settings) -> list[Middleware]:
    """The middleware that traces, which belongs around RequestContext; none unless asked for. Raises InvalidSettings."""
    if settings.otel_exporter_otlp_endpoint is None:
        return []
    check_packages(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create().merge(Resource({"service.name": SERVICE_NAME})).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return [Middleware(Tracing, provider)]


class Tracing:
    """A span for each HTTP request but streams and probes; spans that are not sent yet are when the server stops.

    It goes on with the trace of the caller's traceparent. `trace_id` is left in the scope for the log.
    """

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        # The attributes' names that are stable by now; without it the library writes those of before.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.trace import get_current_span

        self._app = app
        self._provider = provider
        self._current_span = get_current_span
        self._traced = OpenTelemetryMiddleware(self._describe, tracer_provider=provider, exclude_spans=["receive", "send"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":

            async def send_after_spans(message: Message) -> None:
                if message["type"].startswith("lifespan.shutdown."):
                    await self._send_spans()  # the process may end as soon as it has said so
                await send(message)

            await self._app(scope, receive, send_after_spans)
        elif scope["type"] == "http" and scope["path"] not in UNTRACED_PATHS:
            # The query may hold anything, so it is not shown to what writes it down.
            await self._traced({**scope, "query_string": b"", WHOLE_SCOPE: scope}, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _send_spans(self) -> None:
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(sent.set)

        # A daemon, for with a collector that is away it takes longer than anybody would wait.
        Thread(target=shut_down, daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await sent.wait()

    async def _describe(self, seen: Scope, receive: Receive, send: Send) -> None:
        scope: Scope = seen[WHOLE_SCOPE]
        span = self._current_span()
        span.update_name(scope["method"])  # whatever becomes of it, not the path
        scope["trace_id"] = format(span.get_span_context().trace_id, "032x")

        async def send_described(message: Message) -> None:
            if message["type"] == "http.response.start" and span.is_recording():
                span.set_attributes(self._attributes(scope))
                if (route := route_of(scope)) != UNROUTED:
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
            await send(message)

        await self._app(scope, receive, send_described)

    def _attributes(self, scope: Scope) -> dict[str, str]:
        found = {"enduser.id": scope.get("user_id"), "lastpair.drop_id": drop_id_of(scope)}
        known = {"lastpair.request_id": scope["request_id"], "lastpair.outcome": scope.get("outcome", "OK")}
        return known | {name: value for name, value in found.items() if value is not None}
