"""Random legal and illegal calls against a model of the rules; after each the database must agree with the model.

A batch is its requests one after the other. Time passes only when the test says so, by moving back the end of a hold or payment.
"""

from collections.abc import Iterator
from json import dumps
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from psycopg import RawCursor
from psycopg.rows import dict_row

from tests.support.batch_statements import CANCEL, PURCHASE_NAMED, RESERVE_BASKETS, RESERVE_VARIANTS
from tests.support.drop_model import Basket, Drop, Payment, Reservation
from tests.support.payments import EVENT

Row = dict[str, object]
Request = tuple[int, str | None, int | None, int]
"""The number of a user, an Idempotency-Key, the number of a variant (None: none is named), and units."""

USERS = 5
UNKNOWN_USER = USERS  # the number of one more, who does not exist
VARIANTS = 2
NO_VARIANT = VARIANTS  # the number of one that is another drop's
user_numbers = st.sampled_from([*range(USERS)] * 4 + [UNKNOWN_USER])
keys = st.sampled_from([None, None, "a", "b"])
requests = st.tuples(user_numbers, keys, st.sampled_from([0, 0, 0, 1, 1, 1, None, NO_VARIANT]), st.sampled_from([1, 1, 1, 2, 3]))
batches = st.lists(requests, min_size=1, max_size=10)
drop_numbers = st.integers(0, 1)
items = st.lists(st.tuples(drop_numbers, requests.map(lambda request: request[2:])), min_size=1, max_size=3)
baskets = st.lists(st.tuples(user_numbers, keys, items), min_size=1, max_size=4)


class CallsAgainstModel(RuleBasedStateMachine):
    """Two drops, the second with variants, five users, and every function that can be called."""

    connection: psycopg.Connection[Row]

    @initialize(
        totals=st.lists(st.integers(1, 5), min_size=1 + VARIANTS, max_size=1 + VARIANTS), limit=st.sampled_from([None, 2, 3])
    )
    def open_shop(self, totals: list[int], limit: int | None) -> None:
        self.users = [self.row("select id from api.create_user($1)", uuid4().hex)["id"] for _ in range(USERS)] + [uuid4()]
        self.drops: list[Drop] = []
        self.baskets: dict[UUID, Basket] = {}
        self.basket_keys: dict[tuple[int, str], UUID] = {}
        self.payments: dict[UUID, Payment] = {}
        self.take_payments("none")
        create = (
            "select id, array(select v.id from unnest(d.variants) v) as variants"
            " from api.create_drop('property', 1, $1, $2, now(), p_variants => $3, p_terms => $4) d"
        )
        terms = dumps({"extension_seconds": 30} | ({} if limit is None else {"limit_per_user": limit}))
        sizes = dumps([{"name": str(n), "total_stock": total} for n, total in enumerate(totals[1:])])
        for total, variants in ((totals[0], None), (None, sizes)):
            row = self.row(create, total, self.users[0], variants, terms)
            ids: list[UUID | None] = row["variants"] or [None]  # type: ignore[assignment]
            of_variants = dict(zip(ids, totals[:1] if variants is None else totals[1:], strict=True))
            self.drops.append(Drop(row["id"], of_variants, limit))  # type: ignore[arg-type]

    def rows(self, statement: str, *arguments: object) -> list[Row]:
        """Call a function."""
        return self.connection.execute(statement.encode(), arguments).fetchall()

    def row(self, statement: str, *arguments: object) -> Row:
        """Call a function that answers one row."""
        [row] = self.rows(statement, *arguments)
        return row

    def answer(self, statement: str, *arguments: object) -> tuple[str | None, list[Row]]:
        """The code a function raises, if it raises one, and the rows it returns."""
        try:
            return None, self.rows(statement, *arguments)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("PT"):
                raise
            return error.diag.message_primary, []

    @rule(provider=st.sampled_from(["none", "stripe"]))
    def take_payments(self, provider: str) -> None:
        self.provider = provider
        self.row("select from api.set_payment_provider($1, 600)", provider)

    def sell(self, drop: Drop, user: int, row: Row, reservation: Reservation) -> None:
        """A purchase was made: it is paid, or a provider takes the money."""
        purchase_id = UUID(str(row["id"]))
        drop.purchases[purchase_id] = reservation
        assert row["status"] == ("paid" if self.provider == "none" else "pending")
        if self.provider == "none":
            assert row["payment_id"] is None
        else:
            payment_id = UUID(str(row["payment_id"]))
            payment = self.payments.setdefault(payment_id, Payment(payment_id, user))
            payment.purchases.append((drop, purchase_id, reservation))
            drop.payments[purchase_id] = payment

    def reload(self, drop: Drop) -> None:
        """See which due holds have been taken back meanwhile; nothing else may have changed by itself."""
        for row in self.rows("select id, status from inventory.reservations where drop_id = $1", drop.id):
            reservation = drop.reservations[row["id"]]  # type: ignore[index]
            if reservation.status == "ACTIVE" and reservation.due:
                assert row["status"] in ("ACTIVE", "EXPIRED")
                reservation.status = str(row["status"])
            assert row["status"] == reservation.status

    def variant_of(self, drop: Drop, number: int | None) -> UUID | None:
        """The id of this variant of the drop; on a drop without variants only the one of another drop is named."""
        if number == NO_VARIANT:
            return self.drops[0].id  # not the id of a variant
        ids = [variant for variant in drop.totals if variant is not None]
        return ids[number] if ids and number is not None else None

    @rule(which=drop_numbers, batch=batches)
    def reserve(self, which: int, batch: list[Request]) -> None:
        drop = self.drops[which]
        users, keys = [self.users[user] for user, *_ in batch], [key for _, key, *_ in batch]
        variants, qtys = [self.variant_of(drop, number) for *_, number, _ in batch], [qty for *_, qty in batch]
        outcomes = self.rows(RESERVE_VARIANTS, drop.id, users, keys, 600, variants, qtys)
        for (user, key, _, qty), variant, outcome in zip(batch, variants, outcomes, strict=True):
            expected, replayed = None, False
            if key is not None and (user, key) in drop.reserve_keys:
                first = drop.reservations[drop.reserve_keys[user, key]]
                if (first.variant, first.qty) != (variant, qty):
                    expected = "IDEMPOTENCY_KEY_REUSED"
                else:
                    replayed = True
                    assert outcome["data"]["id"] == str(first.id)  # type: ignore[index]
            elif user == UNKNOWN_USER:
                expected = "AUTH_REQUIRED"
            else:
                expected = drop.refusal(user, variant, qty)
            assert (outcome["code"], outcome["replayed"]) == (expected, replayed)
            if expected is None and not replayed:
                assert outcome["data"]["amount"] == qty * drop.price  # type: ignore[index]
                reservation = drop.hold(UUID(outcome["data"]["id"]), user, variant, qty)  # type: ignore[index]
                if key is not None:
                    drop.reserve_keys[user, key] = reservation.id
        self.reload(drop)

    @rule(which=drop_numbers, batch=batches, data=st.data())
    def purchase(self, which: int, batch: list[Request], data: st.DataObject) -> None:
        drop = self.drops[which]
        named: list[UUID | None] = [
            data.draw(st.sampled_from([None, *[r.id for r in drop.reservations.values()]])) if qty > 1 else None
            for *_, qty in batch
        ]
        users, keys = [self.users[user] for user, *_ in batch], [key for _, key, *_ in batch]
        outcomes = self.rows(PURCHASE_NAMED, drop.id, users, keys, named)
        for (user, key, *_), name, outcome in zip(batch, named, outcomes, strict=True):
            lives = [reservation for reservation in drop.held_by(user) if reservation.live]
            target = next(iter(lives or drop.held_by(user)), None)
            if name is not None:
                target = drop.reservations[name] if drop.reservations[name].user == user else None
            expected, replayed = None, False
            if key is not None and (user, key) in drop.purchase_keys:
                replayed = name is None or name == drop.purchases[drop.purchase_keys[user, key]].id
                expected = None if replayed else "IDEMPOTENCY_KEY_REUSED"
            elif user == UNKNOWN_USER:
                expected = "AUTH_REQUIRED"
            elif name is None and len(lives) > 1:
                expected = "SEVERAL_RESERVATIONS"
            elif target is not None and target.live:
                target.status = "CONSUMED"
                sale_id = UUID(outcome["data"]["id"])  # type: ignore[index]
                assert outcome["data"]["amount"] == target.qty * target.price  # type: ignore[index]
                self.sell(drop, user, outcome["data"], target)  # type: ignore[arg-type]
                if key is not None:
                    drop.purchase_keys[user, key] = sale_id
            else:
                if target is not None and target.due and target.status == "ACTIVE":
                    target.status = "EXPIRED"
                fate = target if name is not None else target or drop.newest_of(user)
                if fate is not None and fate.status == "EXPIRED":
                    expected = "RESERVATION_EXPIRED"
                elif drop.status == "cancelled":
                    expected = "DROP_NOT_ACTIVE"
                elif name is not None and fate is None:
                    expected = "RESERVATION_NOT_FOUND"
                else:
                    expected = "NO_ACTIVE_RESERVATION"
            assert (outcome["code"], outcome["replayed"]) == (expected, replayed)
        self.reload(drop)

    @rule(batch=baskets)
    def reserve_baskets(self, batch: list[tuple[int, str | None, list[tuple[int, tuple[int | None, int]]]]]) -> None:
        asked = []
        for user, key, drawn in batch:
            wanted = {(which, self.variant_of(self.drops[which], number)): qty for which, (number, qty) in drawn}
            asked.append((user, key, [(self.drops[which], variant, qty) for (which, variant), qty in wanted.items()]))
        requests = [
            {
                "user_id": str(self.users[user]),
                "idempotency_key": key,
                "items": [{"drop_id": str(d.id), "variant_id": v and str(v), "qty": qty} for d, v, qty in items],
            }
            for user, key, items in asked
        ]
        outcomes = self.rows(RESERVE_BASKETS, dumps(requests), 600)
        for (user, key, items), outcome in zip(asked, outcomes, strict=True):
            named = [(drop.id, variant, qty) for drop, variant, qty in items]
            expected, replayed, refused = None, False, []
            if user == UNKNOWN_USER:
                expected = "AUTH_REQUIRED"
            elif key is not None and (user, key) in self.basket_keys:
                replayed = self.baskets[self.basket_keys[user, key]].items == named
                expected = None if replayed else "IDEMPOTENCY_KEY_REUSED"
            else:
                refused = self.hold_items(user, items, outcome, key)
                expected = "BASKET_REFUSED" if refused else None
            assert (outcome["code"], outcome["replayed"]) == (expected, replayed)
            if refused:
                assert [(item["index"], item["code"]) for item in outcome["data"]] == refused  # type: ignore[attr-defined]
            if replayed:
                assert outcome["data"]["id"] == str(self.basket_keys[user, key])  # type: ignore[index]
        for drop in self.drops:
            self.reload(drop)

    def hold_items(
        self, user: int, items: list[tuple[Drop, UUID | None, int]], outcome: Row, key: str | None
    ) -> list[tuple[int, str]]:
        """Hold all items in the model, or none; the place and the code of each one that is refused."""
        data = outcome["data"]
        ids = [UUID(held["id"]) for held in data["reservations"]] if outcome["code"] is None else []  # type: ignore[index]
        before = [(reservation, reservation.status) for drop in self.drops for reservation in drop.reservations.values()]
        holds, refused = [], []
        for index, (drop, variant, qty) in enumerate(items):
            code = drop.refusal(user, variant, qty)
            if code is None:
                holds.append((drop, drop.hold(ids[index] if ids else uuid4(), user, variant, qty)))
            else:
                refused.append((index, code))
        if refused:
            for drop, reservation in holds:
                del drop.reservations[reservation.id]
            for reservation, status in before:
                reservation.status = status
        elif ids:
            basket_id = UUID(data["id"])  # type: ignore[index]
            self.baskets[basket_id] = Basket(user, [(drop.id, variant, qty) for drop, variant, qty in items], holds)
            assert [held["amount"] for held in data["reservations"]] == [r.qty * r.price for _, r in holds]  # type: ignore[index]
            if key is not None:
                self.basket_keys[user, key] = basket_id
        return refused

    @precondition(lambda self: self.baskets)
    @rule(data=st.data(), own=st.sampled_from([True] * 5 + [False]))
    def purchase_basket(self, data: st.DataObject, own: bool) -> None:
        basket_id = data.draw(st.sampled_from(list(self.baskets)))
        basket = self.baskets[basket_id]
        statuses = {reservation.status_now for _, reservation in basket.holds}
        if not own:
            expected = "BASKET_NOT_FOUND"
        elif "EXPIRED" in statuses:
            expected = "RESERVATION_EXPIRED"
        elif statuses in ({"ACTIVE"}, {"CONSUMED"}):
            expected = None
        else:
            expected = "BASKET_NOT_ACTIVE"
        user = self.users[basket.user if own else (basket.user + 1) % USERS]
        code, rows = self.answer("select (purchase).*, replayed from api.purchase_basket($1, $2)", basket_id, user)
        assert code == expected
        for (drop, reservation), row in zip(basket.holds, rows, strict=code is None):
            assert (row["reservation_id"], row["amount"]) == (reservation.id, reservation.qty * reservation.price)
            assert row["replayed"] == (row["id"] in drop.purchases) == (reservation.status == "CONSUMED")
            if not row["replayed"]:
                self.sell(drop, basket.user, row, reservation)
            reservation.status = "CONSUMED"
        for drop in self.drops:
            self.reload(drop)

    @precondition(lambda self: self.baskets)
    @rule(data=st.data(), own=st.sampled_from([True] * 5 + [False]))
    def cancel_basket(self, data: st.DataObject, own: bool) -> None:
        basket_id = data.draw(st.sampled_from(list(self.baskets)))
        basket = self.baskets[basket_id]
        if not own:
            expected = "BASKET_NOT_FOUND"
        else:
            expected = "BASKET_NOT_ACTIVE" if any(r.status == "CONSUMED" for _, r in basket.holds) else None
        user = self.users[basket.user if own else (basket.user + 1) % USERS]
        code, _ = self.answer("select * from api.cancel_basket($1, $2)", basket_id, user)
        assert code == expected
        if expected is None:
            for _, reservation in basket.holds:
                reservation.status = {"ACTIVE": "CANCELLED"}.get(reservation.status_now, reservation.status_now)
        for drop in self.drops:
            self.reload(drop)

    @precondition(lambda self: any(drop.reservations for drop in self.drops))
    @rule(data=st.data(), own=st.sampled_from([True] * 5 + [False]))
    def extend(self, data: st.DataObject, own: bool) -> None:
        drop, reservation = data.draw(st.sampled_from([(drop, r) for drop in self.drops for r in drop.reservations.values()]))
        status = reservation.status_now
        if not own:
            expected = "RESERVATION_NOT_FOUND"
        elif status == "EXPIRED":
            expected = "RESERVATION_EXPIRED"
        elif status != "ACTIVE":
            expected = "RESERVATION_NOT_ACTIVE"
        else:
            expected = None if reservation.extended or drop.extends else "EXTENSION_NOT_ALLOWED"
        user = self.users[reservation.user if own else (reservation.user + 1) % USERS]
        code, rows = self.answer("select replayed from api.extend_reservation($1, $2)", reservation.id, user)
        assert code == expected
        if expected is None:
            assert rows == [{"replayed": reservation.extended}]
            reservation.extended = True
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
            elif reservation.status == "CONSUMED":
                expected = "RESERVATION_NOT_ACTIVE"
            elif reservation.status == "CANCELLED":
                expected = None
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

    @rule(which=drop_numbers, number=st.integers(0, VARIANTS - 1), total=st.integers(0, 6), adds=st.booleans())
    def restock(self, which: int, number: int, total: int, adds: bool) -> None:
        drop = self.drops[which]
        variant = self.variant_of(drop, number)
        change: Row = {"add_stock": total - drop.totals[variant]} if adds else {"total_stock": total}
        if variant is not None:
            change = {"variants": [{"id": str(each)} | (change if each == variant else {}) for each in drop.totals]}
        code, _ = self.answer("select * from api.update_drop($1, $2)", drop.id, dumps(change))
        if total < 1:
            assert code == "VALIDATION_ERROR"
        elif total < drop.committed(variant):
            assert code == "STOCK_BELOW_COMMITTED"
        else:
            assert code is None
            drop.totals[variant] = total
        self.reload(drop)

    @rule(
        which=drop_numbers,
        price=st.integers(1, 3),
        limit=st.sampled_from([None, 2, 3]),
        waits=st.integers(0, 3),
        extends=st.booleans(),
    )
    def change_terms(self, which: int, price: int, limit: int | None, waits: int, extends: bool) -> None:
        drop = self.drops[which]
        drop.price, drop.limit, drop.waits, drop.extends = price, limit, waits == 3, extends
        terms = {
            "price": price,
            "limit_per_user": limit,
            "rehold_after_seconds": 600 if drop.waits else 0,
            "extension_seconds": 30 if extends else None,
        }
        assert self.answer("select from api.update_drop($1, $2)", drop.id, dumps(terms)) == (None, [{}])

    @rule(which=drop_numbers, paused=st.sampled_from([False] * 3 + [True]))
    def pause(self, which: int, paused: bool) -> None:
        drop = self.drops[which]
        change = dumps({"paused": paused})
        assert self.answer("select from api.update_drop($1, $2)", drop.id, change) == (None, [{}])
        drop.paused = paused

    @precondition(lambda self: any(drop.purchases for drop in self.drops))
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        drop, purchase_id = data.draw(st.sampled_from([(drop, purchase) for drop in self.drops for purchase in drop.purchases]))
        code, _ = self.answer("select * from api.refund_purchase($1)", purchase_id)
        payment = drop.payments.get(purchase_id)
        is_paid = purchase_id not in drop.refunded and (payment is None or payment.status_now == "paid")
        assert code == (None if is_paid else "INVALID_STATUS_CHANGE")
        if is_paid:
            drop.refunded.add(purchase_id)
            if payment is not None and all(purchase in of.refunded for of, purchase, _ in payment.purchases):
                payment.status = "refunded"

    @precondition(lambda self: self.payments)
    @rule(data=st.data(), status=st.sampled_from(["paid"] * 4 + ["failed", "failed", "cancelled", "refunded"]))
    def hear_of_payment(self, data: st.DataObject, status: str) -> None:
        payment = data.draw(st.sampled_from(list(self.payments.values())))
        before, problem, becomes = payment.status_now, None, status
        legal = {
            "pending": ("paid", "failed", "cancelled", "refunded"),
            "failed": ("paid", "cancelled", "refunded"),
            "cancelled": ("paid", "refunded"),
            "paid": ("refunded",),
            "refunded": (),
        }
        if status not in legal[before]:
            becomes = before
        elif (before, status) == ("cancelled", "paid") and not payment.fits():
            becomes, problem = "refunded", "too_late"
        event_id = uuid4().hex
        for n in range(2):  # the second time it is unchanged
            row = self.row(EVENT, "stripe", event_id, payment.id, status, None)
            outcome = "unchanged" if n or status not in legal[before] else "flagged" if problem else "applied"
            assert (row["outcome"], row["problem"], row["status"]) == (outcome, None if n else problem, becomes)
        if status in legal[before]:
            payment.status = becomes
            if before != "cancelled" and becomes == "refunded":
                for drop, purchase_id, _ in payment.purchases:
                    drop.refunded.add(purchase_id)
        for drop in self.drops:
            self.reload(drop)

    @precondition(lambda self: self.payments)
    @rule(data=st.data(), own=st.sampled_from([True] * 5 + [False]))
    def cancel_payment(self, data: st.DataObject, own: bool) -> None:
        payment = data.draw(st.sampled_from(list(self.payments.values())))
        user = self.users[payment.user if own else (payment.user + 1) % USERS]
        code, _ = self.answer("select * from api.cancel_payment($1, $2)", payment.id, user)
        if not own:
            assert code == "PAYMENT_NOT_FOUND"
        elif payment.status in ("paid", "refunded"):
            assert code == "INVALID_STATUS_CHANGE"
        else:
            assert code is None
            payment.status = "cancelled"

    @precondition(lambda self: any(payment.status_now in ("pending", "failed") for payment in self.payments.values()))
    @rule(data=st.data(), limit=st.sampled_from([None, 1, 1000]))
    def let_payments_end(self, data: st.DataObject, limit: int | None) -> None:
        still_open = [payment for payment in self.payments.values() if payment.status_now in ("pending", "failed")]
        for payment in data.draw(st.lists(st.sampled_from(still_open), min_size=1, max_size=3)):
            self.rows(
                "with ended as (update inventory.payments set expires_at = now() where id = $1)"
                " update inventory.purchases set payment_expires_at = now() where payment_id = $1 returning id",
                payment.id,
            )
            payment.due = True
        if limit is not None:
            self.row("select api.expire_payments($1)", limit)

    @rule(which=drop_numbers, status=st.sampled_from(["live"] * 40 + ["draft", "scheduled", "ended", "cancelled"]))
    def change_status(self, which: int, status: str) -> None:  # mostly to live again, because a drop that is over refuses all
        drop = self.drops[which]
        code, _ = self.answer("select * from api.update_drop($1, $2)", drop.id, dumps({"status": status}))
        legal = status == drop.status or (drop.status == "live" and status in ("ended", "cancelled"))
        assert code == (None if legal else "INVALID_STATUS_CHANGE")
        if legal:
            drop.status = status
        if drop.status == "cancelled":
            for reservation in drop.reservations.values():
                if reservation.status == "ACTIVE":
                    reservation.status = "EXPIRED" if reservation.due else "CANCELLED"
            for payment in drop.payments.values():
                if payment.status in ("pending", "failed"):
                    payment.status = "cancelled"
        self.reload(drop)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "drops"):
            return
        assert self.rows("select * from api.audit() where drop_id = any ($1)", [drop.id for drop in self.drops]) == []
        for payment in self.payments.values():
            shown = self.row("select status from api.get_payment($1, null)", payment.id)["status"]
            assert shown == payment.status_now
        for drop in self.drops:
            row = self.row("select total_stock, available_stock, to_json(variants) as variants from api.get_drop($1)", drop.id)
            left = {variant: total - drop.committed(variant) for variant, total in drop.totals.items()}
            stock_shown = {UUID(v["id"]): v["available_stock"] for v in row["variants"]}  # type: ignore[attr-defined]
            assert (row["total_stock"], row["available_stock"]) == (drop.total, sum(left.values()))
            assert stock_shown == ({} if None in left else left)


@pytest.fixture
def connection(migrated_url: str) -> Iterator[psycopg.Connection[Row]]:
    """The owner's connection, for the calls and for letting time pass. It does not wait for the disk.

    The database is the test's own, because each step ends with an audit, and what other tests have left would make that slow.
    """
    with psycopg.connect(migrated_url, autocommit=True, row_factory=dict_row, cursor_factory=RawCursor) as connection:
        connection.execute("set synchronous_commit = off")
        yield connection


@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.slow)])
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
