-- api.set_payment_provider: on every node. If one is away it is done on the others, and refused; it can be repeated.

create or replace function api.set_payment_provider(p_provider text, p_ttl_seconds integer)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform router.refuse_block();
  perform router.everywhere(
    'set_payment_provider', jsonb_build_object('p_provider', p_provider, 'p_ttl_seconds', p_ttl_seconds));
end
$$;

comment on function api.set_payment_provider(text, integer) is
'Let none, stripe or webhook take the money for purchases from now on. A payment may take p_ttl_seconds, or as long as the hold
lasts.';
