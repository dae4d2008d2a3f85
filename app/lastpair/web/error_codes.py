"""The errors that an HTTP answer can have, and refusals that need headers of their own."""

from collections.abc import Mapping
from http import HTTPStatus

from lastpair.errors import Refusal

MAX_BODY_BYTES = 64 * 1024


class RefusalWithHeaders(Refusal):
    """A refusal whose answer has these headers besides."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(status, code, message)
        self.headers = headers


NOT_FOUND = Refusal(404, "NOT_FOUND", "There is nothing at this path.")
INTERNAL_ERROR = Refusal(500, "INTERNAL_ERROR", "Something went wrong here. Quote the request id when you report it.")

ERRORS: dict[str, tuple[HTTPStatus, str]] = {
    "VALIDATION_ERROR": (
        HTTPStatus.BAD_REQUEST,
        "a body, path, query or header is not acceptable; the message names the field and the reason",
    ),
    "AUTH_REQUIRED": (HTTPStatus.UNAUTHORIZED, "the request names no user, or one who does not exist"),
    "TICKET_INVALID": (HTTPStatus.UNAUTHORIZED, "the ticket of a stream is forged or too old; get a new one"),
    "SIGNATURE_INVALID": (
        HTTPStatus.UNAUTHORIZED,
        "a message to a webhook is not signed with its secret, or was signed more than five minutes ago",
    ),
    "FORBIDDEN": (
        HTTPStatus.FORBIDDEN,
        "this takes a token with the claim `role: admin`, or a page of an origin that `CORS_ORIGINS` does not list sent it",
    ),
    "DROP_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such drop"),
    "RESERVATION_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such reservation, or it is not yours"),
    "BASKET_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such basket, or it is not yours"),
    "VARIANT_NOT_FOUND": (HTTPStatus.NOT_FOUND, "the drop has no such variant, or it has variants and the request names none"),
    "PURCHASE_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such purchase"),
    "PAYMENT_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such payment, or it is not yours"),
    "PROVIDER_CALL_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such call to a payment provider"),
    "WEBHOOK_ENDPOINT_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such webhook endpoint"),
    "WEBHOOK_DELIVERY_NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is no such delivery, or it was pruned"),
    "NOT_FOUND": (HTTPStatus.NOT_FOUND, "there is nothing at this path"),
    "METHOD_NOT_ALLOWED": (HTTPStatus.METHOD_NOT_ALLOWED, "the path has other methods; see `Allow`"),
    "DROP_NOT_ACTIVE": (HTTPStatus.CONFLICT, "the drop has not started, is paused, has ended or was cancelled"),
    "OUT_OF_STOCK": (HTTPStatus.CONFLICT, "fewer units are left than were asked for; the message says how many, if any are"),
    "ALREADY_RESERVED": (HTTPStatus.CONFLICT, "you have reserved this drop, or this variant, already"),
    "LIMIT_EXCEEDED": (HTTPStatus.CONFLICT, "you would have more units of the drop than its `limit_per_user`"),
    "RESERVED_TOO_SOON": (HTTPStatus.CONFLICT, "you let a hold go and must wait for `rehold_after_seconds` of the drop"),
    "SEVERAL_RESERVATIONS": (HTTPStatus.CONFLICT, "you hold several variants of the drop; name the `reservation_id`"),
    "NO_ACTIVE_RESERVATION": (HTTPStatus.CONFLICT, "you hold no unit to purchase"),
    "RESERVATION_EXPIRED": (HTTPStatus.CONFLICT, "your hold has run out; its units went back"),
    "RESERVATION_NOT_ACTIVE": (HTTPStatus.CONFLICT, "this reservation was consumed, or was cancelled and cannot be extended"),
    "EXTENSION_NOT_ALLOWED": (HTTPStatus.CONFLICT, "the drop has no `extension_seconds`, so its holds cannot be extended"),
    "BASKET_REFUSED": (HTTPStatus.CONFLICT, "an item cannot be held, so none is; `items` says which, and why"),
    "BASKET_NOT_ACTIVE": (HTTPStatus.CONFLICT, "a hold of the basket was bought or cancelled; the message names the item"),
    "BASKET_SPANS_NODES": (HTTPStatus.CONFLICT, "the drops of the basket are on several nodes; reserve them one by one"),
    "INVALID_STATUS_CHANGE": (
        HTTPStatus.CONFLICT,
        "the drop cannot move to that status, the purchase is not paid, so it cannot be refunded, or the payment is paid, so it"
        " cannot be cancelled",
    ),
    "SEVERAL_CURRENCIES": (HTTPStatus.CONFLICT, "the basket has amounts of several currencies, which one payment cannot have"),
    "VARIANT_IN_USE": (HTTPStatus.CONFLICT, "units of the variant were held or sold, so it cannot go"),
    "STOCK_BELOW_COMMITTED": (HTTPStatus.CONFLICT, "`total_stock` would be less than the units held and sold"),
    "WEBHOOK_ENDPOINT_INACTIVE": (HTTPStatus.CONFLICT, "the webhook endpoint is not active, so nothing is sent to it"),
    "TOO_MANY_WEBHOOK_ENDPOINTS": (HTTPStatus.CONFLICT, "there are 20 webhook endpoints already"),
    "RUSH_RUNNING": (HTTPStatus.CONFLICT, "a rush is running already; wait for its end"),
    "USERNAME_TAKEN": (HTTPStatus.CONFLICT, "another user has this name"),
    "DROP_CHANGED": (HTTPStatus.PRECONDITION_FAILED, "the drop was changed since the `ETag` in `If-Match` was read"),
    "IDEMPOTENCY_KEY_REUSED": (HTTPStatus.UNPROCESSABLE_ENTITY, "the `Idempotency-Key` came with another request before"),
    "MISDIRECTED_REQUEST": (HTTPStatus.MISDIRECTED_REQUEST, "the `Host` is not in `ALLOWED_HOSTS`"),
    "PAYLOAD_TOO_LARGE": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body over {MAX_BODY_BYTES // 1024} KiB"),
    "UNSUPPORTED_MEDIA_TYPE": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body that is not JSON, or has a Content-Encoding"),
    "UPGRADE_REQUIRED": (
        HTTPStatus.UPGRADE_REQUIRED,
        "a request to a WebSocket that is no handshake, or one of a version other than that in `Sec-WebSocket-Version`",
    ),
    "RATE_LIMITED": (HTTPStatus.TOO_MANY_REQUESTS, "more requests, or streams, than one user or address may have"),
    "INTERNAL_ERROR": (HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of ours; quote the request id"),
    "OVERLOADED": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too many requests are waiting, or too many streams are open; this request was not started",
    ),
    "IDENTITY_UNAVAILABLE": (HTTPStatus.SERVICE_UNAVAILABLE, "the keys that tokens are verified with cannot be fetched"),
    "DATABASE_UNAVAILABLE": (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the database cannot serve now. The request may have taken effect: repeat it with the same `Idempotency-Key`",
    ),
}
"""Every code that an answer can have: its status, and when it comes. A test compares them with api.errors() of the database."""
