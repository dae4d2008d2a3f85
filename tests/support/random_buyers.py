"""A load for tests of streams: buyers who reserve, purchase, cancel and change drops at random over HTTP."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import dumps
from uuid import UUID, uuid4

from tests.support.envelopes import as_user
from tests.support.factories import make_drop, make_user
from tests.support.streams import Api, Follower


class RandomBuyers:
    """Buyers who work on the drops of this load while its block runs."""

    def __init__(self, api: Api, buyers: int = 8, *, is_down_at_times: bool = False) -> None:
        self.answers = 0
        self.drops: list[str] = []
        self._api = api
        self._buyers = buyers
        self._chance = random.Random(buyers)  # noqa: S311 - a load to repeat, not a secret
        self._accepted = {200, 201, 409, 503} if is_down_at_times else {200, 201, 409}
        self._users: list[str] = []
        self._is_running = True

    @asynccontextmanager
    async def running(self, drops: int = 6) -> AsyncIterator["RandomBuyers"]:
        """Make the drops and let the buyers work until the block ends."""
        self._users = [await make_user(self._api.owner) for _ in range(20)]
        for _ in range(drops):
            self.drops.append((await make_drop(self._api.http, self._users[0], total_stock=30))["id"])
        async with asyncio.TaskGroup() as group:
            for _ in range(self._buyers):
                group.create_task(self._buy())
            try:
                yield self
            finally:
                self._is_running = False

    async def answered(self, count: int) -> None:
        """Wait until `count` more requests have been answered."""
        goal = self.answers + count
        while self.answers < goal:
            await asyncio.sleep(0.005)

    async def _buy(self) -> None:
        http, held = self._api.http, []
        while self._is_running:
            drop_id, user = self._chance.choice(self.drops), self._chance.choice(self._users)
            path = f"/drops/{drop_id}"
            match self._chance.choices(["reserve", "purchase", "cancel", "patch"], [8, 4, 4, 2])[0]:
                case "cancel" if held:
                    reservation = held.pop()
                    response = await http.delete(f"/reservations/{reservation['id']}", headers=as_user(reservation["user_id"]))
                case "patch":
                    changes = self._chance.choice([{"total_stock": self._chance.randint(30, 60)}, {"name": uuid4().hex}])
                    response = await http.patch(path, json=changes, headers=as_user(user))
                case "purchase":
                    response = await http.post(f"{path}/purchase", headers=as_user(user))
                case _:
                    response = await http.post(f"{path}/reserve", headers=as_user(user))
                    if response.status_code == 201:
                        held.append(response.json()["data"]["reservation"])
            assert response.status_code in self._accepted, response.text
            self.answers += 1
            if response.status_code == 503:
                await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """Rename each drop. This is the last event of each."""
        for drop_id in self.drops:
            await self._api.owner.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": THE_END}))


THE_END = "The end"


def has_seen_the_end(follower: Follower) -> bool:
    """Has it got the new name of each of its drops from RandomBuyers.finish()?"""
    shown = follower.shows().values()
    return bool(shown) and all(drop["name"] == THE_END for drop in shown)
