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
SWEEP = "select count(*) from api.expire_reservations($1)"

LISTENERS = "select count(*) from pg_stat_activity where application_name = 'lastpair listener' and datname = current_database()"
"""The processes of the service that are connected: each has one listener."""
