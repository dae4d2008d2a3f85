-- inventory.note_webhook_endpoints: trigger on webhook_endpoints: keep the flag that says which messages anybody wants.
--
-- Purpose: inventory.publish_changes reads the flag at a commit, and writes no message if it is empty. A transaction that commits
-- at the same time as the endpoint is made may still see the old flag.
--
-- Locks: the row of the settings. It is locked first and read anew, so that of two changes at the same time the later one sees
-- the other. Errors: none.

create or replace function inventory.note_webhook_endpoints()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_types text[];
begin
  perform from inventory.settings s for no key update;
  v_types := array(
    select distinct t.type
    from inventory.webhook_endpoints e
    cross join unnest(e.event_types) t (type)
    where e.is_active
    order by t.type
  );
  update inventory.settings s set webhook_types = v_types where s.webhook_types <> v_types;
  return null;
end
$$;

comment on function inventory.note_webhook_endpoints() is
'Trigger: keep the flag that says which messages webhook endpoints want.';
