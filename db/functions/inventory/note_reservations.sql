-- inventory.note_reservations: trigger on reservations: note which reservations expired, and how many units more are held. The
-- commit announces the first and refuses what does not balance.
--
-- If holds are inserted by hand, it does what inventory.write_holds does for its own (lastpair.is_by_hand is off then): it
-- refuses those of users who do not exist, as a foreign key would, and lets the search for due holds begin at the first end. What
-- inventory.write_holds and inventory.purchase_on_drops write balances for each variant; of all else that is noted.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches; of holds by hand the rows of the
-- drops, in the order of their ids. Errors: foreign_key_violation (23503).
--
-- Plans: it uses except and sums and does not join old and new rows, because a session keeps its plan: a nested loop that was
-- planned for one row is quadratic, and so very slow, for a thousand rows.

create or replace function inventory.note_reservations()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_by_hand boolean := current_setting('lastpair.is_by_hand', true) is distinct from 'off';
begin
  if tg_op = 'INSERT' then
    insert into inventory.changes as c (drop_id, added_held, variant_balance)
    select
      n.drop_id, sum(n.qty), coalesce(sum(inventory.variant_weight(n.variant_id) * n.qty) filter (where v_is_by_hand), 0)
    from new_rows n
    where n.status = 'ACTIVE'
    group by n.drop_id
    on conflict (transaction_id, drop_id) do update
    set added_held = c.added_held + excluded.added_held, variant_balance = c.variant_balance + excluded.variant_balance;
    if v_is_by_hand then
      if exists (select from new_rows n where not exists (select from inventory.users u where u.id = n.user_id)) then
        raise foreign_key_violation using
          message = 'a reservation is of a user who does not exist',
          constraint = 'reservations_user_id', table = tg_table_name, schema = tg_table_schema;
      end if;
      perform inventory.expect_due_at(array_agg(n.drop_id), array_agg(n.expires_at)) from new_rows n where n.status = 'ACTIVE';
    end if;
  elsif tg_op = 'DELETE' then
    insert into inventory.changes as c (drop_id, added_held, variant_balance)
    select o.drop_id, - sum(o.qty), - coalesce(sum(inventory.variant_weight(o.variant_id) * o.qty), 0)
    from old_rows o
    where o.status = 'ACTIVE'
    group by o.drop_id
    on conflict (transaction_id, drop_id) do update
    set added_held = c.added_held + excluded.added_held, variant_balance = c.variant_balance + excluded.variant_balance;
  else
    insert into inventory.changes as c (drop_id, expired_ids, added_held, variant_balance)
    select
      e.drop_id, coalesce(array_agg(e.id) filter (where e.has_expired), '{}'), sum(e.units),
      coalesce(sum(inventory.variant_weight(e.variant_id) * e.units) filter (where v_is_by_hand), 0)
    from (
      select n.drop_id, null::uuid as id, false as has_expired, n.qty as units, n.variant_id
      from new_rows n
      where n.status = 'ACTIVE'
      union all
      select o.drop_id, null, false, - o.qty, o.variant_id from old_rows o where o.status = 'ACTIVE'
      union all
      (
        select n.drop_id, n.id, true, 0, null::uuid from new_rows n where n.status = 'EXPIRED'
        except
        select o.drop_id, o.id, true, 0, null from old_rows o where o.status = 'EXPIRED'
      )
    ) e
    group by e.drop_id
    on conflict (transaction_id, drop_id) do update
    set
      expired_ids = c.expired_ids || excluded.expired_ids,
      added_held = c.added_held + excluded.added_held,
      variant_balance = c.variant_balance + excluded.variant_balance;
  end if;
  return null;
end
$$;

comment on function inventory.note_reservations() is
'Trigger: note which reservations expired and how many units more are held; the commit announces and checks it.';
