"""What a payment provider of one's own tells, as the contract has it. docs/payments.md explains it."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, WithJsonSchema

from lastpair.payments.provider import ToldStatus

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""A text that PostgreSQL can store."""

Reference = Annotated[Text, Field(min_length=1, max_length=255)]
Currency = Annotated[Text, Field(max_length=255)]
Amount = Annotated[
    Decimal, Field(ge=0, max_digits=20, decimal_places=3), WithJsonSchema({"type": "number", "minimum": 0, "multipleOf": 0.001})
]


class PaymentNotice(BaseModel, extra="forbid"):
    """What a provider tells of a payment."""

    payment_id: UUID
    status: ToldStatus
    provider_reference: Reference
    amount: Amount | None = None
    currency: Currency | None = None
    refunded_amount: Annotated[
        Amount | None, Field(description="With `refunded`: all that was given back so far. Missing: everything.")
    ] = None
