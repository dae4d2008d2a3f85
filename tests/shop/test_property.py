"""Random legal and illegal calls against a model of the rules; after each the database must agree with the model.

The model knows nothing of locks, batches or plans: a batch is its requests one after the other. Time passes only when the test
says so, by moving a hold's expires_at back. A hold that is due counts as free in the model, because a request that needs its unit
takes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from psycopg import RawCursor
from psycopg.rows import dict_row

from tests.support.batch_statements import CANCEL, PURCHASE, RESERVE
from tests.support.database import Database

Row = dict[str, object]
Request = tuple[int, str | None]
"""The number of a user, and an Idempotency-Key."""

USERS = 5
UNKNOWN_USER = USERS  # the number of one more, who does not exist
user_numbers = st.sampled_from([*range(USERS)] * 4 + [UNKNOWN_USER])
keys = st.sampled_from([None, None, "a", "b"])
batches = st.lists(st.tuples(user_numbers, keys), min_size=1, max_size=10)
drop_numbers = st.integers(0, 1)


@dataclass
class Reservation:
    """A reservation in the model."""

    id: UUID
    user: int
    status: str = "ACTIVE"
    due: bool = False

    @property
    def live(self) -> bool:
        """Does it hold a unit that no other user may take?"""
        return self.status == "ACTIVE" and not self.due


@dataclass
class Drop:
    """A drop in the model."""

    id: UUID
    total: int
    status: str = "live"
    reservations: dict[UUID, Reservation] = field(default_factory=dict)
    reserve_keys: dict[tuple[int, str], UUID] = field(default_factory=dict)
    purchase_keys: dict[tuple[int, str], UUID] = field(default_factory=dict)
    purchases: dict[UUID, str] = field(default_factory=dict)

    @property
    def committed(self) -> int:
        """Units held and sold."""
        held = sum(reservation.live for reservation in self.reservations.values())
        return held + sum(status == "paid" for status in self.purchases.values())

    def held_by(self, user: int) -> Reservation | None:
        """The user's ACTIVE reservation, due or not."""
        return next((r for r in self.reservations.values() if r.user == user and r.status == "ACTIVE"), None)


class CallsAgainstModel(RuleBasedStateMachine):
    """Two drops, five users, and every function that can be called."""

    connection: psycopg.Connection[Row]

    @initialize(totals=st.lists(st.integers(1, 4), min_size=2, max_size=2))
    def open_shop(self, totals: list[int]) -> None:
        self.users = [self.row("select id from api.create_user($1)", uuid4().hex)["id"] for _ in range(USERS)] + [uuid4()]
        self.drops = []
        for total in totals:
            row = self.row("select id from api.create_drop('property', 1, $1, $2, now())", total, self.users[0])
            self.drops.append(Drop(row["id"], total))  # type: ignore[arg-type]

    def rows(self, statement: str, *arguments: object) -> list[Row]:
        """Call a function."""
        return self.connection.execute(statement.encode(), arguments).fetchall()

    def row(self, statement: str, *arguments: object) -> Row:
        """Call a function that answers one row."""
        [row] = self.rows(statement, *arguments)
        return row

    def refusal(self, statement: str, *arguments: object) -> str | None:
        """The code a function raises, if it raises one."""
        try:
            self.rows(statement, *arguments)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("PT"):
                raise
            return error.diag.message_primary
        return None

    def reload(self, drop: Drop) -> None:
        """See which due holds have been taken back meanwhile; nothing else may have changed by itself."""
        for row in self.rows("select id, status from inventory.reservations where drop_id = $1", drop.id):
            reservation = drop.reservations[row["id"]]  # type: ignore[index]
            if reservation.status == "ACTIVE" and reservation.due:
                assert row["status"] in ("ACTIVE", "EXPIRED")
                reservation.status = str(row["status"])
            assert row["status"] == reservation.status

    @rule(which=drop_numbers, batch=batches)
    def reserve(self, which: int, batch: list[Request]) -> None:
        drop = self.drops[which]
        users, keys = [self.users[user] for user, _ in batch], [key for _, key in batch]
        outcomes = self.rows(RESERVE, drop.id, users, keys, 600)
        for (user, key), outcome in zip(batch, outcomes, strict=True):
            held = drop.held_by(user)
            if key is not None and (user, key) in drop.reserve_keys:
                expected, replayed = None, True
                assert outcome["data"]["id"] == str(drop.reserve_keys[user, key])  # type: ignore[index]
            else:
                replayed = False
                if user == UNKNOWN_USER:
                    expected = "AUTH_REQUIRED"
                elif drop.status != "live":
                    expected = "DROP_NOT_ACTIVE"
                elif held is not None and held.live:
                    expected = "ALREADY_RESERVED"
                else:
                    expected = "OUT_OF_STOCK" if drop.committed >= drop.total else None
            assert (outcome["code"], outcome["replayed"]) == (expected, replayed)
            if expected is None and not replayed:
                if held is not None:
                    held.status = "EXPIRED"
                reservation = Reservation(UUID(outcome["data"]["id"]), user)  # type: ignore[index]
                drop.reservations[reservation.id] = reservation
                if key is not None:
                    drop.reserve_keys[user, key] = reservation.id
        self.reload(drop)

    @rule(which=drop_numbers, batch=batches)
    def purchase(self, which: int, batch: list[Request]) -> None:
        drop = self.drops[which]
        users, keys = [self.users[user] for user, _ in batch], [key for _, key in batch]
        outcomes = self.rows(PURCHASE, drop.id, users, keys)
        for (user, key), outcome in zip(batch, outcomes, strict=True):
            held = drop.held_by(user)
            replayed = key is not None and (user, key) in drop.purchase_keys
            if replayed:
                expected = None
                assert outcome["data"]["id"] == str(drop.purchase_keys[user, key])  # type: ignore[index]
            elif user == UNKNOWN_USER:
                expected = "AUTH_REQUIRED"
            elif held is None:
                expected = "NO_ACTIVE_RESERVATION"
            elif held.due:
                expected, held.status = "RESERVATION_EXPIRED", "EXPIRED"
            else:
                expected, held.status = None, "CONSUMED"
                purchase_id = UUID(outcome["data"]["id"])  # type: ignore[index]
                drop.purchases[purchase_id] = "paid"
                if key is not None:
                    drop.purchase_keys[user, key] = purchase_id
            assert (outcome["code"], outcome["replayed"]) == (expected, replayed)
        self.reload(drop)

    @precondition(lambda self: any(drop.reservations for drop in self.drops))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        everything = [(drop, reservation) for drop in self.drops for reservation in drop.reservations.values()]
        batch = data.draw(st.lists(st.tuples(st.sampled_from(everything), st.booleans()), min_size=1, max_size=6))
        outcomes = self.rows(
            CANCEL,
            [reservation.id for (_, reservation), _ in batch],
            [self.users[reservation.user if own else (reservation.user + 1) % USERS] for (_, reservation), own in batch],
        )
        by_n = {row["n"]: row["code"] for row in outcomes}
        for n, ((_, reservation), own) in enumerate(batch, start=1):
            if not own:
                expected = "RESERVATION_NOT_FOUND"
            elif reservation.status != "ACTIVE":
                expected = "RESERVATION_NOT_ACTIVE"
            elif reservation.due:
                expected, reservation.status = "RESERVATION_EXPIRED", "EXPIRED"
            else:
                expected, reservation.status = None, "CANCELLED"
            assert by_n[n] == expected
        for drop in self.drops:
            self.reload(drop)

    @precondition(lambda self: any(r.live for drop in self.drops for r in drop.reservations.values()))
    @rule(data=st.data())
    def let_time_pass(self, data: st.DataObject) -> None:
        live = [r for drop in self.drops for r in drop.reservations.values() if r.live]
        for reservation in data.draw(st.lists(st.sampled_from(live), min_size=1, max_size=3)):
            self.connection.execute("update inventory.reservations set expires_at = now() where id = $1", [reservation.id])
            reservation.due = True

    @precondition(lambda self: any(r.due for drop in self.drops for r in drop.reservations.values()))
    @rule(limit=st.sampled_from([1, 1, 1, 1000]))
    def sweep(self, limit: int) -> None:
        self.rows("select * from api.expire_reservations($1)", limit)
        for drop in self.drops:
            self.reload(drop)
            if limit == 1000:
                assert not any(r.due for r in drop.reservations.values() if r.status == "ACTIVE")

    @rule(which=drop_numbers, total=st.integers(0, 6))
    def restock(self, which: int, total: int) -> None:
        drop = self.drops[which]
        code = self.refusal("select * from api.update_drop($1, jsonb_build_object('total_stock', $2::integer))", drop.id, total)
        if total < 1:
            assert code == "VALIDATION_ERROR"
        elif total < drop.committed:
            assert code == "STOCK_BELOW_COMMITTED"
        else:
            assert code is None
            drop.total = total
        self.reload(drop)

    @precondition(lambda self: any(drop.purchases for drop in self.drops))
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        drop, purchase_id = data.draw(st.sampled_from([(drop, purchase) for drop in self.drops for purchase in drop.purchases]))
        code = self.refusal("select * from api.refund_purchase($1)", purchase_id)
        assert code == (None if drop.purchases[purchase_id] == "paid" else "INVALID_STATUS_CHANGE")
        drop.purchases[purchase_id] = "refunded"

    @rule(which=drop_numbers, status=st.sampled_from(["live"] * 40 + ["draft", "scheduled", "ended", "cancelled"]))
    def change_status(self, which: int, status: str) -> None:  # mostly to live again, because a drop that is over refuses all
        drop = self.drops[which]
        code = self.refusal("select * from api.update_drop($1, jsonb_build_object('status', $2::text))", drop.id, status)
        legal = status == drop.status or (drop.status == "live" and status in ("ended", "cancelled"))
        assert code == (None if legal else "INVALID_STATUS_CHANGE")
        if legal:
            drop.status = status
        if drop.status == "cancelled":
            for reservation in drop.reservations.values():
                if reservation.status == "ACTIVE":
                    reservation.status = "CANCELLED"
        self.reload(drop)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "drops"):
            return
        assert self.rows("select * from api.audit() where drop_id = any ($1)", [drop.id for drop in self.drops]) == []
        for drop in self.drops:
            row = self.row("select total_stock, available_stock from api.get_drop($1)", drop.id)
            due = sum(r.status == "ACTIVE" and r.due for r in drop.reservations.values())
            assert row == {"total_stock": drop.total, "available_stock": drop.total - drop.committed - due}


@pytest.fixture(scope="module")
def connection(database: Database) -> Iterator[psycopg.Connection[Row]]:
    """The owner's connection, for the calls and for letting time pass. It does not wait for the disk."""
    with psycopg.connect(database.url, autocommit=True, row_factory=dict_row, cursor_factory=RawCursor) as connection:
        connection.execute("set synchronous_commit = off")
        yield connection


@pytest.mark.parametrize("examples", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_the_database_agrees_with_the_model(connection: psycopg.Connection[Row], examples: int) -> None:
    """Random calls, legal and illegal, alone and in batches, have the outcomes and leave the rows that the model has."""
    CallsAgainstModel.connection = connection
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        CallsAgainstModel,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
