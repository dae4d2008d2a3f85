-- api.create_drop: put a drop up for sale, with all its stock available.
--
-- Without a status, starts_at decides: if it is missing the drop is a draft, if it is in the future the drop is scheduled,
-- otherwise live.
--
-- Locks: none. Errors: FORBIDDEN (a seller names another user), AUTH_REQUIRED (the seller does not exist), VALIDATION_ERROR.

create or replace function api.create_drop(
  p_name text,
  p_price numeric,
  p_total_stock integer,
  p_created_by uuid,
  p_starts_at timestamptz default null,
  p_ends_at timestamptz default null,
  p_status text default null
)
returns setof api.drop
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_status text := coalesce(
    p_status,
    case when p_starts_at is null then 'draft' when p_starts_at > now() then 'scheduled' else 'live' end
  );
  v_starts_at timestamptz := case when v_status = 'live' then coalesce(p_starts_at, now()) else p_starts_at end;
  v_constraint_name text;
begin
  perform inventory.require_self(p_created_by);
  perform inventory.require_user(p_created_by);
  if p_total_stock < 1 then
    perform inventory.refuse_constraint('drops_total_stock_check');
  end if;
  if v_status in ('ended', 'cancelled') then
    perform inventory.refuse('VALIDATION_ERROR', 'status: a new drop is draft, scheduled or live');
  end if;
  if v_status = 'live' and v_starts_at > now() then
    perform inventory.refuse('VALIDATION_ERROR', 'starts_at: a live drop has started; leave status out to schedule it');
  end if;
  return query
  with created as (
    insert into inventory.drops (name, price, total_stock, available_stock, starts_at, ends_at, status, created_by)
    values (
      coalesce(p_name, ''), inventory.check_price(p_price), p_total_stock, p_total_stock, v_starts_at, p_ends_at, v_status,
      p_created_by
    )
    returning *
  )
  select (inventory.drop_row(created)).* from created;
exception
  when check_violation then
    get stacked diagnostics v_constraint_name = constraint_name;
    perform inventory.refuse_constraint(v_constraint_name);
  when not_null_violation then
    get stacked diagnostics v_constraint_name = column_name;
    perform inventory.refuse('VALIDATION_ERROR', v_constraint_name || ': is required');
end
$$;

comment on function api.create_drop(text, numeric, integer, uuid, timestamptz, timestamptz, text) is
'Put a drop of p_total_stock units up for sale and return it. Without p_status the times decide: a drop without p_starts_at is a
draft, a future p_starts_at makes it scheduled, a past one live.';
