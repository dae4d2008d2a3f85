-- inventory.note_payments: trigger on payments: note which payments were made or changed. The commit announces them to their
-- buyers.
--
-- Locks: only this transaction's own rows of inventory.changes, which no other transaction touches. Errors: none.
--
-- Plans: it uses except and no join, for the reason in inventory.note_reservations.

create or replace function inventory.note_payments()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into inventory.changes as c (drop_id, updated_payment_ids)
    select n.drop_id, array_agg(n.id order by n.id) from new_rows n group by n.drop_id
    on conflict (transaction_id, drop_id) do update
    set updated_payment_ids = c.updated_payment_ids || excluded.updated_payment_ids;
  else
    insert into inventory.changes as c (drop_id, updated_payment_ids)
    select e.drop_id, array_agg(e.id order by e.id)
    from (
      select n.drop_id, n.id, n.status, n.refunded_amount, n.client_secret, n.url, n.expires_at from new_rows n
      except
      select o.drop_id, o.id, o.status, o.refunded_amount, o.client_secret, o.url, o.expires_at from old_rows o
    ) e
    group by e.drop_id
    on conflict (transaction_id, drop_id) do update
    set updated_payment_ids = c.updated_payment_ids || excluded.updated_payment_ids;
  end if;
  return null;
end
$$;

comment on function inventory.note_payments() is
'Trigger: note which payments were made or changed; the commit announces them to their buyers.';
