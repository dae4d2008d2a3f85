"""What the bench believes: its watchers notice an event that is lost, doubled or out of order, and its rows say what is met."""

import socket
import threading
from collections.abc import Sequence

import pytest

from bench.rows import Row, in_turn
from bench.watchers import TRANSPORTS, Watchers

OPENING = b"HTTP/1.1 200 OK\r\n\r\n3f\r\nretry: 1\nevent: POSITION\nid: 5\ndata: {}\n\n\r\n"
WATCHERS = 3
PIECE_BYTES = 7


def watch(ids: Sequence[int]) -> float:
    """Check that watchers of a stream with these events got 6, 7 and 8. The stream comes in small pieces, after a heartbeat."""
    stream = b": heartbeat\n" + b"".join(b'2f\r\nevent: STOCK_UPDATED\nid: %d\ndata: {"n":1}\n\n\r\n' % number for number in ids)

    def serve() -> None:
        clients = [listener.accept()[0] for _ in range(WATCHERS)]
        for client in clients:
            client.sendall(OPENING)
        for first in range(0, len(stream), PIECE_BYTES):
            for client in clients:
                client.sendall(stream[first : first + PIECE_BYTES])
        finished.wait()
        for client in clients:
            client.close()

    finished = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        try:
            with Watchers(TRANSPORTS["sse"], listener.getsockname()[1], "/", WATCHERS, 0) as watchers:
                return watchers.check(dict.fromkeys((6, 7, 8), 0))
        finally:
            finished.set()
            server.join()


def test_watchers_take_each_event_once_and_in_order() -> None:
    """Cut anywhere, every event is found; the latency is that of the clock, here since the epoch."""
    assert watch([6, 7, 8]) > 1e12


@pytest.mark.parametrize("ids", [[6, 8], [6, 7, 7, 8], [7, 6, 8]], ids=["lost", "doubled", "out of order"])
def test_watchers_refuse_other_events(ids: list[int]) -> None:
    """Each of these fails the run."""
    with pytest.raises(AssertionError, match="every event once and in order"):
        watch(ids)


def test_rows_say_what_is_met() -> None:
    """A lower bound, an upper bound, and a peer that is not there."""
    assert str(Row("a", 10, 20, 0.5)) == "| a | 10.00 ÷ 20.00 | 0.50 | at least 0.5 | yes |"
    assert str(Row("b", 300, 200, 1.4, is_upper_bound=True)) == "| b | 300 ÷ 200 | 1.50 | at most 1.4 | **no** |"
    assert str(Row("c", 3, None, 1)) == "| c | 3.00 | not measured | at least 1 | |"


def test_measures_go_in_turn() -> None:
    """Forwards and backwards; the first round only warms up."""
    order: list[str] = []
    found = in_turn({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, rounds=2)
    assert "".join(order) == "cba" + "abc" + "cba"
    assert found == {"a": [4, 9], "b": [5, 8], "c": [6, 7]}
