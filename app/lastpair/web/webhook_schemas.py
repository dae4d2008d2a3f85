"""Schemas of the messages that webhook endpoints get. The contract shows them, and a test compares them with real messages."""

from uuid import UUID

from pydantic import BaseModel

from lastpair.web.operation import Schema, object_schema, reference_to
from lastpair.web.schemas import BuyersPurchase, BuyersReservation, Drop, PaymentProblem, Row


class PurchaseData(Row):
    """A purchase as it was at the commit."""

    purchase: BuyersPurchase


class HoldData(Row):
    """The reservation whose units went back."""

    reservation: BuyersReservation


class ChangedDropData(Row):
    """The drop as it was at the commit."""

    drop: Drop


class ProblemData(Row):
    """A payment that the seller has to look at."""

    problem: PaymentProblem


class TestData(Row):
    """Nothing but the endpoint that is tested."""

    endpoint_id: UUID


WEBHOOKS: dict[str, tuple[type[BaseModel], str]] = {
    "purchase.pending": (PurchaseData, "Units were bought, and are to be paid."),
    "purchase.paid": (PurchaseData, "A purchase is paid."),
    "purchase.cancelled": (PurchaseData, "A purchase was not paid; its units went back."),
    "purchase.refunded": (PurchaseData, "A purchase was refunded, all of it or in part."),
    "hold.expired": (HoldData, "A hold ran out; its units went back."),
    "drop.created": (ChangedDropData, "A drop was made, perhaps as a draft."),
    "drop.updated": (ChangedDropData, "A seller changed the drop, or it has started or ended."),
    "drop.sold_out": (ChangedDropData, "The last unit was paid: none is in stock, held or waiting for a payment."),
    "drop.cancelled": (ChangedDropData, "The drop was cancelled. Refunds follow, each as a message."),
    "payment.flagged": (ProblemData, "A payment provider told something that the seller has to look at."),
    "webhook.test": (TestData, "A seller asked for it."),
}
"""By type: the data of the message, and when it is sent."""

WEBHOOK_HEADERS: tuple[Schema, ...] = tuple(
    {"name": name, "in": "header", "required": True, "description": description, "schema": {"type": "string"}}
    for name, description in {
        "webhook-id": "The id of the message, the same at every attempt.",
        "webhook-timestamp": "When the attempt was made, in seconds since 1970.",
        "webhook-signature": "`v1,` and the HMAC-SHA-256 of id, timestamp and body in base64; several, with spaces between them.",
    }.items()
)


def webhook_schemas() -> dict[str, Schema]:
    """The schemas of the contract that describe messages, by name."""
    return {
        message_name(kind): object_schema(
            type={"type": "string", "const": kind},
            timestamp={"type": "string", "format": "date-time", "description": "The time of the commit."},
            data=reference_to(data.__name__),
        )
        | {"description": when}
        for kind, (data, when) in WEBHOOKS.items()
    }


def webhook_operations() -> dict[str, Schema]:
    """The requests that the service makes, by type, as OpenAPI describes them."""
    return {
        kind: {
            "post": {
                "operationId": f"on{message_name(kind)}",
                "tags": ["webhooks"],
                "security": [],
                "summary": when,
                "parameters": list(WEBHOOK_HEADERS),
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": reference_to(message_name(kind))}},
                },
                "responses": {
                    "2XX": {"description": "The message is taken."},
                    "410": {"description": "The endpoint wants no more messages, and is disabled."},
                    "default": {"description": "The message is sent again later."},
                },
            }
        }
        for kind, (_, when) in WEBHOOKS.items()
    }


def message_name(kind: str) -> str:
    """The name of the schema of a message: PurchasePaidMessage for purchase.paid."""
    return kind.replace(".", "_").title().replace("_", "") + "Message"
