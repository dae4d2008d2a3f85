"""AUTH_MODE=jwt: a good token is remembered, as long as it is good."""

import time

import jwt
import pytest

from lastpair.errors import Refusal
from lastpair.token_keys import Key, secret_key
from lastpair.web import tokens
from lastpair.web.tokens import LEEWAY_SECONDS, MAX_VERIFIED_LENGTH, BearerToken
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, claims, token


class Keys:
    """One key, which a test may replace."""

    def __init__(self) -> None:
        self.key: Key | None = secret_key(SECRET)

    async def find(self, _: str) -> Key | None:
        """The key."""
        return self.key


class Identity:
    """Reads tokens, and counts those that it verifies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys, self.verified = Keys(), 0
        self._bearer = BearerToken(self.keys, audience=AUDIENCE, issuer=ISSUER)
        decode = jwt.decode_complete

        def counted(*arguments: object, **options: object) -> object:
            self.verified += 1
            return decode(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(jwt, "decode_complete", counted)

    async def user_of(self, given: str) -> str | None:
        """The user of a token; None if it is refused."""
        try:
            return await self._bearer.user_id({"type": "http", "headers": [(b"authorization", f"Bearer {given}".encode())]})
        except Refusal:
            return None


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Identity:
    """One that has verified nothing yet."""
    return Identity(monkeypatch)


async def test_a_good_token_is_verified_once(identity: Identity) -> None:
    """It says the same each time. Another one, of the same user too, is verified by itself."""
    one, other = claims(), claims()
    first, second = token(SECRET, **one), token(SECRET, **other)
    assert [await identity.user_of(given) for given in (first, second, first)] == [one["sub"], other["sub"], one["sub"]]
    assert identity.verified == 2
    assert await identity.user_of(token(SECRET, **one, name="Ann")) == one["sub"]
    assert identity.verified == 3


async def test_a_bad_token_is_not_remembered(identity: Identity) -> None:
    """Nor does it matter that one with the same claims was good."""
    good = token(SECRET)
    bad = good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB")
    assert await identity.user_of(good) is not None
    assert [await identity.user_of(bad) for _ in range(2)] == [None, None]
    assert identity.verified == 3


async def test_a_token_expires_although_it_is_remembered(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is verified once more at its end, and refused."""
    expires_at = int(time.time()) + 60
    given = token(SECRET, exp=expires_at)
    assert await identity.user_of(given) is not None
    for now, times in ((expires_at + LEEWAY_SECONDS - 0.001, 1), (expires_at + LEEWAY_SECONDS, 2)):
        monkeypatch.setattr(tokens, "time", lambda now=now: now)
        await identity.user_of(given)
        assert identity.verified == times


@pytest.mark.parametrize("key", [secret_key("another" + SECRET), None])
async def test_a_token_whose_key_was_replaced(identity: Identity, key: Key | None) -> None:
    """It is refused at once, and good again when the key comes back."""
    given = token(SECRET)
    assert await identity.user_of(given) is not None
    old, identity.keys.key = identity.keys.key, key
    assert await identity.user_of(given) is None
    identity.keys.key = old
    assert await identity.user_of(given) is not None


async def test_how_much_is_remembered(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest tokens are forgotten, and long ones are verified each time."""
    monkeypatch.setattr(tokens, "MAX_VERIFIED", 3)
    given = [token(SECRET) for _ in range(4)]
    long = token(SECRET, padding="x" * MAX_VERIFIED_LENGTH)
    for each in [*given, *given[1:], long, long, *given[1:]]:
        assert await identity.user_of(each) is not None
    assert identity.verified == 4 + 2
    assert await identity.user_of(given[0]) is not None
    assert identity.verified == 4 + 2 + 1
