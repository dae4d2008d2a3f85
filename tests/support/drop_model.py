"""The rules of a drop as a model that the property test compares the database with.

It knows nothing of locks, batches or plans. A hold that is due counts as free, because a request that needs its units takes them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID


@dataclass
class Reservation:
    """A hold and what became of it."""

    id: UUID
    user: int
    variant: UUID | None
    qty: int
    price: int
    status: str = "ACTIVE"
    due: bool = False
    extended: bool = False

    @property
    def live(self) -> bool:
        """Does it hold units that no other user may take?"""
        return self.status == "ACTIVE" and not self.due

    @property
    def status_now(self) -> str:
        """Its status by the clock, whether or not it has been taken back."""
        return "EXPIRED" if self.status == "ACTIVE" and self.due else self.status


@dataclass
class Payment:
    """A payment and what became of it."""

    id: UUID
    user: int
    purchases: list[tuple["Drop", UUID, Reservation]] = field(default_factory=list)
    status: str = "pending"
    due: bool = False

    @property
    def status_now(self) -> str:
        """Its status by the clock, whether or not its units have been taken back."""
        return "cancelled" if self.due and self.status in ("pending", "failed") else self.status

    def fits(self) -> bool:
        """Can its units be taken again?"""
        wanted: Counter[tuple[UUID, UUID | None]] = Counter()
        of_drops: Counter[UUID] = Counter()
        for drop, _, reservation in self.purchases:
            wanted[drop.id, reservation.variant] += reservation.qty
            of_drops[drop.id] += reservation.qty
        drops = {drop.id: drop for drop, _, _ in self.purchases}
        return all(
            drop.status != "cancelled"
            and (drop.limit is None or drop.has(self.user) + of_drops[drop.id] <= drop.limit)
            and all(
                drop.committed(variant) + qty <= drop.totals[variant] for (of, variant), qty in wanted.items() if of == drop.id
            )
            for drop in drops.values()
        )


@dataclass
class Drop:
    """A drop. Without variants its stock is that of the variant None."""

    id: UUID
    totals: dict[UUID | None, int]
    limit: int | None
    price: int = 1
    status: str = "live"
    paused: bool = False
    waits: bool = False
    """Must a user who let a hold go wait, for longer than the test takes?"""
    extends: bool = True
    """May a hold be extended?"""
    reservations: dict[UUID, Reservation] = field(default_factory=dict)
    reserve_keys: dict[tuple[int, str], UUID] = field(default_factory=dict)
    purchase_keys: dict[tuple[int, str], UUID] = field(default_factory=dict)
    purchases: dict[UUID, Reservation] = field(default_factory=dict)
    refunded: set[UUID] = field(default_factory=set)
    payments: dict[UUID, Payment] = field(default_factory=dict)
    """Of each purchase that a provider takes the money for."""

    @property
    def total(self) -> int:
        """All units."""
        return sum(self.totals.values())

    def taken(self) -> Iterator[Reservation]:
        """What is held or sold."""
        yield from (reservation for reservation in self.reservations.values() if reservation.live)
        for purchase, reservation in self.purchases.items():
            payment = self.payments.get(purchase)
            if purchase not in self.refunded and (payment is None or payment.status_now in ("pending", "failed", "paid")):
                yield reservation

    def committed(self, variant: UUID | None) -> int:
        """Units of a variant that are held or sold."""
        return sum(reservation.qty for reservation in self.taken() if reservation.variant == variant)

    def has(self, user: int) -> int:
        """Units that a user holds and has bought."""
        return sum(reservation.qty for reservation in self.taken() if reservation.user == user)

    def held_by(self, user: int) -> list[Reservation]:
        """The user's ACTIVE reservations, due or not."""
        return [r for r in self.reservations.values() if r.user == user and r.status == "ACTIVE"]

    def newest_of(self, user: int) -> Reservation | None:
        """The user's newest reservation."""
        return next((r for r in reversed(self.reservations.values()) if r.user == user), None)

    def refusal(self, user: int, variant: UUID | None, qty: int) -> str | None:
        """The code with which a known user's request for units is refused."""
        if self.status != "live" or self.paused:
            return "DROP_NOT_ACTIVE"
        if variant not in self.totals:
            return "VARIANT_NOT_FOUND"
        if any(r.live for r in self.held_by(user) if r.variant == variant):
            return "ALREADY_RESERVED"
        if self.limit is not None and self.has(user) + qty > self.limit:
            return "LIMIT_EXCEEDED"
        if self.waits and any(r.user == user and r.status_now in ("EXPIRED", "CANCELLED") for r in self.reservations.values()):
            return "RESERVED_TOO_SOON"
        if self.committed(variant) + qty > self.totals[variant]:
            return "OUT_OF_STOCK"
        return None

    def hold(self, reservation_id: UUID, user: int, variant: UUID | None, qty: int) -> Reservation:
        """Hold units for a user, whose earlier hold of them, if there is one, is due and ends now."""
        for earlier in self.held_by(user):
            if earlier.variant == variant:
                earlier.status = "EXPIRED"
        reservation = Reservation(reservation_id, user, variant, qty, self.price)
        self.reservations[reservation_id] = reservation
        return reservation


@dataclass
class Basket:
    """A basket: what was asked for, as drop, variant and units, and the hold of each item."""

    user: int
    items: list[tuple[UUID, UUID | None, int]]
    holds: list[tuple[Drop, Reservation]]
