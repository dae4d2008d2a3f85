"""What the service is compared with: an endpoint that does nothing, one that returns given bytes, and a Redis script.

Each on the same server, Starlette and middleware. `python -m uvicorn bench.baselines:empty --factory`, and so on.
"""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lastpair.web.middleware import RequestContext
from lastpair.web.requests import header, uuid_in_path
from lastpair.web.responses import success

RESERVE_SCRIPT = """
if redis.call('exists', KEYS[2]) == 1 then return 'ALREADY_RESERVED' end
if tonumber(redis.call('get', KEYS[1]) or '0') <= 0 then return 'OUT_OF_STOCK' end
redis.call('decr', KEYS[1])
redis.call('set', KEYS[2], ARGV[1], 'EX', 3600)
return 'OK'
"""


def serve(endpoint: object) -> Starlette:
    """The application whose reserve endpoint and list of drops are this."""
    routes = [
        Route("/api/drops/{dropId}/reserve", endpoint, methods=["POST"]),
        Route("/api/drops", endpoint, methods=["GET"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(RequestContext)])


def empty() -> Starlette:
    """Answers nothing."""

    async def endpoint(request: Request) -> Response:
        return Response()

    return serve(endpoint)


def same_bytes() -> Starlette:
    """Answers with the content of the file BYTES."""
    with open(os.environ["BYTES"], "rb") as file:
        body = file.read()

    async def endpoint(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return serve(endpoint)


def redis_script() -> Starlette:
    """Reserves in Redis at REDIS_URL by a script: in memory, without history, expiry or durability."""
    from redis.asyncio import Redis

    client = Redis.from_url(os.environ["REDIS_URL"], max_connections=512)
    script = client.register_script(RESERVE_SCRIPT)

    async def endpoint(request: Request) -> Response:
        drop_id, user_id = uuid_in_path(request, "dropId"), header(request.scope, b"x-user-id")
        outcome = await script(keys=[f"stock:{drop_id}", f"hold:{drop_id}:{user_id}"], args=[os.urandom(16).hex()])
        return success(request, {"outcome": outcome.decode()}, 201 if outcome == b"OK" else 409)

    return serve(endpoint)
