-- api.open_work: what is not over yet on this node: how many drops, units held, payments, calls to providers, and webhooks.
--
-- Purpose: a node leaves a router when all of them are 0. The counts are exact, because one payment that is left behind is money that
-- nobody looks after. A draft counts, because its seller would not find it again. Drops and holds are counted by the clock.
--
-- Locks: none. Errors: none. Plans: it reads whole tables where no index fits, because it is called once in the life of a node.

create or replace function api.open_work()
returns table (what text, number bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  values
    ('drops that are drafts, live or scheduled', (
      select count(*) from inventory.drops d
      where d.status in ('draft', 'scheduled', 'live') and inventory.status_now(d) <> 'ended')),
    ('units that are held', (
      select coalesce(sum(r.qty), 0)::bigint from inventory.reservations r where r.status = 'ACTIVE' and r.expires_at > now())),
    ('payments that are open', (
      select count(*) from inventory.payments y where y.status in ('pending', 'failed'))),
    ('calls to payment providers to make', (select c.waiting from api.count_provider_calls() c)),
    ('webhooks to send', (select b.pending from api.webhook_backlog() b))
$$;

comment on function api.open_work() is
'For a router: what is not over yet on this node, and how much of it. A node may leave when all of it is 0.';
