-- api.set_purchaser_names: on every node. If one is away it is done on the others, and refused; it can be repeated.

create or replace function api.set_purchaser_names(p_names text)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform router.refuse_block();
  perform router.everywhere('set_purchaser_names', jsonb_build_object('p_names', p_names));
end
$$;

comment on function api.set_purchaser_names(text) is 'Show purchasers'' names to everybody full, as initials or hidden, from now on.';
