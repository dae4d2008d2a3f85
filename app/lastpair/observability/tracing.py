"""Traces, sent to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names.

The packages are the extra `otel` and are imported only if that is set. OpenTelemetry's own variables hold as well:
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_SCHEDULE_DELAY and the rest.
"""

import asyncio
from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any

from lastpair.settings import InvalidSettings, Settings

PACKAGES = ("opentelemetry.exporter.otlp.proto.http", "opentelemetry.instrumentation.asgi", "opentelemetry.sdk")
SEND_TIMEOUT_SECONDS = 1.5
"""How long the end of the process waits for spans to be sent."""

SERVICE_NAME = "lastpair"


def check_packages(settings: Settings) -> None:
    """Raises InvalidSettings if the settings ask for traces and the extra is not installed."""
    try:
        for package in PACKAGES if settings.otel_exporter_otlp_endpoint else ():
            import_module(package)
    except ImportError as error:
        reason = f"{error.name} is not installed; install the extra otel (pip install 'lastpair[otel]'), or unset it"
        raise InvalidSettings(f"OTEL_EXPORTER_OTLP_ENDPOINT: {reason}") from None


def tracer_provider(settings: Settings) -> Any:
    """The TracerProvider that sends spans to the endpoint of the settings. Raises InvalidSettings."""
    check_packages(settings)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create().merge(Resource({"service.name": SERVICE_NAME})).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{(settings.otel_exporter_otlp_endpoint or '').rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


async def send_spans(provider: Any) -> None:
    """Send the spans that are still waiting, for SEND_TIMEOUT_SECONDS at most."""
    loop, sent = asyncio.get_running_loop(), asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop ended before this
            loop.call_soon_threadsafe(sent.set)

    # The thread is a daemon, because a collector that does not answer would delay the end of the process for too long.
    Thread(target=shut_down, daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            await sent.wait()
