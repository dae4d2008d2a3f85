"""What the handlers of an application work with: its database, and all that it keeps in memory."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request

from app.calls import Batchers
from app.database import Database
from app.events import EventLog
from app.http import Refusal
from app.hub import Hub
from app.identity import Identity
from app.limits import Places, RateLimit
from app.relay import Relay

Answer = TypeVar("Answer")


@dataclass
class Services:
    """One of each for an application."""

    database: Database
    identity: Identity
    address_limit: RateLimit
    user_limit: RateLimit
    places: Places
    batchers: Batchers
    hub: Hub
    event_log: EventLog
    relay: Relay


class Lastpair(Starlette):
    """The application. An attribute is found much quicker than what Starlette's `app.state` holds."""

    services: Services


def services_of(connection: HTTPConnection) -> Services:
    """Those of the application that the request is for."""
    services: Services = connection.scope["app"].services
    return services


async def as_user(request: Request, user_id: str, call: Callable[[str], Awaitable[Answer]]) -> Answer:
    """What `call` answers for this user, who may be made for it.

    Every function that acts for a user says AUTH_REQUIRED when there is none, so a known user costs no call of its own.
    """
    try:
        return await call(user_id)
    except Refusal as refusal:
        if refusal.code != "AUTH_REQUIRED" or not await provision(request, user_id):
            raise
    return await call(user_id)


async def provision(request: Request, user_id: str) -> bool:
    """Make the user that was not found, if that is how users come to be here."""
    services = services_of(request)
    if not services.identity.makes_users:
        return False
    name = services.identity.user_name(request.scope)
    await services.batchers.provision.submit(user_id, (user_id, name, perf_counter()))
    return True
