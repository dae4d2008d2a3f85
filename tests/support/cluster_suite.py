"""Which tests of one database run on a cluster, as they are (`make test-cluster`), and why others do not."""

HTTP = (
    "answers",
    "bad_input",
    "baskets",
    "conditions",
    "contract",
    "hot_path",
    "lists",
    "quantities",
    "query",
    "retries",
    "sale",
    "schemathesis",
    "seller",
    "terms",
    "usernames",
    "variants",
)
SUITE = (
    *(f"tests/http/test_{name}.py" for name in HTTP),
    "tests/shop/test_property.py",
    "tests/shop/test_races.py",
    "tests/realtime/test_stream_recovery.py",
    "tests/realtime/test_streams.py",
    "tests/realtime/test_positions.py",
    "tests/realtime/test_feed.py",
    "tests/realtime/test_channels.py",
)
"""The files: the contract, the property test, and what streams promise.

Tests of the log itself, as tests/realtime/test_events.py, are of one node: they hold transactions open, listen in the database
and read one log, and a router has none of these.
"""

TOGETHER = (
    "tests/http/test_baskets.py",
    "tests/http/test_hot_path.py",
    "tests/http/test_retries.py::test_what_is_done_once",
    "tests/http/test_variants.py::test_streams",
    "tests/shop/test_property.py",
    "tests/realtime/test_feed.py",
    "tests/realtime/test_channels.py",
    "tests/realtime/test_positions.py",
    "tests/realtime/test_stream_recovery.py::test_replay",
    "tests/realtime/test_stream_recovery.py::test_a_log",
    "tests/realtime/test_stream_recovery.py::test_an_id",
    "tests/realtime/test_stream_recovery.py::test_the_header",
    "tests/realtime/test_stream_recovery.py::test_joining",
    "tests/realtime/test_streams.py",
)
"""Tests of baskets, which are on one node, of a key that comes again with another drop, which one node remembers, and tests that
reckon with the ids of one log. Their drops are all made on the first node; the second one is there, and drained. The other tests
have drops on both nodes."""

OWN_SERVER = "it breaks a server of its own, which is one database; tests/cluster breaks nodes and routers"
LEFT_OUT = {
    "tests/http/test_hot_path.py::test_requests_that_fail[overloaded]": "it fills the queue of the only batcher",
    "tests/http/test_seller.py::test_the_history_of_a_drop": "a node knows the role that a router acts as, not the login there",
    "tests/realtime/test_channels.py::test_a_notification": "no notification passes a router",
    "tests/realtime/test_channels.py::test_what_was_pruned": "it reckons with the end of the only log",
    "tests/realtime/test_positions.py::test_a_quiet_drop": "it reaches for the only log in the memory of the hub",
    "tests/realtime/test_stream_recovery.py::test_a_listener_away": "it ends the only listener",
    "tests/realtime/test_stream_recovery.py::test_a_listener_that": OWN_SERVER,
    "tests/realtime/test_stream_recovery.py::test_a_database": OWN_SERVER,
    "tests/realtime/test_streams.py::test_every_event": "two calls in one statement are two transactions on a node",
    "tests/shop/test_races.py::test_mixed_storm": "it changes rows through postgres_fdw, which does not wait for locks but fails",
}
"""How the ids of tests begin that cannot run on a cluster, and the reason."""
