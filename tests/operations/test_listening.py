"""Where the service listens: HOST, and ADMIN_PORT for the probes."""

import socket
from json import loads
from urllib.parse import urlsplit

import pytest

from lastpair.server import bound, is_loopback, listen
from lastpair.settings import InvalidSettings, Settings
from tests.support.database import Database
from tests.support.raw_http import GET_HEALTHZ, connected, read_answer
from tests.support.servers import STOP_SECONDS, Service, free_port, started
from tests.support.waiting import wait_for

PROBES = ("/healthz", "/readyz", "/metrics")
QUIET = {"EXPIRY_POLL_MS": "3600000"}


def addresses(**settings: object) -> list[tuple[str, int]]:
    """Where the service listens with these settings."""
    listeners = listen(Settings.model_construct(**{"port": 0} | settings))
    try:
        return [listener.getsockname()[:2] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def get(url: str, path: str) -> tuple[int, bytes]:
    """The status and the body of a GET."""
    with connected(url) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        status, _, body = read_answer(connection)
    return status, body


has_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({}, ["127.0.0.1"]),
        ({"app_env": "production"}, ["0.0.0.0"]),  # noqa: S104
        ({"host": "0.0.0.0"}, ["0.0.0.0"]),  # noqa: S104
        ({"host": "127.0.0.2"}, ["127.0.0.2"]),
        ({"host": "localhost"}, ["127.0.0.1"]),
        pytest.param({"host": "::1"}, ["::1"], marks=has_ipv6),
        pytest.param({"host": "::"}, ["::", "0.0.0.0"], marks=has_ipv6),  # noqa: S104
    ],
)
def test_where_it_listens(settings: dict[str, object], hosts: list[str]) -> None:
    """On HOST, else on this machine only in development; `::` is both families, on one port."""
    found = addresses(**settings)
    assert [host for host, _ in found] == hosts
    assert len({port for _, port in found}) == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "2001:db8::1"])
def test_a_host_that_is_not_this_machine(host: str) -> None:
    """One line names HOST."""
    with pytest.raises(InvalidSettings, match=rf"^HOST: {host} cannot be listened on \(.+\); [^\n]+$"):
        addresses(host=host)


def test_an_admin_port_that_is_taken() -> None:
    """One line names ADMIN_PORT, and the API's port is free again."""
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        with pytest.raises(InvalidSettings, match=rf"^ADMIN_PORT: {used} cannot be used \(address already in use\); "):
            addresses(port=port, admin_port=used)
    with bound("127.0.0.1", port) as listener:
        assert is_loopback(listener)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_probes_on_a_port_of_their_own(database: Database, workers: str) -> None:
    """With ADMIN_PORT the probes are there and nothing else is, whatever the Host; the API's port has all but the probes."""
    admin_port = free_port()
    variables = QUIET | {"ADMIN_PORT": str(admin_port), "WEB_CONCURRENCY": workers, "ALLOWED_HOSTS": ""}
    with started(DATABASE_URL=database.url, **variables) as service:
        admin = Service(service.process, f"http://127.0.0.1:{admin_port}", service.log_file)
        admin.wait_until_ready()
        for _ in range(4):  # several connections, which different processes may accept
            for path in PROBES:
                wait_for(lambda path=path: get(admin.url, path)[0] == 200)  # each process becomes ready by itself
                status, body = get(service.url, path)
                assert (status, loads(body)["error"]["code"]) == (404, "NOT_FOUND")
                assert "Did you mean" not in loads(get(service.url, f"{path}/")[1])["error"]["message"]
            for path in ("/api/drops", "/", "/docs", "/api/openapi.json"):
                assert get(service.url, path)[0] == 200
                assert get(admin.url, path)[0] == 404
        assert b"\nlastpair_http_requests_total{" in get(admin.url, "/metrics")[1]
        assert not set(PROBES) & set(loads(get(service.url, "/api/openapi.json")[1])["paths"])
        with connected(admin.url) as connection:  # probes name addresses
            connection.sendall(GET_HEALTHZ.replace(b"Host: x", b"Host: 10.1.2.3:9000"))
            assert read_answer(connection)[0] == 200
        assert service.stop() < STOP_SECONDS


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.2", False)])  # noqa: S104
def test_a_development_server_that_others_reach(database: Database, host: str, warns: bool) -> None:
    """One line warns of a development server that other machines reach, because they may name any user there."""
    with started(DATABASE_URL=database.url, HOST=host, **QUIET) as service:
        url = service.url.replace("127.0.0.1", "127.0.0.2") if host == "127.0.0.2" else service.url
        Service(service.process, url, service.log_file).wait_until_ready()
        lines = [line for line in service.log().splitlines() if "warning" in line]
        assert [("HOST: 0.0.0.0 lets other machines in" in line) for line in lines] == [True] * warns
        assert urlsplit(url).hostname == (host if host == "127.0.0.2" else "127.0.0.1")
