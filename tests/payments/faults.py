"""A fault run of payments: buyers and sellers over HTTP, while processes are killed and a provider answers late, twice or never.

    PYTHONPATH=app:. .venv/bin/python -m tests.payments.faults --provider stripe --payments 5000 --seed 1

At the end everything is let settle, and the provider and the database must agree to the cent. It exits with 1 if they do not, and
prints what is wrong. The seed decides who does what; the machine decides in which order it happens.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from json import loads

import asyncpg
import httpx

from lastpair.database.migrate import migrate
from tests.support.commands import lastpair
from tests.support.database import fresh_embedded_database
from tests.support.envelopes import LONG_AGO, SOON, as_user
from tests.support.factories import make_user, make_users
from tests.support.faulty_bank import FaultyBank, RefusedError, faulty_bank, settings_of
from tests.support.killable import KillableService
from tests.support.row_checks import Row

PROCESSES = 2
DROPS = 12
SETTLE_ROUNDS = 60
STORIES = {
    "pays": 24,
    "is declined, then pays": 8,
    "never pays": 7,
    "cancels": 7,
    "cancels and pays at once": 6,
    "pays too late": 10,
    "pays as the time ends": 8,
    "is refunded here": 8,
    "is refunded here in part": 8,
    "is refunded there": 5,
    "is refunded there in part": 5,
    "is refunded here and there at once": 6,
}
"""What a buyer does, or what happens to the payment, and how often."""

MAKE_DUE = """
with moved as (
  update inventory.payments set expires_at = now() where id = $1 and status in ('pending', 'failed') returning id, expires_at
)
update inventory.purchases p set payment_expires_at = m.expires_at from moved m where p.payment_id = m.id
"""
MAKE_ALL_DUE = """
with moved as (
  update inventory.payments set expires_at = now() where status in ('pending', 'failed') returning id, expires_at
)
update inventory.purchases p set payment_expires_at = m.expires_at from moved m where p.payment_id = m.id
"""
UNSETTLED = """
select
  (select count(*) from inventory.payments where status in ('pending', 'failed')),
  (select count(*) from inventory.purchases where status = 'pending'),
  (select count(*) from inventory.reservations where status = 'ACTIVE'),
  (select count(*) from inventory.provider_calls where done_at is null and gave_up_at is null)
"""
CALLS_ARE_DUE = "update inventory.provider_calls set next_attempt_at = now() where done_at is null and gave_up_at is null"
LATEST_UPDATE = """
select distinct on (e.data -> 'payment' ->> 'id') e.data -> 'payment' ->> 'id' as id, e.data -> 'payment' ->> 'status' as status,
  (e.data -> 'payment' ->> 'refunded_amount')::numeric as refunded_amount
from inventory.events e where e.type = 'PAYMENT_UPDATED' order by 1, e.id desc
"""
COMPLETED = """
select p.id::text, p.status, p.qty, y.status as payment_status, (
  select count(*) from inventory.events e
  where e.drop_id = p.drop_id and e.type = 'PURCHASE_COMPLETED' and e.data ->> 'username' = u.username) as announced
from inventory.purchases p
join inventory.users u on u.id = p.user_id
join inventory.payments y on y.id = p.payment_id
"""
UNLIKE_ITS_PURCHASES = """
select distinct y.id::text from inventory.payments y join inventory.purchases p on p.payment_id = y.id
where case y.status
  when 'paid' then p.status not in ('paid', 'refunded')
  when 'refunded' then p.status not in ('refunded', 'cancelled')
  else p.status <> y.status
end
"""
STOCK = """
select d.id::text, d.total_stock, d.available_stock,
  coalesce(sum(p.qty - p.refunded_qty) filter (where p.status = 'paid'), 0) as sold
from inventory.drops d left join inventory.purchases p on p.drop_id = d.id group by d.id
"""


class FaultRun:
    """A run: `payments` purchases by as many buyers, `buyers` of them at once."""

    def __init__(self, database_url: str, bank: FaultyBank, seed: int, payments: int, buyers: int) -> None:
        self.found: list[str] = []
        """What must not be."""

        self.counts: Counter[str] = Counter()
        self._database_url, self._bank, self._seed = database_url, bank, seed
        self._payments, self._buyers = payments, buyers
        self._chance = random.Random(f"run {seed}")  # noqa: S311 - chance that can be repeated, not a secret
        # The sessions are few, because two processes and this one share the server's.
        environment = {
            "DATABASE_URL": database_url,
            "EXPIRY_POLL_MS": "200",
            "DATABASE_POOL_SIZE": "10",
            "PURCHASER_NAMES": "full",
        }
        environment |= {"PAYMENT_TTL_SECONDS": "900", "EVENT_RETENTION_SECONDS": "86400", "RESERVATION_TTL_SECONDS": "120"}
        self._processes = [KillableService(environment | settings_of(bank)) for _ in range(PROCESSES)]
        path = "stripe" if bank.kind == "stripe" else "payments"
        bank.webhook_urls = [f"{process.url}/api/webhooks/{path}" for process in self._processes]
        self._drops: list[Row] = []
        self._environment = environment | settings_of(bank)

    async def run(self) -> list[str]:
        """Do it all; returns what is wrong."""
        limits = httpx.Limits(max_connections=300)
        async with (
            asyncpg.create_pool(self._database_url, min_size=1, max_size=10) as self._owner,
            httpx.AsyncClient(timeout=40, limits=limits) as self._http,
        ):
            self._seller = await make_user(self._owner)
            users = iter(await make_users(self._owner, self._payments))
            for process in self._processes:
                process.start()
            try:
                for _ in range(DROPS):
                    self._drops.append(await self._new_drop())
                breaking = [asyncio.create_task(self._break()), asyncio.create_task(self._reconcile_on())]
                numbers = iter(range(self._payments))
                try:
                    async with asyncio.TaskGroup() as group:
                        for _ in range(self._buyers):
                            group.create_task(self._buy_on(numbers, users))
                finally:
                    for task in breaking:
                        task.cancel()
                    await asyncio.gather(*breaking, return_exceptions=True)
                await self._settle()
                await self._check()
            finally:
                for process in self._processes:
                    process.kill()
        return self.found

    # Over HTTP

    async def _ask(self, method: str, path: str, user: str, body: Row | None = None, key: str | None = None) -> tuple[int, Row]:
        # The answer of any process, asked again with the same key until one answers.
        headers = as_user(user, idempotency_key=key) if key else as_user(user)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                url = f"{self._chance.choice(self._processes).url}/api{path}"
                answer = await self._http.request(method, url, json=body, headers=headers)
            except httpx.TransportError:
                await asyncio.sleep(self._chance.uniform(0.05, 0.4))
                continue
            if answer.status_code == 503:
                self.counts["answers 503"] += 1
                await asyncio.sleep(self._chance.uniform(0.05, 0.4))
                continue
            if answer.status_code >= 500:
                self.found.append(f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}")
            told = loads(answer.text, parse_float=Decimal)
            return answer.status_code, told.get("data") or told["error"]
        raise AssertionError(f"{method} {path} was not answered")

    async def _new_drop(self) -> Row:
        stock = self._chance.choice([3, 8, 20, 60])
        price = self._chance.choice([10, 19.99, 199.9, 0.5])
        body = {"name": "Air One", "price": price, "total_stock": stock, "starts_at": LONG_AGO, "ends_at": SOON}
        status, data = await self._ask("POST", "/drops", self._seller, body)
        assert status == 201, data
        drop: Row = data["drop"]
        return drop

    async def _replace(self, drop: Row) -> None:
        # Sell another drop instead, if nobody has done so meanwhile.
        new = await self._new_drop()
        self._drops = [new if each["id"] == drop["id"] else each for each in self._drops]

    # Buyers

    async def _buy_on(self, numbers: Iterator[int], users: Iterator[str]) -> None:
        for number in numbers:
            chance = random.Random(f"{self._seed} {number}")  # noqa: S311 - chance that can be repeated, not a secret
            user = next(users)
            payment, purchases = await self._bought(user, chance)
            story = chance.choices(list(STORIES), list(STORIES.values()))[0]
            self.counts[story] += 1
            await self._live(story, payment, purchases, user, chance)
            if chance.random() < 0.01:
                await self._cancel_a_drop(chance)
            if chance.random() < 0.05:
                self._bank.tell_of_unknown(chance.choice([1, 4, 8]))
            if (number + 1) % 100 == 0:
                print(f"{time.strftime('%H:%M:%S')} {number + 1} payments, {len(self.found)} findings", flush=True)

    async def _bought(self, user: str, chance: random.Random) -> tuple[Row, list[Row]]:
        # Buy on some drop that has units. One that has none is replaced by a new one.
        attempt = 0
        while True:
            attempt += 1
            key = f"{user}-{attempt}"
            drop = chance.choice(self._drops)
            if chance.random() < 0.1 and attempt < 4:
                other = chance.choice(self._drops)
                items = [{"drop_id": each["id"]} for each in ({drop["id"]: drop} | {other["id"]: other}).values()]
                status, data = await self._ask("POST", "/baskets", user, {"items": items}, key)
                if status in {200, 201}:
                    path = f"/baskets/{data['basket']['id']}/purchase"
                    status, data = await self._ask("POST", path, user, None, f"{key}-purchase")
                    if status in {200, 201}:
                        return data["payment"], data["purchases"]
            else:
                body = {"qty": chance.choice([1, 1, 1, 2, 3])}
                status, data = await self._ask("POST", f"/drops/{drop['id']}/reserve", user, body, key)
                if status in {200, 201}:
                    status, data = await self._ask("POST", f"/drops/{drop['id']}/purchase", user, None, f"{key}-purchase")
                    if status in {200, 201}:
                        return data["payment"], [data["purchase"]]
            assert status == 409, (status, data)
            self.counts["refused"] += 1
            if attempt % 3 == 0 or chance.random() < 0.3:
                await self._replace(drop)

    async def _live(self, story: str, payment: Row, purchases: list[Row], user: str, chance: random.Random) -> None:
        payment_id = payment["id"]
        match story:
            case "never pays":
                return
            case "cancels":
                await self._cancel(payment_id, user)
                return
        if not await self._can_be_paid(payment, user):
            self.counts["could not pay"] += 1
            return
        await asyncio.sleep(chance.choice([0, 0, chance.uniform(0, 0.5)]))
        match story:
            case "is declined, then pays":
                self._bank.decline(payment_id)
                await asyncio.sleep(chance.choice([0, chance.uniform(0, 1)]))
            case "pays too late":
                await self._make_due(payment_id)
                await asyncio.sleep(chance.choice([0, chance.uniform(0, 2)]))
            case "pays as the time ends":
                due = asyncio.create_task(self._make_due(payment_id))
                await asyncio.sleep(chance.choice([0, chance.uniform(0, 0.05)]))
                self._pay(payment_id)
                await due
                return
            case "cancels and pays at once":
                cancelled = asyncio.create_task(self._cancel(payment_id, user))
                await asyncio.sleep(chance.choice([0, chance.uniform(0, 0.1)]))
                self._pay(payment_id)
                await cancelled
                return
        if not self._pay(payment_id) or not story.startswith("is refunded"):
            return
        here, there = "here" in story, "there" in story
        amount = payment["amount"]
        if "in part" in story:
            amount = max(Decimal("0.01"), (amount * Decimal(chance.choice([0.1, 0.5, 0.9]))).quantize(Decimal("0.01")))
        if there and not here and chance.random() < 0.5:
            self._refund_there(payment_id, amount)  # it may be told before that it was paid
            return
        if not await self._is_paid(payment_id, user):
            return
        refunds = [self._refund_here(purchase, chance, in_part="in part" in story) for purchase in purchases] if here else []
        if there:
            if here:
                amount = chance.choice([amount, (amount / 2).quantize(Decimal("0.01"))])
            await asyncio.gather(
                *refunds, self._refund_there_soon(payment_id, amount, chance.choice([0, chance.uniform(0, 0.1)]))
            )
        else:
            await asyncio.gather(*refunds)

    def _pay(self, payment_id: str) -> bool:
        is_paid = self._bank.pay(payment_id)
        self.counts["paid at the provider" if is_paid else "not payable there"] += 1
        return is_paid

    async def _can_be_paid(self, payment: Row, user: str) -> bool:
        for _ in range(120):
            if payment["client_secret"] or payment["url"]:
                return True
            await asyncio.sleep(0.5)
            _, data = await self._ask("GET", f"/payments/{payment['id']}", user)
            payment = data["payment"]
            if payment["status"] not in {"pending", "failed"}:
                return False
        return False

    async def _is_paid(self, payment_id: str, user: str) -> bool:
        for _ in range(24):  # its webhook may be lost
            _, data = await self._ask("GET", f"/payments/{payment_id}", user)
            if data["payment"]["status"] == "paid":
                return True
            await asyncio.sleep(0.25)
        return False

    async def _cancel(self, payment_id: str, user: str) -> None:
        status, data = await self._ask("DELETE", f"/payments/{payment_id}", user)
        if status not in {200, 409}:
            self.found.append(f"cancelling {payment_id} was answered {status}: {data}")

    async def _refund_here(self, purchase: Row, chance: random.Random, *, in_part: bool) -> None:
        for number in range(2 if in_part and purchase["qty"] > 1 else 1):
            body = {"qty": 1} if in_part else None
            path, key = f"/purchases/{purchase['id']}/refund", f"{purchase['id']}-{number}"
            answers = await asyncio.gather(
                *(self._ask("POST", path, self._seller, body, key) for _ in range(chance.choice([1, 1, 2])))
            )
            for status, data in answers:
                if status not in {200, 409}:
                    self.found.append(f"refunding {purchase['id']} was answered {status}: {data}")

    def _refund_there(self, payment_id: str, amount: Decimal) -> None:
        account = self._bank.accounts[payment_id]
        try:
            self._bank.refund(account, amount)
        except RefusedError:
            self.counts["refused there"] += 1

    async def _refund_there_soon(self, payment_id: str, amount: Decimal, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._refund_there(payment_id, amount)

    async def _make_due(self, payment_id: str) -> None:
        async with self._owner.acquire() as session, session.transaction():
            await session.execute("select from inventory.lock_payment($1, 2)", payment_id)
            await session.execute(MAKE_DUE, payment_id)

    async def _cancel_a_drop(self, chance: random.Random) -> None:
        drop = chance.choice(self._drops)
        await self._replace(drop)
        status, data = await self._ask("POST", f"/drops/{drop['id']}/cancel", self._seller, {"refund": True}, drop["id"])
        self.counts["drops cancelled"] += 1
        if status != 200:
            self.found.append(f"cancelling the drop {drop['id']} was answered {status}: {data}")

    async def _break(self) -> None:
        # Kill a process now and then, some of them before they serve. On a slow machine they live longer.
        while True:
            process = self._chance.choice(self._processes)
            if self._chance.random() < 0.8:
                begin = time.monotonic()
                await self._is_ready(process)
                await asyncio.sleep(time.monotonic() - begin + self._chance.uniform(0, 10))
            await asyncio.to_thread(process.kill)
            await asyncio.sleep(self._chance.choice([0, self._chance.uniform(0, 1)]))
            process.start()

    async def _is_ready(self, process: KillableService) -> None:
        while True:
            try:
                if (await self._http.get(f"{process.url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.3)

    # The end

    async def _settle(self) -> None:
        self._bank.is_calm = True
        await self._bank.delivered()
        await self._reconcile()
        async with self._owner.acquire() as session, session.transaction():
            await session.execute("select from inventory.drops order by id for no key update")
            await session.execute("update inventory.reservations set expires_at = now() where status = 'ACTIVE'")
            await session.execute(MAKE_ALL_DUE)
        for settled in range(SETTLE_ROUNDS):
            for _ in range(150):
                await self._owner.execute(CALLS_ARE_DUE)
                await asyncio.sleep(1)
                waiting = tuple(await self._owner.fetchrow(UNSETTLED))
                if waiting == (0, 0, 0, 0):
                    break
            await self._bank.delivered()
            print(f"{time.strftime('%H:%M:%S')} unsettled {waiting}", flush=True)
            is_right = await self._reconcile()
            if waiting == (0, 0, 0, 0) and is_right and settled > 0:
                return
        self.found.append(f"it does not settle: {waiting} payments, purchases, holds, calls are open")

    async def _reconcile(self) -> bool:
        # Whether it ended well and found nothing to mend. It may be too slow for `lastpair`, which ends it then.
        ended = await asyncio.to_thread(lastpair, "reconcile", **self._environment)
        print(f"{time.strftime('%H:%M:%S')} {ended.stdout.strip()}", flush=True)
        if "Traceback" in ended.stderr:
            self.found.append(f"reconcile ended with {ended.returncode}: {ended.stderr[-1000:]}")
        self.counts["mended by reconcile"] += int(ended.stdout.partition(" compared: ")[2].split(" ")[0] or 0)
        return ended.returncode == 0 and ": 0 mended, " in ended.stdout

    async def _reconcile_on(self) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(5, 30))
            await self._reconcile()

    async def _check(self) -> None:
        wrong, owner = self.found.append, self._owner
        for row in await owner.fetch("select * from api.audit()"):
            wrong(f"audit: {tuple(row)}")
        for (payment_id,) in await owner.fetch(UNLIKE_ITS_PURCHASES):
            wrong(f"payment {payment_id} is not as its purchases; {await self._history(payment_id)}")
        rows = await owner.fetch("select *, id::text as text_id from inventory.payments")
        payments = {row["text_id"]: row for row in rows}
        self.counts.update(f"payments {row['status']}" for row in rows)
        for payment_id, row in payments.items():
            if row["status"] not in {"paid", "cancelled", "refunded"}:
                wrong(f"payment {payment_id} is {row['status']}")
            kept = row["amount"] - row["refunded_amount"] if row["status"] == "paid" else Decimal(0)
            account = self._bank.accounts.get(payment_id)
            there = account.kept if account else Decimal(0)
            if kept != there:
                history = await self._history(payment_id)
                wrong(f"payment {payment_id} ({row['status']}) keeps {kept}, the provider {there}; {history}")
        for payment_id in self._bank.accounts.keys() - payments.keys():
            wrong(f"the provider has a payment {payment_id} that the database does not have")
        for row in await owner.fetch("select * from inventory.provider_calls where done_at is null"):
            self.counts[f"gave up {row['action']}"] += 1
            if row["gave_up_at"] is None or not row["last_error"]:
                wrong(f"call {row['id']} to {row['action']} is open")
        recorded = Counter(row["event_id"] for row in await owner.fetch("select event_id from inventory.payment_events"))
        for event_id in self._bank.told:
            if recorded[event_id] != 1:
                wrong(f"the event {event_id} was taken and recorded {recorded[event_id]} times")
        for problem, number in await owner.fetch(
            "select coalesce(problem, outcome), count(*) from inventory.payment_events group by 1"
        ):
            self.counts[f"events {problem}"] = number
        for row in await owner.fetch(STOCK):
            if row["total_stock"] != row["available_stock"] + row["sold"]:
                wrong(f"units of the drop {row['id']} are lost or oversold: {tuple(row)}")
        self.found += [f"the provider was answered: {answer}" for answer in self._bank.wrong_answers]
        await self._check_announcements(payments)
        deadlocks = await owner.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
        if deadlocks:
            wrong(f"{deadlocks} deadlocks")
        log = "".join(process.full_log() for process in self._processes)
        for line in log.splitlines():
            if "Traceback" in line or "fault of ours" in line or '"level":"error"' in line or " ERROR " in line:
                wrong(f"log: {line[:400]}")
        self.counts["webhooks lost"], self.counts["answers broken"] = self._bank.lost, self._bank.broken
        self.counts["kills"] = sum(process.kills for process in self._processes)

    async def _check_announcements(self, payments: dict[str, asyncpg.Record]) -> None:
        wrong = self.found.append
        latest = {row["id"]: row for row in await self._owner.fetch(LATEST_UPDATE)}
        for payment_id, row in payments.items():
            told = latest.get(payment_id)
            if told is None or (told["status"], told["refunded_amount"]) != (row["status"], row["refunded_amount"]):
                wrong(f"payment {payment_id} is {row['status']} -{row['refunded_amount']}, and its buyer was told {told}")
        for row in await self._owner.fetch(COMPLETED):
            was_paid = row["status"] == "paid" or row["payment_status"] == "paid"
            if (
                row["announced"] > 1
                or (was_paid and row["announced"] != 1)
                or (row["status"] == "cancelled" and row["announced"])
            ):
                wrong(f"the purchase {row['id']} ({row['status']}) was announced as completed {row['announced']} times")

    async def _history(self, payment_id: str) -> str:
        events = await self._owner.fetch(
            "select status, refunded_amount, outcome, problem, event_id from inventory.payment_events"
            " where payment_id = $1 order by id",
            payment_id,
        )
        calls = await self._owner.fetch(
            "select action, amount, attempts, done_at is not null as is_done, last_error from inventory.provider_calls"
            " where payment_id = $1 order by id",
            payment_id,
        )
        account = self._bank.accounts.get(payment_id)
        row = await self._owner.fetchrow(
            "select amount, refunded_amount, status from inventory.payments where id = $1", payment_id
        )
        bought = await self._owner.fetch(
            "select drop_id::text, status, qty, refunded_qty, refunded_amount, payment_expires_at from inventory.purchases"
            " where payment_id = $1",
            payment_id,
        )
        both = f"{tuple(row)}\n    {account}\n    purchases {[tuple(p) for p in bought]}"
        return f"{both}\n    events {[tuple(e) for e in events]}\n    calls {[tuple(c) for c in calls]}"


async def fault_run(database_url: str, provider: str, seed: int, payments: int, buyers: int) -> FaultRun:
    """Do a run on this database; returns it with what it found and counted."""
    async with faulty_bank(provider, seed) as bank:
        run = FaultRun(database_url, bank, seed, payments, buyers)
        await run.run()
        return run


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Payments under failure.")
    parser.add_argument("--provider", choices=["stripe", "webhook"], default="stripe")
    parser.add_argument("--payments", type=int, default=5000)
    parser.add_argument("--buyers", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begin = time.monotonic()
    with fresh_embedded_database() as database:
        asyncio.run(migrate(database.url))
        run = asyncio.run(fault_run(database.url, given.provider, given.seed, given.payments, given.buyers))
    for name, number in sorted(run.counts.items()):
        print(f"{number:8} {name}")
    for finding in run.found:
        print(f"WRONG: {finding}")
    seconds = time.monotonic() - begin
    print(f"{given.provider}, seed {given.seed}: {given.payments} payments in {seconds:.0f} s, {len(run.found)} findings")
    return 1 if run.found else 0


if __name__ == "__main__":
    sys.exit(main())
