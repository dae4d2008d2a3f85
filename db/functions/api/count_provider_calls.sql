-- api.count_provider_calls: how many calls to payment providers wait, and how many were given up.
--
-- Purpose: the service shows them as metrics. A call that was given up stays so until a seller retries it.
--
-- Locks: none. Errors: none. Plans: provider_calls_next_idx has those that wait, provider_calls_given_up_idx the others.

create or replace function api.count_provider_calls()
returns table (waiting bigint, gave_up bigint)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select
    (select count(*) from inventory.provider_calls c where c.done_at is null and c.gave_up_at is null),
    (select count(*) from inventory.provider_calls c where c.gave_up_at is not null)
$$;

comment on function api.count_provider_calls() is 'How many calls to payment providers are still to be made, and how many were given up.';
