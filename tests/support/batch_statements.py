"""The statements that call the batch functions, with parallel arrays as arguments."""

# One drop: its id, users, keys. Many drops: the drop of each request, users, keys. Each becomes an array of requests.
RESERVE = (
    "select * from api.reserve_batch(array(select row($1::uuid, q.user_id, q.key, null, null)::api.reserve_request"
    " from rows from (unnest($2::uuid[]), unnest($3::text[])) with ordinality as q (user_id, key, n) order by q.n), $4)"
)
PURCHASE = (
    "select * from api.purchase_batch(array(select row($1::uuid, q.user_id, q.key, null)::api.purchase_request"
    " from rows from (unnest($2::uuid[]), unnest($3::text[])) with ordinality as q (user_id, key, n) order by q.n))"
)
CANCEL = (
    "select * from api.cancel_batch(array(select row(q.id, q.user_id)::api.cancel_request"
    " from unnest($1::uuid[], $2::uuid[]) with ordinality as q (id, user_id, n) order by q.n))"
)
# The same with the variant and the quantity of each request, and with the reservation that each purchase names.
RESERVE_VARIANTS = (
    "select * from api.reserve_batch(array(select row($1::uuid, q.user_id, q.key, q.variant_id, q.qty)::api.reserve_request"
    " from rows from (unnest($2::uuid[]), unnest($3::text[]), unnest($5::uuid[]), unnest($6::integer[]))"
    " with ordinality as q (user_id, key, variant_id, qty, n) order by q.n), $4)"
)
PURCHASE_NAMED = (
    "select * from api.purchase_batch(array(select row($1::uuid, q.user_id, q.key, q.reservation_id)::api.purchase_request"
    " from rows from (unnest($2::uuid[]), unnest($3::text[]), unnest($4::uuid[]))"
    " with ordinality as q (user_id, key, reservation_id, n) order by q.n))"
)
RESERVE_OF_MANY_DROPS = (
    "select * from api.reserve_batch(array(select row(q.drop_id, q.user_id, q.key, null, null)::api.reserve_request"
    " from unnest($1::uuid[], $2::uuid[], $3::text[]) with ordinality as q (drop_id, user_id, key, n) order by q.n), $4)"
)
PURCHASE_OF_MANY_DROPS = (
    "select * from api.purchase_batch(array(select row(q.drop_id, q.user_id, q.key, null)::api.purchase_request"
    " from unnest($1::uuid[], $2::uuid[], $3::text[]) with ordinality as q (drop_id, user_id, key, n) order by q.n))"
)
PROVISION = (
    "select * from api.ensure_user_batch(array(select row(q.user_id, q.name)::api.user_request"
    " from unnest($1::uuid[], $2::text[]) with ordinality as q (user_id, name, n) order by q.n))"
)
RESERVE_BASKETS = (  # a JSON list of api.basket_request
    "select * from api.reserve_basket_batch(array(select r from json_populate_recordset(null::api.basket_request, $1) r), $2)"
)
SWEEP = "select count(*) from api.expire_reservations($1)"

LISTENERS = "select count(*) from pg_stat_activity where application_name = 'lastpair listener' and datname = current_database()"
"""The processes of the service that are connected: each has one listener."""
