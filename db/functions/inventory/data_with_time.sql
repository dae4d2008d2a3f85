-- inventory.data_with_time: the data of an event as readers get it: what was published, and `at`, when that was.
--
-- Purpose: the log keeps the time in a column of its own. Every reader is told the same text, live or later: UTC, in milliseconds.
--
-- Locks: none. Errors: none.

create or replace function inventory.data_with_time(p_data json, p_at timestamptz)
returns json
language sql stable
as $$
  select (
    case when p_data::text = '{}' then '{' else left(p_data::text, -1) || ',' end
    || '"at":"' || to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '"}'
  )::json
$$;

comment on function inventory.data_with_time(json, timestamptz) is 'The data of an event with its time: {…, "at": "…"}.';
