"""Traces: which spans reach a collector, without secrets; and without a collector nothing of it is loaded."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import loads
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.database import Database
from tests.support.envelopes import JSON, as_user
from tests.support.production_settings import PRODUCTION
from tests.support.servers import ROOT, STOP_SECONDS, Service, free_port, started
from tests.support.streams import open_stream
from tests.support.waiting import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RESERVE = "POST /api/drops/{dropId}/reserve"


class Collector:
    """A collector that takes spans over OTLP/HTTP and keeps them."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = decompress(body)
                if self.path == "/v1/traces":
                    collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Span]:
        """The spans that have come."""
        resources = [each for request in self.requests for each in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    def of(self, request_id: str) -> Span:
        """The one span of a request, which comes a moment after its answer."""

        def found() -> list[Span]:
            return [span for span in self.spans if attributes(span).get("lastpair.request_id") == request_id]

        wait_for(found)
        [span] = found()
        return span


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that runs while the block does."""
    collector = Collector()
    thread = Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()
        thread.join()


def attributes(traced: Any) -> dict[str, Any]:
    """The attributes of a span or a resource, by name."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in traced.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector for the service."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def service(database: Database, collector: Collector) -> Iterator[Service]:
    """A service that sends its spans to the collector every 50 ms."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="3600000", LOG_LEVEL="info", **variables) as service:
        service.wait_until_ready()
        yield service
        service.stop()


@pytest.fixture(scope="module")
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        yield client


async def test_a_span(service: Service, collector: Collector, http: httpx.AsyncClient) -> None:
    """It is named by the path's template and has the user, the request and the outcome; the line in the log has its trace."""
    user, content = str(uuid4()), '{"name": "Air", "price": 1, "total_stock": 3, "starts_at": "2020-01-01T00:00:00+00:00"}'
    made = await http.post("/api/drops", content=content, headers=as_user(user) | JSON)
    drop_id = made.json()["data"]["drop"]["id"]
    for query, outcome, status in [("", "OK", 201), ("", "ALREADY_RESERVED", 409), ("?token=sesame", "VALIDATION_ERROR", 400)]:
        response = await http.post(f"/api/drops/{drop_id}/reserve{query}", headers=as_user(user))
        assert response.status_code == status
        span = collector.of(response.headers["x-request-id"])
        assert (span.name, span.kind) == (RESERVE, Span.SPAN_KIND_SERVER)
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9
        assert span.status.code == Status.STATUS_CODE_UNSET
        found = attributes(span)
        expected = {
            "http.request.method": "POST",
            "http.route": "/api/drops/{dropId}/reserve",
            "http.response.status_code": status,
            "url.path": f"/api/drops/{drop_id}/reserve",
            "enduser.id": user if status != 400 else None,  # an unknown parameter is refused before anybody asks who it is
            "lastpair.drop_id": drop_id,
            "lastpair.outcome": outcome,
        }
        assert {name: found.get(name) for name in expected} == expected
        trace_id = span.trace_id.hex()
        wait_for(lambda trace_id=trace_id: trace_id in service.log())
        [line] = [line for line in service.log().splitlines() if trace_id in line]
        assert response.headers["x-request-id"] in line
    assert "sesame" not in str(collector.spans)
    [resource] = {
        each.resource.SerializeToString(): each.resource for r in collector.requests for each in r.resource_spans
    }.values()
    assert attributes(resource)["service.name"] == "lastpair"


async def test_a_trace_goes_on(collector: Collector, http: httpx.AsyncClient) -> None:
    """A span continues the caller's trace. Without a valid traceparent it begins a new one."""
    response = await http.get("/api/drops", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    span = collector.of(response.headers["x-request-id"])
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    for given in [{}, {"traceparent": "00-x-y-01"}, {"traceparent": f"00-{'0' * 32}-{PARENT}-01"}]:
        response = await http.get("/api/drops", headers=given)
        span = collector.of(response.headers["x-request-id"])
        assert (span.trace_id.hex() != TRACE, span.parent_span_id) == (True, b"")
        assert len(span.trace_id) == 16


async def test_a_request_that_is_not_sampled(service: Service, collector: Collector, http: httpx.AsyncClient) -> None:
    """A request that the caller does not sample is answered, logged with its trace, and has no span."""
    response = await http.get("/api/drops", headers={"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"})
    assert response.status_code == 200
    collector.of((await http.get("/api/drops")).headers["x-request-id"])
    assert TRACE[::-1] not in {span.trace_id.hex() for span in collector.spans}
    assert f"trace {TRACE[::-1]}" in service.log()


async def test_names_stay_few(collector: Collector, http: httpx.AsyncClient) -> None:
    """A span's name contains nothing of an unknown path, and a request has one span, none for its messages."""
    before = len(collector.spans)
    for n in range(3):
        await http.get(f"/nothing/{n}")
    await http.put("/api/drops")
    await http.get(f"/api/drops/{uuid4()}")
    response = await http.post("/api/drops", content="{", headers=as_user(uuid4()) | JSON)
    last = collector.of(response.headers["x-request-id"])
    assert attributes(last)["lastpair.outcome"] == "VALIDATION_ERROR"
    names = [span.name for span in collector.spans[before:]]
    assert sorted(names) == ["GET", "GET", "GET", "GET /api/drops/{dropId}", "POST /api/drops", "PUT /api/drops"]


async def test_streams_and_probes_have_none(service: Service, collector: Collector, http: httpx.AsyncClient) -> None:
    """A stream's span would be as long as its client stays, and those of probes would be many and empty."""
    before = len(collector.spans)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await http.get(path)).status_code == 200
    for transport in ("sse", "ws"):
        stream = await open_stream(transport, service.url)
        await stream.receive()
        await stream.close()
    last = collector.of((await http.get("/api/drops")).headers["x-request-id"])
    assert collector.spans[before:] == [last]


def test_the_span_of_a_fault(database: Database, collector: Collector) -> None:
    """The span of a 5xx answer has the status error; OTEL_SERVICE_NAME names the service."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_SERVICE_NAME": "shop"}
    url = database.url + ("&" if "?" in database.url else "?") + "user=nobody"
    command = ("uvicorn", "--factory", "lastpair.web.application:create_app", "--port", "PORT", "--log-level", "critical")
    with started(*command, DATABASE_URL=url.replace("lastpair@", ""), **variables) as service:
        wait_for(lambda: service.answers("/healthz", 200))
        span = collector.of(httpx.get(f"{service.url}/api/drops").headers["x-request-id"])
        assert attributes(span)["http.response.status_code"] == 503
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert "shop" in {attributes(each.resource)["service.name"] for r in collector.requests for each in r.resource_spans}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_spans_are_sent_before_the_end(database: Database, workers: str) -> None:
    """At the end every process sends the spans that waited for the next interval."""
    with collecting() as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
            "WEB_CONCURRENCY": workers,
        }
        with started(DATABASE_URL=database.url, EXPIRY_POLL_MS="3600000", **variables) as service:
            service.wait_until_ready()
            ids = [httpx.get(f"{service.url}/api/drops").headers["x-request-id"] for _ in range(10)]
            assert collector.spans == []
            assert service.stop() < STOP_SECONDS
        assert sorted(attributes(span)["lastpair.request_id"] for span in collector.spans) == sorted(ids)


def test_a_collector_that_is_away(database: Database) -> None:
    """Requests are answered and the process ends in time, although the collector does not answer."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    with started(DATABASE_URL=database.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="50") as service:
        service.wait_until_ready()
        for _ in range(3):
            assert httpx.get(f"{service.url}/api/drops").status_code == 200
        wait_for(lambda: "opentelemetry" in service.log() or "span" in service.log())
        assert service.stop() < STOP_SECONDS


def test_without_a_collector_nothing_is_loaded(database: Database) -> None:
    """Without the variable the packages are not loaded and there is no middleware."""
    code = (
        "import sys, lastpair.cli; from lastpair.web.application import create_app; app = create_app();"
        "print([name for name in sys.modules if name.startswith('opentelemetry')], [m.cls.__name__ for m in app.user_middleware])"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment = inherited | {"DATABASE_URL": database.url, "PYTHONPATH": str(ROOT / "app")}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("[] [")
    assert "RequestContext" in result.stdout
    assert "Tracing" not in result.stdout


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_the_packages(tmp_path: Path, database: Database, workers: str) -> None:
    """The start stops with a line that names the variable and says what to install."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()
    path = f"{tmp_path}{os.pathsep}{ROOT / 'app'}"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "WEB_CONCURRENCY": workers, "PYTHONPATH": path}
    with started(DATABASE_URL=database.url, **variables) as service:
        assert service.process.wait(timeout=PATIENCE_SECONDS) == 1
        assert service.log().count("\n") == 1
        assert service.log().startswith("OTEL_EXPORTER_OTLP_ENDPOINT: ")
        assert "install the extra otel" in service.log()


def test_the_log_names_the_trace_in_production(database: Database) -> None:
    """In production the trace is a field of the line."""
    with collecting() as collector:
        variables = PRODUCTION | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "LOG_LEVEL": "info"}
        with started(DATABASE_URL=database.url, **variables) as service:
            service.wait_until_ready()
            httpx.get(f"{service.url}/api/drops", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
            wait_for(lambda: TRACE in service.log())
            [line] = [line for line in service.log().splitlines() if TRACE in line]
            assert loads(line)["traceId"] == TRACE
            service.stop()
