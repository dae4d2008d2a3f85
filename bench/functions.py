"""What is measured in PostgreSQL alone: what a call costs beside plain statements, and whether full tables slow it down.

The plain statements write the same rows into copies of the tables, which have the same columns, defaults, checks, indexes and
foreign keys, but no trigger: so nothing is decided, checked against other rows, or announced.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import asyncpg

from bench.bench import Bench, user_id
from bench.load import SECONDS
from bench.rows import Row, medians
from lastpair.database.embedded import BIN_DIR
from tests.support.explained import Explained

GROWN_ROWS = 5_000_000

RESERVE = (
    "select * from api.reserve_batch("
    "array(select row($1::uuid, u, null, null, null)::api.reserve_request from unnest($2::uuid[]) u), 3600)"
)

COPY_TABLES = """
create schema plain;
do $$
declare
  v_table record;
  v_key record;
begin
  for v_table in
    select c.oid, c.relname, c.reloptions
    from pg_class c
    where c.oid in ('inventory.drops'::regclass, 'inventory.reservations'::regclass)
  loop
    execute format('create table plain.%I (like inventory.%1$I including all)', v_table.relname);
    if v_table.reloptions is not null then
      execute format('alter table plain.%I set (%s)', v_table.relname, array_to_string(v_table.reloptions, ', '));
    end if;
    for v_key in
      select k.conname, pg_get_constraintdef(k.oid) as definition
      from pg_constraint k
      where k.conrelid = v_table.oid and k.contype = 'f'
    loop
      execute format('alter table plain.%I add constraint %I %s', v_table.relname, v_key.conname, v_key.definition);
    end loop;
  end loop;
end
$$
"""

# pgbench's scripts. Each run takes the next users, and both name them in the same way.
USERS = (
    "array(select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"
    " from generate_series(:user::integer - {units} + 1, :user::integer) n)"
)
CALL = r"""
\set user :user + {units}
select count(*) from api.reserve_batch(
  array(select row('{drop}', u, null, null, null)::api.reserve_request from unnest({users}) u), 3600);
"""
CALL_WITH_KEYS = CALL.replace("u, null", "u, u::text")
# Both statements go to the server together and are one transaction, so there is one round trip, as with a call.
PLAIN = r"""
\set user :user + {units}
\startpipeline
insert into plain.reservations (drop_id, user_id, qty, unit_price, currency, expires_at)
select '{drop}', u, 1, 1, 'USD', now() + interval '1 hour' from unnest({users}) u;
update plain.drops set available_stock = available_stock - {units}, updated_at = now() where id = '{drop}';
\endpipeline
"""


def calls(bench: Bench) -> Iterator[Row]:
    """Calls of one request and of a hundred from one client of pgbench, beside an insert and an update of the same rows."""
    bench.script(COPY_TABLES)

    def rate(script: str, units: int) -> float:
        drop_id = bench.drop()
        bench.sql("insert into plain.drops select * from inventory.drops where id = $1", UUID(drop_id))
        with TemporaryDirectory(prefix="lastpair-bench-") as folder:
            file = Path(folder) / "script.sql"
            file.write_text(script.format(drop=drop_id, units=units, users=USERS.format(units=units)))
            options = ["-n", "-M", "prepared", "-c1", "-D", "user=0", f"-T{SECONDS}", "-f", str(file)]
            output = subprocess.run([BIN_DIR / "pgbench", *options, bench.url], capture_output=True, text=True, check=True).stdout
        match = re.search(r"tps = ([\d.]+)", output)
        assert match, output
        assert "number of failed transactions: 0" in output, output
        return float(match[1])

    a_second = medians(
        {
            "call of 1": lambda: rate(CALL, 1),
            "plain of 1": lambda: rate(PLAIN, 1),
            "call of 100": lambda: rate(CALL, 100),
            "plain of 100": lambda: rate(PLAIN, 100),
            "with keys": lambda: rate(CALL_WITH_KEYS, 100),
        }
    )
    yield Row(
        "a call for one reserve, one client, µs ÷ a plain insert and update in one transaction",
        1e6 / a_second["call of 1"],
        1e6 / a_second["plain of 1"],
        2,
        is_upper_bound=True,
    )
    yield Row(
        "calls for 100 reserves, rows a second ÷ insert … select from unnest and one update",
        a_second["call of 100"] * 100,
        a_second["plain of 100"] * 100,
        0.5,
    )
    yield Row(
        "the same with an Idempotency-Key each ÷ without",
        a_second["with keys"] * 100,
        a_second["call of 100"] * 100,
        0.8,
    )


def sweep(bench: Bench) -> Iterator[Row]:
    """100,000 holds that are due, of 20 drops."""
    drops = [UUID(bench.drop(5000)) for _ in range(20)]
    for drop_id in drops:
        bench.sql(RESERVE, drop_id, [user_id(n) for n in range(1, 5001)])
    bench.sql("update inventory.reservations set expires_at = now() where drop_id = any ($1)", drops)
    begin = time.monotonic()
    while bench.sql("select count(*) from api.expire_reservations(1000)")[0][0] == 1000:
        pass
    seconds = time.monotonic() - begin
    [[restored]] = bench.sql("select count(*) from inventory.drops where id = any ($1) and available_stock = 5000", drops)
    assert restored == 20
    yield Row("seconds to sweep 100,000 due reservations of 20 drops", seconds, 1, 5, is_upper_bound=True)


def reserve_seconds(bench: Bench, connection: asyncpg.Connection, units: int) -> float:
    """How long it takes to reserve so many units of a new drop, 64 a call, on one connection."""
    drop_id, users = UUID(bench.drop()), [user_id(n) for n in range(1, units + 1)]
    begin = time.monotonic()
    for first in range(0, units, 64):
        bench.do(connection.fetch(RESERVE, drop_id, users[first : first + 64]))
    return time.monotonic() - begin


def never_analysed(bench: Bench) -> Iterator[Row]:
    """The first reservations of a database, in one session, and as many in another database, once the planner knows it."""
    units, at_once = 100_000, 10_000
    known = bench.another_database()
    reserve_seconds(known, known.connect(), units)
    known.sql("analyze")
    old, new = bench.connect(), known.connect()
    first = later = 0.0
    for _ in range(units // at_once):
        first += reserve_seconds(bench, old, at_once)
        later += reserve_seconds(known, new, at_once)
    known.audit()
    name = "first 100,000 reservations, never analysed, one session ÷ the second 100,000, analysed, a new session"
    yield Row(name, units / first, units / later, 0.9)


def growth(bench: Bench) -> Iterator[Row | str]:
    """Reserves beside 5,000,000 old reservations and purchases, in a session that began when there were none; and their plans.

    They are compared with reserves in another database of the same server, which has no old rows.
    """
    young = bench.another_database()
    connection, young_connection, explained = bench.connect(), young.connect(), bench.explained()
    before = plans(bench, explained)
    reserve_seconds(bench, connection, 10_000)
    drop_id = UUID(bench.drop())
    superuser = bench.connect(as_superuser=True)
    # Without triggers nothing is checked or announced of old times. Ids rise, as those of real rows do.
    bench.do(superuser.execute("set session_replication_role = replica; set synchronous_commit = off"))
    statements = (
        "insert into inventory.reservations (id, drop_id, user_id, status, expires_at)"
        " select lpad(to_hex(n), 32, '0')::uuid, $1, lpad(to_hex(n % 400000), 32, '0')::uuid, 'CONSUMED', now()"
        " from generate_series($2::integer, $3) n",
        "insert into inventory.purchases (id, drop_id, reservation_id, user_id, status)"
        " select id, $1, id, lpad(to_hex(n % 400000), 32, '0')::uuid, 'paid'"
        " from (select n, lpad(to_hex(n), 32, '0')::uuid as id from generate_series($2::integer, $3) n) old",
    )
    users = (
        "insert into inventory.users (id, username)"
        " select lpad(to_hex(n), 32, '0')::uuid, 'old ' || n from generate_series(0, 399999) n"
    )
    bench.do(superuser.execute(users))
    for first in range(1, GROWN_ROWS, 500_000):
        for statement in statements:
            bench.do(superuser.execute(statement, drop_id, first, first + 499_999))
    statement = "update inventory.drops set total_stock = total_stock + $1 where id = $2"
    bench.do(superuser.execute(statement, GROWN_ROWS, drop_id))
    for upkeep in ("vacuum inventory.reservations, inventory.purchases", "checkpoint"):  # which with old rows was long ago
        bench.do(superuser.execute(upkeep))
    units = 5_000
    measures = {
        "old": lambda: reserve_seconds(bench, connection, units),
        "young": lambda: reserve_seconds(young, young_connection, units),
    }
    seconds = medians(measures, rounds=30)
    young.audit()
    name = f"reserve beside {GROWN_ROWS:,} old reservations and purchases ÷ none"
    yield Row(name, units / seconds["old"], units / seconds["young"], 0.95)

    for session in (explained, bench.explained()):
        assert plans(bench, session) == before
    yield (
        "\nThe plans of the statements of a call for 64 reserves that touch tables which grow or are hot. These, and those of\n"
        f"calls for 1 and 256, were the same on empty tables and, beside {GROWN_ROWS:,} old rows, in the same session and in\n"
        "a new one:"
        f"\n\n```\n{before[64]}\n```"
    )


def plans(bench: Bench, session: Explained) -> dict[int, str]:
    """By how many requests a call has: the plans of its statements that touch tables which grow or are hot, without figures."""
    found = {}
    for units in (1, 64, 256):
        bench.do(session.indexes(RESERVE, UUID(bench.drop()), [user_id(n) for n in range(1, units + 1)]))
        touching = [
            plan for plan in session.plans if re.search(r"(using \w+|Insert|Update) on (users|reservations|drops)\b", plan)
        ]
        found[units] = "\n\n".join(dict.fromkeys(map(nodes, touching)))  # a foreign key is checked by a statement for each row
    return found


def nodes(plan: str) -> str:
    """The nodes of a plan and the conditions of its indexes."""
    lines = plan.splitlines()
    first = next(n for n, line in enumerate(lines) if "  (cost=" in line)
    kept = [line for line in lines[first:] if "  (cost=" in line or re.search(r"^ +(CTE|InitPlan|SubPlan|Index Cond)\b", line)]
    return "\n".join(re.sub(r"  \(cost=.*", "", line) for line in kept)
