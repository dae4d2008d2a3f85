"""Which tests of one database run on a cluster (`make test-cluster`), and why the others do not."""

SUITE = ("tests/http/", "tests/shop/", "tests/realtime/", "tests/clients/")
"""Tests whose ids begin so run on a cluster, but for those below."""

TOGETHER = ("tests/http/test_baskets.py", "tests/http/test_hot_path.py", "tests/shop/test_property.py")
"""Files whose tests need their drops on one node. The other node is there, and new drops do not go to it."""

LEFT_OUT: dict[str, str] = {}
"""How the ids of tests begin that cannot run on a cluster, and the reason."""
