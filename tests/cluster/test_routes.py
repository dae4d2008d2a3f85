# ruff: noqa: S608 - the names of schemas are our own
"""Where a router carries out what it is asked for."""

import json
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.database import connected
from tests.support.router import Router, make_drop, make_user, service_of


async def test_an_id_says_on_which_node_its_row_is(service: asyncpg.Connection) -> None:
    for node in 0, 1:
        drop_id = await make_drop(service, node)
        assert int(drop_id[21:23], 16) == node
        assert await service.fetchval("select id from api.get_drop($1)", drop_id)
        assert await service.fetchval(f"select id from node_{node}.get_drop($1)", drop_id)


async def test_a_batch_is_carried_out_on_each_node_and_answered_in_its_order(service: asyncpg.Connection) -> None:
    drops = [await make_drop(service, node, stock=2) for node in (0, 1)]
    users = [str(uuid4()) for _ in range(3)]
    for user_id in users:  # each known on node 0 only
        await service.fetch("select * from router.ensure_users(0, array[row($1::uuid, null)]::api.user_request[])", user_id)
    requests = [(drops[n % 2], user_id, None, None, 1) for user_id in users for n in (0, 1)]
    rows = await service.fetch(
        "select n, status, code, data ->> 'drop_id' as drop_id from api.reserve_batch($1::api.reserve_request[])", requests
    )
    assert [row["n"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["status"] for row in rows] == [201, 201, 201, 201, 409, 409]
    assert [row["drop_id"] for row in rows[:4]] == [request[0] for request in requests[:4]]
    mine = await service.fetch("select drop_id::text from api.my_reservations($1)", users[0])
    assert {row["drop_id"] for row in mine} == set(drops)


async def test_a_batch_that_fails_on_one_node_says_so_and_what_the_other_did(router: Router, service: asyncpg.Connection) -> None:
    drops, user_id = [await make_drop(service, node) for node in (0, 1)], await make_user(service, 0)
    batch = "select status, code, message from api.reserve_batch($1::api.reserve_request[])"
    requests = [(drop_id, user_id, None, None, 1) for drop_id in drops]
    reserve_batch = "execute on function api.reserve_batch(api.reserve_request[], integer)"
    router.nodes[1].psql(f"revoke {reserve_batch} from lastpair_service", router.nodes[1].url)
    try:
        [first, second] = await service.fetch(batch, requests)
        assert (first["status"], second["status"], second["code"]) == (201, 503, "DATABASE_UNAVAILABLE")
        assert second["message"].startswith("Node 1 could not carry this out.")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):  # a call for one node had no effect
            await service.fetch(batch, requests[1:])
    finally:
        router.nodes[1].psql(f"grant {reserve_batch} to lastpair_service", router.nodes[1].url)
    assert [row["status"] for row in await service.fetch(batch, requests)] == [409, 201]


async def test_single_calls_raise_the_refusal_of_the_node_and_keep_its_connection(
    router: Router, service: asyncpg.Connection
) -> None:
    drop_id, user_id = await make_drop(service, 1), await make_user(service, 1)
    newest = "select max(backend_start) from pg_stat_activity where application_name = 'lastpair router'"
    async with connected(router.nodes[1].superuser_url) as node:
        await service.fetch("select from api.reserve($1, $2)", drop_id, user_id)
        before = await node.fetchval(newest)
        with pytest.raises(asyncpg.PostgresError) as caught:
            await service.fetch("select from api.reserve($1, $2)", drop_id, user_id)
        assert (caught.value.sqlstate, caught.value.args[0]) == ("PT409", "ALREADY_RESERVED")
        assert (caught.value.detail or "").startswith("You have reserved this already.")
        assert await node.fetchval(newest) == before
    bought = await service.fetchrow("select * from api.purchase($1, $2)", drop_id, user_id)
    assert bought is not None
    assert (bought["status"], bought["amount"].as_tuple().exponent) == ("paid", -2)


async def test_errors_that_are_no_refusals_keep_their_sqlstate(service: asyncpg.Connection) -> None:
    drop_id, user_id = await make_drop(service, 1), await make_user(service, 1)
    await service.execute("set role lastpair_buyer; set request.jwt.claims = 'no JSON'")
    with pytest.raises(asyncpg.InvalidTextRepresentationError) as caught:
        await service.fetch("select from api.reserve($1, $2)", drop_id, user_id)
    assert str(caught.value).startswith("invalid input syntax for type json")
    assert "host" not in f"{caught.value}{caught.value.detail}"


async def test_lists_of_all_nodes_are_merged_in_order_page_by_page(service: asyncpg.Connection) -> None:
    user_id = await make_user(service, 0)
    made = [await make_drop(service, node) for node in (0, 1, 1, 0, 1)]
    for drop_id in made:
        await service.fetch("select from api.reserve($1, $2)", drop_id, user_id)
    for function, column in (("my_reservations($1, 2, $2)", "drop_id"), ("list_drops(null, 2, $2)", "id")):
        found: list[str] = []
        after: str | None = None
        while page := await service.fetch(
            f"select id, {column} as of from api.{function} where $1::uuid is not null", user_id, after
        ):
            found += [str(row["of"]) for row in page]
            after = str(page[-1]["id"])
        assert [drop_id for drop_id in found if drop_id in made] == made[::-1]
        assert len(found) == len(set(found))
    with pytest.raises(asyncpg.PostgresError, match="VALIDATION_ERROR"):
        await service.fetch("select from api.list_drops(null, 2, $1)", user_id)


async def test_one_without_anything_on_any_node_is_refused(service: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.PostgresError, match="AUTH_REQUIRED"):
        await service.fetch("select from api.my_purchases($1)", str(uuid4()))
    assert await service.fetch("select from api.my_purchases($1)", await make_user(service, 1)) == []


async def test_numbers_are_added_up(service: asyncpg.Connection) -> None:
    counts = await service.fetchrow("select * from api.count_provider_calls()")
    assert counts is not None
    assert tuple(counts) == (0, 0)
    assert await service.fetchval("select api.expire_payments()") == 0
    user_id = await make_user(service, 0)
    sold_before = dict(await service.fetch("select currency, sold_for from api.drop_money()"))
    for node in 0, 1:
        drop_id = await make_drop(service, node)
        await service.fetch("select from api.reserve($1, $2)", drop_id, user_id)
        await service.fetch("select from api.purchase($1, $2)", drop_id, user_id)
        assert await service.fetchval("select sold_for from api.drop_money($1)", drop_id) == 10
    sold = dict(await service.fetch("select currency, sold_for from api.drop_money()"))
    assert sold["USD"] - sold_before.get("USD", 0) == 20


async def test_a_basket_must_be_on_one_node(service: asyncpg.Connection) -> None:
    one, other, beside = await make_drop(service, 1), await make_drop(service, 0), await make_drop(service, 1)
    user_id = await make_user(service, 0)
    basket = "select (basket).id from api.reserve_basket($1, $2::api.basket_item[])"
    with pytest.raises(asyncpg.PostgresError, match="BASKET_SPANS_NODES"):
        await service.fetch(basket, user_id, [(one, None, 1), (other, None, 1)])
    requests = [
        (user_id, [(one, None, 1), (other, None, 1)], None),
        (user_id, [(one, None, 1), (beside, None, 1)], None),
        (user_id, [(other, None, 1)], None),
    ]
    rows = await service.fetch(
        "select n, status, code, data ->> 'id' as id from api.reserve_basket_batch($1::api.basket_request[])", requests
    )
    assert [tuple(row)[:3] for row in rows] == [(1, 409, "BASKET_SPANS_NODES"), (2, 201, None), (3, 201, None)]
    assert await service.fetchval("select count(*) from api.purchase_basket($1, $2)", rows[1]["id"], user_id) == 2
    # An item without a drop is on no node.
    refused = "select index, code from api.reserve_basket($1, $2::api.basket_item[])"
    assert [tuple(row) for row in await service.fetch(refused, user_id, [(None, None, 1), (one, None, 1)])] == [
        (0, "DROP_NOT_FOUND")
    ]
    batch = "select code, data -> 0 ->> 'code' as why from api.reserve_basket_batch($1::api.basket_request[])"
    row = await service.fetchrow(batch, [(user_id, [(None, None, 1), (one, None, 1)], None)])
    assert tuple(row) == ("BASKET_REFUSED", "DROP_NOT_FOUND")


async def test_a_drop_goes_beside_another(service: asyncpg.Connection) -> None:
    user_id = await make_user(service, 0)
    for node in 0, 1:
        near = await make_drop(service, node)
        drop = json.dumps({"name": "x", "price": 1, "total_stock": 1, "near": near})
        made = await service.fetchval("select data ->> 'id' from api.create_drop_from_json($1, $2)", drop, user_id)
        assert int(made[21:23], 16) == node
    absent = json.dumps({"name": "x", "price": 1, "total_stock": 1, "near": str(uuid4())})
    with pytest.raises(asyncpg.PostgresError, match="DROP_NOT_FOUND"):
        await service.fetch("select from api.create_drop_from_json($1, $2)", absent, user_id)


async def test_a_new_drop_goes_to_the_node_with_the_fewest_live_units(service: asyncpg.Connection) -> None:
    user_id = await make_user(service, 0)
    for node in 1, 0:  # first one node has more, then the other
        await make_drop(service, node, stock=10_000 if node else 30_000)
        made = str(await service.fetchval("select id from api.create_drop('x', 1, 1, $1)", user_id))
        assert int(made[21:23], 16) == 1 - node


async def test_an_idempotency_key_makes_one_drop(router: Router, service: asyncpg.Connection) -> None:
    user_id = await make_user(service, 0)
    create = "select id from api.create_drop('x', 1, 1, $1, '2026-01-01', p_idempotency_key => $2)"
    nodes = set()
    for key in map(str, range(16)):
        made = {str(await service.fetchval(create, user_id, key)) for _ in range(3)}
        assert len(made) == 1
        nodes.add(made.pop()[21:23])
    assert nodes == {"00", "01"}
    async with connected(router.owner_url) as owner:  # found where it is, although it would not be picked any more
        draining = "update router.nodes set is_draining = $1 where number = 1"
        before = [await service.fetchval(create, user_id, str(key)) for key in range(16)]
        await owner.execute(draining, True)
        after = [await service.fetchval(create, user_id, str(key)) for key in range(16)]
        await owner.execute(draining, False)
    assert after == before


async def test_users_have_one_name_on_every_node(service: asyncpg.Connection) -> None:
    name = f"ann {uuid4()}"
    user_id = await make_user(service, 0, name)
    await service.fetch("select from router.ensure_users(1, $1::api.user_request[])", [(user_id, "another name")])
    for node in 0, 1:
        assert await service.fetchval(f"select username from node_{node}.names_of(array[$1::uuid])", user_id) == name
    for node in 0, 1:
        other = await service.fetchval(
            "select data ->> 'username' from router.ensure_users($1, $2::api.user_request[])",
            node,
            [(str(uuid4()), name.upper())],
        )
        assert other.startswith(f"{name.upper()}-")
    with pytest.raises(asyncpg.PostgresError, match="USERNAME_TAKEN"):
        await service.fetch("select from api.create_user($1)", name)
    assert await service.fetchval("select api.rename_user_batch($1::api.user_request[])", [(user_id, f"{name} b")]) == 1
    for node in 0, 1:
        assert await service.fetchval(f"select username from node_{node}.names_of(array[$1::uuid])", user_id) == f"{name} b"
    assert await service.fetchval("select username from api.create_user($1)", name) == name  # the old one is free


@pytest.mark.parametrize("there", ["a", "z"])
async def test_a_user_who_has_another_name_on_one_node_is_renamed(
    router: Router, service: asyncpg.Connection, there: str
) -> None:
    """Whichever of the names comes first in the alphabet."""
    name, old = f"m {uuid4()}", f"{there} {uuid4()}"
    user_id = await make_user(service, 0, name)
    await service.fetch("select from router.ensure_users(1, $1::api.user_request[])", [(user_id, None)])
    router.nodes[1].psql(f"update inventory.users set username = '{old}' where id = '{user_id}'", router.nodes[1].url)
    rename = "select api.rename_user_batch($1::api.user_request[])"
    assert await service.fetchval(rename, [(user_id, name)]) == 1
    for node in 0, 1:
        assert await service.fetchval(f"select username from node_{node}.names_of(array[$1::uuid])", user_id) == name
    assert await service.fetchval(rename, [(user_id, name)]) == 0
    assert await service.fetchval("select username from api.create_user($1)", old) == old
    for bad in "", "x" * 201, "\u200b":
        with pytest.raises(asyncpg.PostgresError, match="VALIDATION_ERROR"):
            await service.fetchval(rename, [(user_id, bad)])


async def test_a_user_is_made_once_with_a_key(service: asyncpg.Connection) -> None:
    name, key = f"ben {uuid4()}", str(uuid4())
    create = "select status, data ->> 'id' from api.create_user_outcome($1, $2)"
    first, again = await service.fetchrow(create, name, key), await service.fetchrow(create, name, key)
    assert first is not None
    assert again is not None
    assert (first[0], again[0], again[1]) == (201, 200, first[1])
    with pytest.raises(asyncpg.PostgresError, match="IDEMPOTENCY_KEY_REUSED"):
        await service.fetch(create, f"{name} c", key)


async def test_a_user_is_forgotten_everywhere(service: asyncpg.Connection) -> None:
    name = f"carl {uuid4()}"
    user_id = await make_user(service, 0, name)
    await service.fetch("select from router.ensure_users(1, $1::api.user_request[])", [(user_id, None)])
    assert (await service.fetchval("select username from api.forget_user($1)", user_id)).startswith("former-user-")
    for node in 0, 1:
        assert await service.fetchval(f"select is_forgotten from node_{node}.names_of(array[$1::uuid])", user_id)
    assert await service.fetchval("select api.rename_user_batch($1::api.user_request[])", [(user_id, name)]) == 0
    assert await service.fetchval("select username from api.create_user($1)", name) == name


async def test_a_buyer_in_psql_acts_on_every_node(router: Router, service: asyncpg.Connection) -> None:
    drop_id, user_id = await make_drop(service, 1), await make_user(service, 0)
    claims = json.dumps({"sub": user_id})
    buyer = f"set role lastpair_buyer; set request.jwt.claims = '{claims}'"
    reserve = "select drop_id from api.reserve('{}', '{}')"
    url = router.superuser_url
    assert router.server.psql(f"{buyer}; {reserve.format(drop_id, user_id)}", url) == drop_id
    for statement, refusal in (
        (reserve.format(drop_id, uuid4()), "FORBIDDEN"),
        (f"select api.expire_reservations() where '{drop_id}' <> ''", "permission denied"),
        ("select from router.nodes", "permission denied"),
        ("select from node_1.list_drops()", "permission denied"),
    ):
        with pytest.raises(AssertionError, match=refusal):
            router.server.psql(f"{buyer}; {statement}", url)
    other = await make_drop(service, 1)
    with pytest.raises(AssertionError, match="cannot be called inside a transaction block"):
        router.server.psql(f"{buyer}; reset request.jwt.claims; begin; {reserve.format(other, user_id)}", url)
    assert await service.fetchval("select available_stock from api.get_drop($1)", other) == 100
    assert router.server.psql(f"{buyer}; begin; select pg_sleep(0.1); select id from api.get_drop('{other}')", url).endswith(
        other
    )


async def test_events_of_one_node_and_of_all(service: asyncpg.Connection) -> None:
    drops = [await make_drop(service, node) for node in (0, 1)]
    events = "select type, drop_id::text from api.events_after(0, 1000, $1::uuid[])"
    assert [tuple(row) for row in await service.fetch(events, drops[1:])] == [("DROP_CREATED", drops[1])]
    with pytest.raises(asyncpg.PostgresError) as caught:
        await service.fetch(events, drops)
    assert "Call node_<n>.events_after for each node." in (caught.value.detail or "")
    snapshot = await service.fetchrow("select id, data from api.snapshot($1::uuid[])", drops)
    assert snapshot is not None
    assert [drop["id"] for drop in json.loads(snapshot["data"])["drops"]] == drops[::-1]
    heads = [await service.fetchval(f"select id from node_{node}.snapshot()") for node in (0, 1)]
    assert snapshot["id"] == f"0:{heads[0]},1:{heads[1]}"
    activity = await service.fetchrow("select position, events, drops from api.activity(600, $1::uuid[])", drops)
    assert activity is not None
    assert activity["position"] == snapshot["id"]
    assert {event["dropId"] for event in json.loads(activity["events"])} == set(drops)
    assert {drop["dropId"] for drop in json.loads(activity["drops"])} == set(drops)


async def test_stream_tickets_and_watchers(service: asyncpg.Connection) -> None:
    user_id = await make_user(service, 1)
    ticket = await service.fetchval("select ticket from api.create_stream_ticket($1)", user_id)
    assert str(await service.fetchval("select api.redeem_stream_ticket($1)", ticket)) == user_id
    with pytest.raises(asyncpg.PostgresError, match="TICKET_INVALID"):
        await service.fetch("select api.redeem_stream_ticket('x')")
    process_id = str(uuid4())
    assert await service.fetchval("select watchers from api.count_watchers($1, 3)", process_id) >= 3
    await service.fetch("select from api.count_watchers($1, 0)", process_id)


async def test_webhook_endpoints_are_the_same_everywhere(service: asyncpg.Connection) -> None:
    made = await service.fetchrow(
        "select (endpoint).id, secret from api.create_webhook_endpoint('https://a.example', array['drop.created'])"
    )
    assert made is not None
    url = "select url from node_{}.list_webhook_endpoints()"
    assert [await service.fetchval(url.format(node)) for node in (0, 1)] == ["https://a.example"] * 2
    await service.fetch("select from api.update_webhook_endpoint($1, $2)", made["id"], json.dumps({"url": "https://b.example"}))
    assert [await service.fetchval(url.format(node)) for node in (0, 1)] == ["https://b.example"] * 2
    secret = await service.fetchval("select secret from api.rotate_webhook_secret($1)", made["id"])
    copies = "select c ->> 'secret' from node_{}.webhook_endpoint_copies() c"
    assert [await service.fetchval(copies.format(node)) for node in (0, 1)] == [secret] * 2
    await service.fetch("select from api.delete_webhook_endpoint($1)", made["id"])
    assert [await service.fetchval(url.format(node)) for node in (0, 1)] == [None] * 2


async def test_the_audit_says_of_which_node(router: Router, service: asyncpg.Connection) -> None:
    assert await service.fetch("select * from api.audit()") == []
    drop_id = await make_drop(service, 1)
    change = f"update inventory.drops set available_stock = available_stock {{}} 1 where id = '{drop_id}'"
    broken = f"set session_replication_role = replica; {change}"
    superuser = router.nodes[1].superuser_url.replace("/postgres?", "/lastpair?")
    router.nodes[1].psql(broken.format("-"), superuser)
    rows = await service.fetch("select drop_id::text, invariant from api.audit()")
    router.nodes[1].psql(broken.format("+"), superuser)
    assert [tuple(row) for row in rows] == [(drop_id, "node 1: total_stock = available_stock + held + sold")]


async def test_old_ids_belong_to_the_first_node(router: Router, service: asyncpg.Connection) -> None:
    [first, second] = await service.fetch("select number, numbered_from_ms from router.nodes_of_app()")
    assert (first["number"], second["number"]) == (0, 1)
    assert first["numbered_from_ms"] == second["numbered_from_ms"]

    def uuid_v7(milliseconds: int, number: int) -> str:
        return str(UUID(bytes=milliseconds.to_bytes(6, "big") + b"\x7a\xbc\x80" + bytes([number]) + bytes(6)))

    for row_id, node in (
        (uuid_v7(first["numbered_from_ms"], 1), 1),
        (uuid_v7(first["numbered_from_ms"] - 1, 1), 0),
        (uuid_v7(first["numbered_from_ms"] + 1000, 9), 0),
        (str(uuid4()), 0),
        (None, 0),
    ):
        async with connected(router.owner_url) as owner:
            assert await owner.fetchval("select router.node_of($1)", row_id) == node


async def test_deliveries_and_problems_of_all_nodes_are_merged(service: asyncpg.Connection) -> None:
    endpoint_id = await service.fetchval(
        "select (endpoint).id from api.create_webhook_endpoint('https://c.example', array['drop.created'])"
    )
    drops = []
    for node in (0, 1, 1, 0, 1):
        drops.append(await make_drop(service, node))
        await service.fetch(f"select node_{node}.fan_out_webhooks(1000)")
    deliveries = "select id, drop_id from api.list_webhook_deliveries($1, p_limit => 2, p_after => $2)"
    found: list[str] = []
    after: str | None = None
    while page := await service.fetch(deliveries, endpoint_id, after):
        found += [str(row["drop_id"]) for row in page]
        after = str(page[-1]["id"])
    assert found == drops[::-1]
    await service.fetch("select from api.delete_webhook_endpoint($1)", endpoint_id)

    events = []
    for node in (1, 0, 0, 1):
        event = ("stripe", str(uuid4()), None, str(uuid4()), "paid", 1, "USD", None, "{}", None)
        events.append(event[1])
        await service.fetch(f"select from node_{node}.record_payment_event($1::api.payment_event)", event)
    told = ("stripe", str(uuid4()), None, str(uuid4()), "paid", 1, "USD", None, "{}", None)
    await service.fetch("select from api.record_payment_event($1::api.payment_event)", told)
    events.append(told[1])
    problems = "select id, event_id from api.list_payment_problems(2, $1)"
    shown: list[str] = []
    before: int | None = None
    while page := await service.fetch(problems, before):
        shown += [row["event_id"] for row in page]
        before = page[-1]["id"]
    assert shown == events[::-1]
    with pytest.raises(asyncpg.PostgresError, match="VALIDATION_ERROR"):  # no node has this number
        await service.fetch(problems, 77)


LIMITED = """
select proname, proargnames[:pronargs - pronargdefaults]
from pg_proc
where pronamespace = 'api'::regnamespace and 'p_limit' = any (proargnames[:pronargs])
  and has_function_privilege('lastpair_service', oid, 'execute')
order by 1, 2
"""


async def test_a_limit_is_refused_as_on_a_node(router: Router, service: asyncpg.Connection) -> None:
    """Whatever the limit of a list, or of a job, the answer is that of a single database."""
    user_id, drop_id = await make_user(service, 0), await make_drop(service, 0)
    endpoint_id = await service.fetchval(
        "select (endpoint).id from api.create_webhook_endpoint('https://d.example', array['drop.created'])"
    )
    values = {
        "p_user_id": f"'{user_id}'",
        "p_drop_id": f"'{drop_id}'",
        "p_drop_ids": f"array['{drop_id}'::uuid]",
        "p_endpoint_id": f"'{endpoint_id}'",
        "p_after": "0",
        "p_retention_seconds": "86400",
        "p_lease_seconds": "1",
        "p_busy": "'{}'",
        "p_lanes": "1",
    }
    functions = await service.fetch(LIMITED)
    assert len(functions) > 20
    wrong = []
    async with service_of(router.node_url(0)) as node:
        for name, required in functions:
            for limit in ("-1", "0", "null", "1001", str(2**31 - 1)):
                given = {"p_limit": limit} | {parameter: values[parameter] for parameter in required if parameter != "p_limit"}
                if name == "events_after":
                    given["p_drop_ids"] = values["p_drop_ids"]
                arguments = ", ".join(f"{parameter} => {value}" for parameter, value in given.items())
                call = f"select from api.{name}({arguments})"
                found, expected = await error_of(service, call), await error_of(node, call)
                if found != expected:
                    wrong.append((call, found, expected))
    await service.fetch("select from api.delete_webhook_endpoint($1)", endpoint_id)
    assert "\n".join(map(str, wrong)) == ""


async def error_of(session: asyncpg.Connection, statement: str) -> tuple[object, ...] | None:
    """The SQLSTATE and the message of the error, and the detail of a refusal; None if there is none."""
    try:
        await session.fetch(statement)
    except asyncpg.PostgresError as error:
        return error.sqlstate, error.args[0], (error.sqlstate or "").startswith("PT") and error.detail
    return None
