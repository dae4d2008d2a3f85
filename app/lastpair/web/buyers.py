"""Reserve (also baskets), purchase and cancel: how such a request is read and carried out.

It may come on two ways. They are the handlers, and hot_path.py.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from lastpair.shop.outcome import Caller
from lastpair.shop.shared_calls import BuyersRequest
from lastpair.web.components import Components, components_in
from lastpair.web.identity import Identity
from lastpair.web.operation import BuyersOperation
from lastpair.web.requests import idempotency_key, parse_uuid, read_body, read_optional_body
from lastpair.web.responses import HasScope, answer


async def carry_out(request: Request, operation: BuyersOperation) -> Response:
    """Read such a request, and answer what the shop says."""
    caller, asked = await read(request, operation)
    return answer(request, await components_in(request.scope).shop.carry_out(caller, asked), operation.data)


async def read(request: Request, operation: BuyersOperation) -> tuple[Caller, BuyersRequest]:
    """Who asks, and for what. Raises VALIDATION_ERROR, what read_body and read_optional_body raise, and what `writer` raises."""
    name = operation.id_name
    asked_id = "" if name is None else parse_uuid(name, request.path_params[name])
    key = key_of(request, operation)
    body = await (read_body if operation.needs_body else read_optional_body)(request, operation.body)
    caller = await writer(request)
    return caller, operation.request(caller.id, asked_id, key, body)


def key_of(request: HasScope, operation: BuyersOperation) -> str | None:
    """The Idempotency-Key, if the operation takes one. Raises VALIDATION_ERROR."""
    return idempotency_key(request.scope) if operation.takes_key else None


async def writer(request: HasScope) -> Caller:
    """The user of a request that changes something. Raises AUTH_REQUIRED, IDENTITY_UNAVAILABLE and RATE_LIMITED."""
    components = components_in(request.scope)
    return _counted(components, request.scope, await components.identity.user_id(request.scope))


def known_writer(request: HasScope) -> Caller | None:
    """The same at once; None if finding the user takes time."""
    components = components_in(request.scope)
    user_id = components.identity.known_user_id(request.scope)
    return None if user_id is None else _counted(components, request.scope, user_id)


def _counted(components: Components, scope: Scope, user_id: str) -> Caller:
    components.user_limit.count(user_id)
    return caller_of(scope, components.identity, user_id)


def caller_of(scope: Scope, identity: Identity, user_id: str) -> Caller:
    """This user as the shop takes it, with the name that the request gives if missing users are made here."""
    if not identity.creates_users:
        return Caller(user_id)
    return Caller(user_id, lambda: identity.user_name(scope), identity.follows_names)
