"""The handlers of webhook endpoints and of their deliveries, for sellers."""

from starlette.requests import Request
from starlette.responses import Response

from lastpair.web.components import components_of
from lastpair.web.operation import UUID, operation, reference_to, status_parameter
from lastpair.web.requests import (
    TIMED_CURSOR,
    choice_in_query,
    expect_no_body,
    idempotency_key,
    limit_and_cursor,
    read_body,
    uuid_in_path,
    uuid_in_query,
)
from lastpair.web.responses import answer, answer_page
from lastpair.web.schemas import (
    DELIVERY_STATUSES,
    WEBHOOK_TYPES,
    NewWebhookEndpoint,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointChanges,
    WebhookEndpointWithSecret,
)
from lastpair.web.sellers import admin, seller
from lastpair.webhooks.endpoints import OfEndpoint

ENDPOINT = "webhook_endpoint"
DELIVERY = "webhook_delivery"


@operation(
    "webhooks",
    {201: {ENDPOINT: WebhookEndpointWithSecret}, 200: {ENDPOINT: WebhookEndpointWithSecret}},
    *["TOO_MANY_WEBHOOK_ENDPOINTS", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
    body=NewWebhookEndpoint,
)
async def create_webhook_endpoint(request: Request) -> Response:
    """Tell a URL what happens from now on.

    The answer has the secret that signs the messages. No other answer shows it, except that to the same request with the same
    `Idempotency-Key`. There may be 20 endpoints.
    """
    key = idempotency_key(request.scope)
    caller = await admin(request)
    body = await read_body(request, NewWebhookEndpoint)
    return answer(request, await components_of(request).webhooks.create(caller, body.url, body.event_types, key), ENDPOINT)


@operation("webhooks", {200: {"webhook_endpoints": list[WebhookEndpoint]}}, caller="admin", is_paged=True)
async def list_webhook_endpoints(request: Request) -> Response:
    """The webhook endpoints.

    The newest first, without their secrets.
    """
    await seller(request)
    outcome = await components_of(request).webhooks.list(*limit_and_cursor(request, TIMED_CURSOR))
    return answer_page(request, outcome, "webhook_endpoints")


@operation("webhooks", {200: {ENDPOINT: WebhookEndpoint}}, "WEBHOOK_ENDPOINT_NOT_FOUND", caller="admin")
async def get_webhook_endpoint(request: Request) -> Response:
    """One webhook endpoint, without its secret."""
    endpoint_id = uuid_in_path(request, "id")
    await seller(request)
    return answer(request, await components_of(request).webhooks.get(endpoint_id), ENDPOINT)


@operation(
    "webhooks",
    {200: {ENDPOINT: WebhookEndpoint}},
    "WEBHOOK_ENDPOINT_NOT_FOUND",
    caller="admin",
    body=WebhookEndpointChanges,
)
async def update_webhook_endpoint(request: Request) -> Response:
    """Change a webhook endpoint.

    Only the fields given are changed. One that is not active misses what happens meanwhile, and its pending deliveries are given
    up. `active: true` also turns on an endpoint that the service has disabled.
    """
    endpoint_id = uuid_in_path(request, "id")
    caller = await admin(request)
    changes = await read_body(request, WebhookEndpointChanges)
    outcome = await components_of(request).webhooks.update(caller, endpoint_id, changes.given(), changes.url or None)
    return answer(request, outcome, ENDPOINT)


@operation("webhooks", {200: {ENDPOINT: WebhookEndpoint}}, "WEBHOOK_ENDPOINT_NOT_FOUND", caller="admin")
async def delete_webhook_endpoint(request: Request) -> Response:
    """Remove a webhook endpoint, with its deliveries."""
    endpoint_id = uuid_in_path(request, "id")
    caller = await admin(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).webhooks.delete(caller, endpoint_id), ENDPOINT)


@operation(
    "webhooks",
    {200: {ENDPOINT: WebhookEndpointWithSecret}},
    *["WEBHOOK_ENDPOINT_NOT_FOUND", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
)
async def rotate_webhook_secret(request: Request) -> Response:
    """Give a webhook endpoint a new secret.

    The answer shows it. For a day messages are signed with the old one as well.
    """
    endpoint_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    caller = await admin(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).webhooks.rotate_secret(caller, endpoint_id, key), ENDPOINT)


@operation(
    "webhooks",
    {202: {DELIVERY: WebhookDelivery}, 200: {DELIVERY: WebhookDelivery}},
    *["WEBHOOK_ENDPOINT_NOT_FOUND", "WEBHOOK_ENDPOINT_INACTIVE", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
)
async def send_test_webhook(request: Request) -> Response:
    """Send a message of the type `webhook.test` to a webhook endpoint.

    The list of its deliveries tells what became of it.
    """
    endpoint_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    caller = await admin(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).webhooks.test(caller, endpoint_id, key), DELIVERY)


@operation(
    "webhooks",
    {200: {"webhook_deliveries": list[WebhookDelivery]}},
    "WEBHOOK_ENDPOINT_NOT_FOUND",
    caller="admin",
    parameters=[
        status_parameter("Only deliveries with this status.", "DeliveryStatus"),
        {"name": "type", "in": "query", "description": "Only messages of this type.", "schema": reference_to("WebhookType")},
        {"name": "drop_id", "in": "query", "description": "Only messages about this drop.", "schema": UUID},
    ],
    is_paged=True,
)
async def list_webhook_deliveries(request: Request) -> Response:
    """What was sent, or is to be sent, to a webhook endpoint.

    The newest first. A message that was delivered stays for 7 days, one that was given up for 28.
    """
    of_endpoint = OfEndpoint(
        uuid_in_path(request, "id"),
        choice_in_query(request, "status", DELIVERY_STATUSES),
        choice_in_query(request, "type", WEBHOOK_TYPES),
        uuid_in_query(request, "drop_id"),
    )
    await seller(request)
    outcome = await components_of(request).webhooks.deliveries(of_endpoint, *limit_and_cursor(request, TIMED_CURSOR))
    return answer_page(request, outcome, "webhook_deliveries")


@operation(
    "webhooks",
    {202: {DELIVERY: WebhookDelivery}, 200: {DELIVERY: WebhookDelivery}},
    *["WEBHOOK_DELIVERY_NOT_FOUND", "WEBHOOK_ENDPOINT_INACTIVE", "IDEMPOTENCY_KEY_REUSED"],
    caller="admin",
    is_idempotent=True,
)
async def replay_webhook_delivery(request: Request) -> Response:
    """Send a message once more.

    It is tried for a day, as a new one, and goes before the newer messages of its drop.
    """
    delivery_id, key = uuid_in_path(request, "id"), idempotency_key(request.scope)
    caller = await admin(request)
    await expect_no_body(request)
    return answer(request, await components_of(request).webhooks.replay(caller, delivery_id, key), DELIVERY)
