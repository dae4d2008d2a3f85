"""Brings the names that users have at the identity provider to the database."""

import asyncio
from collections import OrderedDict

from lastpair.errors import Refusal
from lastpair.shop.shared_calls import MeasuredBatcher, UserRequest

MAX_NAMES = 10_000
"""Users whose latest name is remembered. The name of another one is compared with the database again."""


class CurrentNames:
    """The latest names of users, as far as this process knows them.

    A name that is new here is compared with the database, together with those of others and after the request was answered. So a
    user who was renamed elsewhere is renamed here with the next request.
    """

    def __init__(self, rename_user: MeasuredBatcher[UserRequest, None]) -> None:
        self._rename_user = rename_user
        self._names: OrderedDict[str, str] = OrderedDict()  # by the user's id, the one used longest ago first
        self._renaming: set[asyncio.Task[None]] = set()

    def follow(self, user_id: str, name: str | None) -> None:
        """This is the user's name now, or it is not known."""
        if name is not None and self._names.get(user_id) != name:
            self._names[user_id] = name
            if len(self._names) > MAX_NAMES:
                self._names.popitem(last=False)
            task = asyncio.create_task(self._rename(user_id, name))
            self._renaming.add(task)
            task.add_done_callback(self._renaming.discard)
        if user_id in self._names:
            self._names.move_to_end(user_id)

    async def _rename(self, user_id: str, name: str) -> None:
        try:
            await self._rename_user.submit(user_id, UserRequest(user_id, name))
        except Refusal:  # the database is away or too busy, so it is tried again with the next request
            self._names.pop(user_id, None)
