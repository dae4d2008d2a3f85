-- inventory.refuse_rewriting: trigger on a table whose rows are only added: refuse to change or remove any.
--
-- Locks: none. Errors: restrict_violation (23001).

create or replace function inventory.refuse_rewriting()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  raise restrict_violation using
    message = format('the rows of %I.%I are only added', tg_table_schema, tg_table_name),
    detail = 'They are the history, so they are not changed or removed.';
end
$$;

comment on function inventory.refuse_rewriting() is 'Trigger: refuse to change or remove rows of a table that is a history.';
