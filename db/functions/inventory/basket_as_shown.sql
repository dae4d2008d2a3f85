-- inventory.basket_as_shown: a basket with its reservations, in the order of its items, as the API shows it.
--
-- Locks: none. Errors: none.
--
-- Plans: this is a set of one row, because PostgreSQL puts the query of such a function into the statement that calls it.

create or replace function inventory.basket_as_shown(
  p_id uuid, p_user_id uuid, p_created_at timestamptz, p_reservations api.reservation_row[]
)
returns setof api.basket_row
language sql stable
as $$
  select
    p_id,
    p_user_id,
    p_reservations,
    (
      select jsonb_object_agg(of_currency.currency, of_currency.amount)
      from (select r.currency, sum(r.amount) as amount from unnest(p_reservations) r group by r.currency) of_currency
    ),
    (select min(r.expires_at) from unnest(p_reservations) r),
    p_created_at
$$;

comment on function inventory.basket_as_shown(uuid, uuid, timestamptz, api.reservation_row[]) is
'A basket with its reservations as the API shows it.';
