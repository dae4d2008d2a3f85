"""The middleware that traces requests."""

import os
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastpair.observability.tracing import send_spans, tracer_provider
from lastpair.settings import Settings
from lastpair.web.middleware import UNROUTED, drop_id_of, route_of
from lastpair.web.url_paths import PROBE_PATHS, STREAM_PATHS

UNTRACED_PATHS = PROBE_PATHS | STREAM_PATHS
WHOLE_SCOPE = "lastpair.scope"


def tracing(settings: Settings) -> list[Middleware]:
    """The middleware that traces, which belongs around RequestContext; none unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

    Raises InvalidSettings.
    """
    if settings.otel_exporter_otlp_endpoint is None:
        return []
    return [Middleware(Tracing, tracer_provider(settings))]


class Tracing:
    """Makes a span for each HTTP request except streams and probes, and sends the last spans before the server stops.

    A span continues the trace of the request's traceparent. `trace_id` is left in the scope for the log.
    """

    def __init__(self, app: ASGIApp, provider: Any) -> None:
        # Use the stable names of the attributes. Without this the library writes the old ones.
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
                    await send_spans(self._provider)  # the process may end as soon as this message is sent
                await send(message)

            await self._app(scope, receive, send_after_spans)
        elif scope["type"] == "http" and scope["path"] not in UNTRACED_PATHS:
            # The query may hold a secret, so the library that records it gets an empty one.
            await self._traced({**scope, "query_string": b"", WHOLE_SCOPE: scope}, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _describe(self, seen: Scope, receive: Receive, send: Send) -> None:
        scope: Scope = seen[WHOLE_SCOPE]
        span = self._current_span()
        span.update_name(scope["method"])  # the library would use the path, which may have any value
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
