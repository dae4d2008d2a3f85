-- api.expire_payments: the sweep of payments: cancel those that are due, at most p_limit purchases, and give their units back.
--
-- Purpose: besides, it cancels what is still open on a drop that was cancelled (inventory.cancel_pending). It returns how many it
-- cancelled. If that is less than p_limit, nothing more is due, or another transaction has locked the rest.
--
-- Locks: drop by drop in the order of their ids, as api.expire_reservations takes them: it waits for none.
-- Errors: VALIDATION_ERROR (p_limit).
--
-- Plans: as in api.expire_reservations, with purchases_due_idx.

create or replace function api.expire_payments(p_limit integer default 1000)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_sort = off
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_left integer := p_limit;
  v_drop_id uuid := '00000000-0000-0000-0000-000000000000';
  v_drop inventory.drops;
begin
  if p_limit is null or p_limit < 1 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_limit: must be 1 or more');
  end if;
  while v_left > 0 loop
    select p.drop_id into v_drop_id
    from inventory.purchases p
    where p.status = 'pending' and p.payment_expires_at >= '-infinity' and p.drop_id > v_drop_id
    order by p.drop_id, p.payment_expires_at
    limit 1;
    exit when not found;
    select * into v_drop from inventory.drops d where d.id = v_drop_id;
    if v_drop.status = 'cancelled' or inventory.has_due(v_drop) then
      perform from inventory.drops d where d.id = v_drop_id for no key update skip locked;
      if found then
        v_left := v_left - case
          when v_drop.status = 'cancelled' then inventory.cancel_pending(v_drop_id, v_left)
          else inventory.expire_due_purchases(v_drop, v_left)
        end;
      end if;
    end if;
  end loop;
  return p_limit - greatest(v_left, 0);
end
$$;

comment on function api.expire_payments(integer) is
'Cancel at most p_limit purchases whose payment is due, give their units back and return how many. If it returns fewer than
p_limit, nothing more is due, or another transaction has locked the rest.';
