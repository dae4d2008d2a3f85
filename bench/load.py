"""Load over HTTP: wrk sends the requests of load.lua, each as soon as the one before it on its connection is answered."""

import json
import socket
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import psutil

from tests.support.servers import Service

SCRIPT = Path(__file__).with_name("load.lua")
SECONDS = 2
LONE_ROUNDS = 2000


@dataclass(frozen=True)
class Load:
    """What wrk measured, and the processor time of the process that answered."""

    requests: int
    seconds: float
    p50_ms: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time a request."""
        return self.cpu_seconds / self.requests * 1e6


def wrk(
    service: Service,
    clients: int,
    method: str,
    paths: list[str],
    expected: set[str],
    first_user: int = 0,
    seconds: int = SECONDS,
    bodies: Sequence[object] = (),
) -> Load:
    """Load a service; fails when an answer is not one of those expected, told by its status and, of a refusal, its code."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), service.url]
    begin = cpu_seconds(service)
    output = subprocess.run(
        [*command, "--", method, ",".join(paths), str(first_user), "\n".join(map(json.dumps, bodies))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = cpu_seconds(service) - begin
    result = json.loads(output.partition("RESULT ")[2])
    assert result["errors"] == 0, output
    answers = result["answers"]
    assert set(answers) <= expected, f"{method} {paths[0]}: {answers}, expected {expected}\n{service.log()}"
    return Load(sum(answers.values()), result["seconds"], result["p50_ms"], used)


def lone_p50_ms(services: Mapping[str, Service], path: str) -> dict[str, float]:
    """The median time of a POST to this path that is answered 201, by service.

    Each service gets one in each round, from a new user, and no other request is under way. Whatever else the machine does is so
    the same for all services.
    """
    with ExitStack() as stack:
        connections = {}
        for name, service in services.items():
            address = urlsplit(service.url)
            connections[name] = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=10))
            connections[name].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seconds: dict[str, list[float]] = {name: [] for name in services}
        users = count(1)
        for number in range(LONE_ROUNDS):
            for name in list(services)[:: 1 if number % 2 else -1]:
                user = f"00000000-0000-7000-8000-{next(users):012x}"
                begin = perf_counter()
                connections[name].sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-User-Id: {user}\r\n\r\n".encode())
                answer = connections[name].recv(65_536)  # head and body, because they are sent together
                seconds[name].append(perf_counter() - begin)
                assert answer.startswith(b"HTTP/1.1 201 "), answer
        return {name: statistics.median(each) * 1000 for name, each in seconds.items()}


def cpu_seconds(service: Service) -> float:
    """Processor time that the process of a service has used: of its first process, without its children."""
    times = psutil.Process(service.process.pid).cpu_times()
    return times.user + times.system


def cpu_seconds_of_server(pid: int) -> float:
    """Processor time that all processes of a PostgreSQL server have used, those included that have ended."""
    postmaster = psutil.Process(pid)
    ended = postmaster.cpu_times()
    seconds = ended.children_user + ended.children_system
    for process in (postmaster, *postmaster.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return float(seconds)
