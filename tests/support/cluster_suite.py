"""Which tests of one database run on a cluster (`make test-cluster`), and why the others do not."""

SUITE = ("tests/http/", "tests/shop/", "tests/realtime/", "tests/clients/")
"""Tests whose ids begin so run on a cluster, but for those below."""

TOGETHER = (
    "tests/http/test_baskets.py",
    "tests/http/test_hot_path.py",
    "tests/realtime/test_channels.py",
    "tests/realtime/test_events.py",
    "tests/realtime/test_feed.py",
    "tests/realtime/test_positions.py",
    "tests/realtime/test_stream_recovery.py::test_replay",
    "tests/realtime/test_stream_recovery.py::test_a_log",
    "tests/realtime/test_stream_recovery.py::test_an_id",
    "tests/realtime/test_stream_recovery.py::test_the_header",
    "tests/realtime/test_stream_recovery.py::test_joining",
    "tests/realtime/test_streams.py",
    "tests/shop/test_basket_batches.py",
    "tests/shop/test_baskets.py",
    "tests/shop/test_payment_races.py",
    "tests/shop/test_property.py",
)
"""Files whose tests need their drops on one node. The other node is there, and new drops do not go to it."""

LEFT_OUT: dict[str, str] = {}
"""How the ids of tests begin that cannot run on a cluster, and the reason."""
