-- inventory.tell_payment_problem: deferred trigger on payment_events: tell webhook endpoints what the seller has to look at.
--
-- Locks: the lock that orders events, see inventory.publish_changes, because ids of messages are in commit order. Errors: none.

create or replace function inventory.tell_payment_problem()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  if exists (select from inventory.settings s where s.is_only and 'payment.flagged' = any (s.webhook_types)) then
    lock table inventory.event_order in share update exclusive mode;
    insert into inventory.webhook_messages (drop_id, type, data)
    select flagged.drop_id, 'payment.flagged', to_json(e)
    from api.list_payment_problems(1, new.id + 1) flagged
    cross join lateral (select to_json(flagged) as problem) e;
  end if;
  return null;
end
$$;

comment on function inventory.tell_payment_problem() is
'Trigger: tell webhook endpoints of a payment that the seller has to look at.';
