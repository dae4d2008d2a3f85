-- inventory.basket_as_shown: a row of baskets and its reservations, in the order of its items, as the API shows them.
--
-- Locks: none. Errors: none.

create or replace function inventory.basket_as_shown(p_basket inventory.baskets, p_reservations api.reservation_row[])
returns api.basket_row
language plpgsql stable
as $$
begin
  return row(
    p_basket.id,
    p_basket.user_id,
    p_reservations,
    (
      select jsonb_object_agg(of_currency.currency, of_currency.amount)
      from (select r.currency, sum(r.amount) as amount from unnest(p_reservations) r group by r.currency) of_currency
    ),
    (select min(r.expires_at) from unnest(p_reservations) r),
    p_basket.created_at
  )::api.basket_row;
end
$$;

comment on function inventory.basket_as_shown(inventory.baskets, api.reservation_row[]) is
'A basket and its reservations as the API shows them.';
