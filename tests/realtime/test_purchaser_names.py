"""PURCHASER_NAMES: how everybody sees the names of purchasers, in the list, in a SNAPSHOT and in events."""

from uuid import uuid4

import pytest

from tests.support.database import Database
from tests.support.factories import make_drop, make_user, purchase, reserve
from tests.support.streams import fresh_database, open_stream, serving


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ("initials", ["A. L.", "B."]),
        pytest.param("full", ["Ann Lee", "b…"], marks=pytest.mark.slow),
        pytest.param("hidden", ["Somebody", "Somebody"], marks=pytest.mark.slow),
    ],
)
async def test_purchaser_names(database: Database, names: str, shown: list[str]) -> None:
    """A name is shown as the setting says, and an e-mail address is never shown whole."""
    async with fresh_database(database) as url, serving(url, PURCHASER_NAMES=names) as api:
        drop = await make_drop(api.http, await make_user(api.owner))
        stream = await open_stream("sse", api.url)
        try:
            heard, latest = [], None
            assert (await stream.receive()).type == "SNAPSHOT"
            for name in ("Ann Lee", "bob@example.com"):
                buyer = str(uuid4())
                await api.owner.execute("insert into inventory.users (id, username) values ($1, $2)", buyer, name)
                await reserve(api.http, drop["id"], buyer)
                await purchase(api.http, drop["id"], buyer)
                while (message := await stream.receive()).type != "ACTIVITY_UPDATED":
                    heard += [message.data["username"]] if message.type == "PURCHASE_COMPLETED" else []
                latest = message.data["latestPurchasers"]
        finally:
            await stream.close()
        assert heard == shown
        assert latest is not None
        assert [purchaser["username"] for purchaser in latest] == shown[::-1]
        [listed] = [row for row in (await api.http.get("/drops")).json()["data"]["drops"] if row["id"] == drop["id"]]
        assert listed["activity_feed"]["latest_purchasers"] == latest
