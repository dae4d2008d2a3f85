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
)
"""The files: the contract, the property test, and what streams promise."""

TOGETHER = (
    "tests/http/test_baskets.py",
    "tests/http/test_hot_path.py",
    "tests/http/test_variants.py::test_streams",
    "tests/shop/test_property.py",
    "tests/realtime/test_feed.py",
    "tests/realtime/test_positions.py",
    "tests/realtime/test_stream_recovery.py::test_replay",
    "tests/realtime/test_stream_recovery.py::test_a_log",
    "tests/realtime/test_stream_recovery.py::test_an_id",
    "tests/realtime/test_stream_recovery.py::test_the_header",
    "tests/realtime/test_stream_recovery.py::test_joining",
    "tests/realtime/test_streams.py",
)
"""Tests of baskets, which are on one node, and tests that reckon with the ids of one log. Their drops are all made on the first
node; the second one is there, and drained. The other tests have drops on both nodes."""

LEFT_OUT = {
    "tests/http/test_hot_path.py::test_requests_that_fail[overloaded]": "it fills the only batcher; each node has one",
    "tests/http/test_seller.py::test_the_history_of_a_drop": "a node knows the role of a router, not who logged in there",
    "tests/realtime/test_positions.py::test_a_quiet_drop": "it reaches for the only log of the hub; each node has one",
    "tests/realtime/test_stream_recovery.py::test_a_listener_away": "it ends the only listener; each node has one",
    "tests/shop/test_races.py::test_mixed_storm": "it changes rows through postgres_fdw, which does not wait for locks",
}
"""How the ids of tests begin that cannot run on a cluster, and the reason."""
