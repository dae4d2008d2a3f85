"""Names of users over HTTP: the same rule as in SQL, and DELETE /users/me."""

from time import process_time
from unicodedata import normalize
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.envelopes import as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import make_drop, name_of, purchase, reserve

UNSEEN = [
    "",
    " ",
    "\u00a0\u3000",
    "\u1680",
    "\u200b",
    "\u2060\ufeff",
    "\u3164",
    "\u2800",
    "\u00ad",
    "\u034f",
    "\U000e0041",
    "\ufe0f",
    "\u2065",
    "\ufff9\ufffb",
    "\U0001bca3",
    "\U0001d173",
]
FORBIDDEN = ["ann\u202eeel", "\u202aann\u202c", "\u2066ann\u2069", "ann\u2028lee", "ann\u0085", "a\x00b"]


@pytest.mark.parametrize("name", [*UNSEEN, *FORBIDDEN], ids=ascii)
async def test_names_that_are_refused(http: httpx.AsyncClient, owner: asyncpg.Pool, name: str) -> None:
    """400 that names the field, from the body and from the header; the database refuses the name as well."""
    assert_invalid(await http.post("/internal/users", json={"username": name}), "username")
    user_id = uuid4()
    headers = as_user(user_id) | {"X-User-Name": name.encode()}
    if name != " " and "\x00" not in name:
        assert_invalid(await http.get("/purchases/me", headers=headers), "X-User-Name")  # type: ignore[arg-type]
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute("insert into inventory.users (username) values ($1)", name)
    assert await name_of(owner, user_id) is None


async def test_a_name_that_is_too_long(http: httpx.AsyncClient) -> None:
    """It is refused before it is brought into normal form, because combining marks take long; the message counts characters."""
    long = "a" + "\u0301\u0316" * 15_000
    begin = process_time()
    normalize("NFKC", long)
    dear = process_time() - begin
    begin = process_time()
    for name in ("x" * 201, long):
        message = assert_invalid(await http.post("/internal/users", json={"username": name}), "username")
        assert message == "username: must have at most 200 characters"
    assert process_time() - begin < dear / 2


@pytest.mark.parametrize("change", [str.upper, lambda name: name.replace(" ", "\u00a0"), lambda name: f"\u200b{name}\ufeff "])
async def test_names_that_look_alike(http: httpx.AsyncClient, change: object) -> None:
    """Another case, another blank, and characters that cannot be seen do not make another name."""
    name = f"zoë {uuid4().hex}"
    assert_success(await http.post("/internal/users", json={"username": name}), "user", 201)
    again = await http.post("/internal/users", json={"username": change(name)})  # type: ignore[operator]
    assert_error(again, 409, "USERNAME_TAKEN")


@pytest.mark.parametrize("name", ["Zoe\u0308 ", "👩\u200d🚀 ", "x" * 150])
async def test_names_that_are_taken_as_they_are(http: httpx.AsyncClient, name: str) -> None:
    """A name is kept but for its normal form."""
    given = name + uuid4().hex
    made = assert_success(await http.post("/internal/users", json={"username": given}), "user", 201)
    assert made["username"] == given.replace("e\u0308", "ë")


async def test_a_user_is_forgotten(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str) -> None:
    """The name goes, the sale stays. One who was never here is made and forgotten, and so has no name here either."""
    drop = await make_drop(http, seller)
    await reserve(http, drop["id"], user)
    bought = await purchase(http, drop["id"], user)
    before = await name_of(owner, user)
    forgotten = assert_success(await http.delete("/users/me", headers=as_user(user)), "user")
    assert forgotten["id"] == user
    assert forgotten["username"].startswith("former-user-")
    assert before not in (await http.get("/drops")).text
    assert [row["id"] for row in assert_success(await http.get("/purchases/me", headers=as_user(user)), "purchases")] == [
        bought["id"]
    ]
    stranger = assert_success(await http.delete("/users/me", headers=as_user(uuid4())), "user")
    assert stranger["username"].startswith("former-user-")
    assert_error(await http.delete("/users/me"), 401, "AUTH_REQUIRED")
