-- api.prune_webhooks: delete old messages with their deliveries, and return the number of messages.
--
-- Purpose: what was delivered stays for p_retention_seconds, what was given up four times as long, so that it can be replayed.
-- What is pending stays.
--
-- Locks: the rows that it deletes; those that another transaction has locked are skipped. Errors: VALIDATION_ERROR
-- (p_retention_seconds).

create or replace function api.prune_webhooks(p_retention_seconds integer, p_limit integer)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_messages bigint[];
begin
  if p_retention_seconds is null or p_retention_seconds < 0 then
    perform inventory.refuse('VALIDATION_ERROR', 'p_retention_seconds: must be 0 or more');
  end if;
  v_messages := array(
    select m.id
    from inventory.webhook_messages m
    where m.created_at < now() - make_interval(secs => p_retention_seconds)
      and m.id <= (select p.last_message from inventory.webhook_position p where p.is_only)
      and not exists (
        select
        from inventory.webhook_endpoints e
        join inventory.webhook_deliveries d on d.endpoint_id = e.id and d.message = m.id
        where d.status = 'pending'
          or (d.status = 'given_up' and m.created_at >= now() - make_interval(secs => p_retention_seconds) * 4)
      )
    order by m.created_at
    limit p_limit
    for update skip locked
  );
  delete from inventory.webhook_deliveries d
  using inventory.webhook_endpoints e, unnest(v_messages) old (id)
  where d.endpoint_id = e.id and d.message = old.id;
  delete from inventory.webhook_messages m where m.id = any (v_messages);
  return cardinality(v_messages);
end
$$;

comment on function api.prune_webhooks(integer, integer) is
'Delete messages for webhooks that are older than p_retention_seconds, at most p_limit, with their deliveries. Returns how many.';
