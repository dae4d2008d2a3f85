"""Schemas of the messages that streams send and take. The contract shows them, and a test compares them with real streams."""

# ruff: noqa: N815 - fields have the wire's names

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from lastpair.realtime.event import EVENTS
from lastpair.web.operation import EVENT_ID, Schema, object_schema, reference_to
from lastpair.web.operation import UUID as UUID_SCHEMA
from lastpair.web.schemas import Amount, Currency, Drop, ListedDrop, Purchaser, Row


class SnapshotData(Row):
    """The drops that a stream begins with, or those that are added to it."""

    drops: list[ListedDrop]
    incomplete: Annotated[
        list[str],
        Field(default_factory=list, description="With several nodes: those that are away. Their drops come in another SNAPSHOT."),
    ]
    completes: Annotated[
        list[str],
        Field(default_factory=list, description="The nodes that were away. The drops are added to those of the SNAPSHOT before."),
    ]


class CommittedData(Row):
    """What the data of every event of the log has."""

    at: Annotated[AwareDatetime, Field(description="When it was committed: ISO 8601, UTC, in milliseconds.")]


class DropData(CommittedData):
    """A drop as it is now."""

    drop: Drop


class DropRemovedData(CommittedData):
    """The drop that is not to be seen any more."""

    dropId: UUID


class VariantStock(Row):
    """The stock of a variant."""

    id: UUID
    availableStock: Annotated[int, Field(ge=0)]


class StockUpdatedData(CommittedData):
    """The stock of a drop, and of those variants whose stock changed."""

    dropId: UUID
    availableStock: Annotated[int, Field(ge=0)]
    variants: Annotated[list[VariantStock], Field(default_factory=list, description="Missing if the drop has no variants.")]


class ReservationExpiredData(CommittedData):
    """The reservation whose units went back."""

    dropId: UUID
    reservationId: UUID


class PurchaseCompletedData(CommittedData):
    """What was bought, and by whom."""

    dropId: UUID
    username: str
    qty: Annotated[int, Field(ge=1)]
    purchasedAt: AwareDatetime


class ActivityUpdatedData(CommittedData):
    """The latest purchasers of a drop, the latest first."""

    dropId: UUID
    latestPurchasers: Annotated[list[Purchaser], Field(max_length=3)]


class ChangedPayment(Row):
    """A payment as an event has it."""

    id: UUID
    amount: Amount
    currency: Currency
    status: Literal["pending", "paid", "failed", "cancelled", "refunded"]
    refunded_amount: Amount
    expires_at: AwareDatetime
    client_secret: str | None
    url: str | None


class PaymentUpdatedData(CommittedData):
    """A payment as it is now. Only its buyer gets it."""

    dropId: UUID
    payment: ChangedPayment


class ResyncRequiredData(Row):
    """Why the client starts again."""

    reason: str


class PositionData(Row):
    """Nothing: the id is all that a POSITION says."""


EVENT_DATA: dict[str, type[BaseModel]] = {
    "SNAPSHOT": SnapshotData,
    "DROP_CREATED": DropData,
    "DROP_UPDATED": DropData,
    "DROP_REMOVED": DropRemovedData,
    "STOCK_UPDATED": StockUpdatedData,
    "RESERVATION_EXPIRED": ReservationExpiredData,
    "PURCHASE_COMPLETED": PurchaseCompletedData,
    "ACTIVITY_UPDATED": ActivityUpdatedData,
    "PAYMENT_UPDATED": PaymentUpdatedData,
    "RESYNC_REQUIRED": ResyncRequiredData,
    "POSITION": PositionData,
}
"""The data of each type of event."""

FROM_SERVICE = {"ERROR": "ErrorFrame", "pong": "Pong"}
FROM_CLIENT = {"drops:join": "JoinDrop", "drops:leave": "LeaveDrop", "ping": "Ping"}
"""The schemas of the frames of a WebSocket that are no events, by type."""


def stream_schemas() -> dict[str, Schema]:
    """The schemas of the contract that describe events and the frames of a WebSocket, by name."""
    names = {event_type: schema_name(event_type) for event_type in EVENTS}
    events = {
        names[event_type]: _typed(event_type, id=EVENT_ID, data=reference_to(EVENT_DATA[event_type].__name__))
        | {"description": when}
        for event_type, (_, when) in EVENTS.items()
    }
    return {
        "Event": _one_of(names) | {"description": "What a stream sends. A client ignores types that it does not know."},
        **events,
        "ErrorFrame": _typed("ERROR", id=EVENT_ID, data=reference_to("Error"))
        | {"description": "A frame of the client was refused. The id is that of the event before."},
        "Pong": _typed("pong") | {"description": "The answer to a ping."},
        "JoinDrop": _typed("drops:join", dropId=UUID_SCHEMA) | {"description": "Send the events of this drop as well."},
        "LeaveDrop": _typed("drops:leave", dropId=UUID_SCHEMA) | {"description": "Send no more events of this drop."},
        "Ping": _typed("ping") | {"description": "Asks for a pong."},
        "ServiceFrame": _one_of(names | FROM_SERVICE) | {"description": "A text frame of the service."},
        "ClientFrame": _one_of(FROM_CLIENT) | {"description": "A text frame of a client."},
        "WebSocketFrame": {
            "description": "A text frame, of the service or of the client.",
            "anyOf": [reference_to("ServiceFrame"), reference_to("ClientFrame")],
        },
    }


def schema_name(event_type: str) -> str:
    """The name of the schema of an event: StockUpdated for STOCK_UPDATED."""
    return event_type.title().replace("_", "")


def _typed(value: str, **properties: Schema) -> Schema:
    return object_schema(type={"type": "string", "const": value}, **properties)


def _one_of(names: dict[str, str]) -> Schema:
    mapping = {event_type: reference_to(name)["$ref"] for event_type, name in names.items()}
    return {
        "oneOf": [reference_to(name) for name in names.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
