"""The rows that answers are made of, for the contract. They come from the database as JSON and are never parsed here."""

# ruff: noqa: N815 - columns have the wire's names

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from app.bodies import Money, Status


class Row(BaseModel, extra="forbid"):
    """Has these fields and no others."""


class User(Row):
    """A buyer or seller."""

    id: UUID
    username: str
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Drop(Row):
    """What is sold."""

    id: UUID
    name: str
    price: Money
    total_stock: int
    available_stock: Annotated[int, Field(ge=0, description="Units neither held nor sold.")]
    starts_at: AwareDatetime | None
    ends_at: AwareDatetime | None
    status: Status
    created_by: UUID
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Purchaser(Row):
    """Who bought, and when."""

    userId: UUID
    username: str
    qty: int
    createdAt: AwareDatetime


class ActivityFeed(Row):
    """What a drop's row does not say."""

    latest_purchasers: Annotated[list[Purchaser], Field(max_length=3, description="The latest first.")]
    held_stock: Annotated[int, Field(ge=0, description="Units held and not yet bought.")]


class ListedDrop(Drop):
    """A drop on sale, with its latest purchasers."""

    activity_feed: ActivityFeed


class Reservation(Row):
    """A unit held for a user until `expires_at`."""

    id: UUID
    drop_id: UUID
    user_id: UUID
    status: Literal["ACTIVE", "EXPIRED", "CANCELLED", "CONSUMED"]
    expires_at: AwareDatetime
    createdAt: AwareDatetime
    updatedAt: AwareDatetime


class Purchase(Row):
    """A reservation that was bought."""

    id: UUID
    drop_id: UUID
    reservation_id: UUID
    user_id: UUID
    qty: int
    status: Literal["pending", "paid", "failed", "cancelled", "refunded"]
    createdAt: AwareDatetime
    updatedAt: AwareDatetime
