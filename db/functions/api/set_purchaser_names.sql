-- api.set_purchaser_names: how purchasers' names are shown to everybody from now on: full, initials or hidden.
--
-- Purpose: the service says so when it starts (PURCHASER_NAMES), because the database writes the events, also those of psql users.
-- Events that are in the log keep the names that they have.
--
-- Locks: the row of the settings, if it changes. Errors: VALIDATION_ERROR.

create or replace function api.set_purchaser_names(p_names text)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update inventory.settings s set purchaser_names = coalesce(p_names, '') where s.purchaser_names is distinct from p_names;
exception when check_violation then
  perform inventory.refuse_constraint('settings_purchaser_names_check');
end
$$;

comment on function api.set_purchaser_names(text) is 'Show purchasers'' names to everybody full, as initials or hidden, from now on.';
