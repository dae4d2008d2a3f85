"""The migration of usernames takes rows over that its rules would refuse, and can be undone."""

import re
from unicodedata import is_normalized

import asyncpg

from lastpair.database.migrate import migrate
from tests.support.servers import ROOT

MIGRATIONS = ROOT / "db" / "migrations"
MIGRATION = MIGRATIONS / "20261128200030_retries_and_visibility.sql"
INVISIBLE = MIGRATIONS / "20261129150000_invisible_characters.sql"
OLD_NAMES = [
    *[
        "Ann",
        "ANN",
        "ann",
        "\uff41\uff4e\uff4e",
        "a b",
        "a\u00a0b",
        "a  b",
        "Zoe\u0308",
        "zoë",
        "\u200b",
        "\u3164",
        "evil\u202eeman",
        "evileman",
    ],
    "\u0958" * 200,  # longer in normal form C
]


async def test_old_names(migrated_url: str) -> None:
    """Of names that look alike the oldest stays, the others get a suffix; names that cannot be seen become a default name."""
    up, down = MIGRATION.read_text().split("-- migrate:down")
    connection = await asyncpg.connect(migrated_url)
    try:
        async with connection.transaction():
            await connection.execute(down)
        rows = [(name, n) for n, name in enumerate(OLD_NAMES)]
        insert = "insert into inventory.users (username, created_at) values ($1, '2020-01-01'::timestamptz + $2 * interval '1 s')"
        await connection.executemany(insert, rows)
        async with connection.transaction():
            await connection.execute(up)
        names = [row["username"] for row in await connection.fetch("select username from inventory.users order by created_at")]
    finally:
        await connection.close()
    await migrate(migrated_url)
    assert names[0] == "Ann"
    assert [name[:4] for name in names[1:4]] == ["ANN-", "ann-", "\uff41\uff4e\uff4e-"]
    assert (names[4], names[5][:4], names[6][:5]) == ("a b", "a\u00a0b-", "a  b-")
    assert (names[7], names[8][:4]) == ("Zoë", "zoë-")
    assert {name[:5] for name in names[9:11]} == {"user-"}
    assert (names[11], names[12][:9]) == ("evileman", "evileman-")
    assert all(is_normalized("NFC", name) and len(name) <= 200 for name in names)


async def test_invisible_characters(migrated_url: str) -> None:
    """A name with a character that cannot be seen, and counted before, gets one that is free; others stay."""
    up, down = INVISIBLE.read_text().split("-- migrate:down")
    connection = await asyncpg.connect(migrated_url)
    try:
        async with connection.transaction():
            await connection.execute(down)
        old_names = ["Ann", "Ann\u2065", "e\ufff9\u0301", "\U0001d173", "Zoë"]
        await connection.executemany("insert into inventory.users (username) values ($1)", [(name,) for name in old_names])
        async with connection.transaction():
            await connection.execute(up)
        names = [row["username"] for row in await connection.fetch("select username from inventory.users order by username")]
    finally:
        await connection.close()
    assert [re.sub("-[0-9a-f]{8}$", "-…", name) for name in names] == ["-…", "Ann", "Ann-…", "Zoë", "é-…"]
