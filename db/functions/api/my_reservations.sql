-- api.my_reservations: list the reservations that a user can still purchase, the newest first, in pages.
--
-- p_after_at says when the row p_after comes in the list (api.cursor_time), so that the row is not looked up. It may be on another
-- node of a router.
--
-- Locks: none. Errors: FORBIDDEN (a buyer or seller names another user), AUTH_REQUIRED, VALIDATION_ERROR (limit, cursor).

create or replace function api.my_reservations(
  p_user_id uuid, p_limit integer default 50, p_after uuid default null, p_after_at timestamptz default null
)
returns setof api.reservation_row
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  v_at timestamptz := 'infinity';
  v_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
begin
  perform inventory.require_self(p_user_id);
  perform inventory.require_user(p_user_id);
  perform inventory.check_limit(p_limit);
  if p_after_at is not null then
    v_at := p_after_at;
    v_id := p_after;
  elsif p_after is not null then -- it may have run out or been bought meanwhile
    select r.created_at, r.id into v_at, v_id from inventory.reservations r where r.id = p_after and r.user_id = p_user_id;
    if not found then
      perform inventory.refuse_cursor();
    end if;
  end if;
  return query
  select (inventory.reservation_row(r)).*
  from inventory.reservations r
  where r.user_id = p_user_id and r.status = 'ACTIVE' and r.expires_at > now() and (r.created_at, r.id) < (v_at, v_id)
  order by r.created_at desc, r.id desc
  limit p_limit;
end
$$;

comment on function api.my_reservations(uuid, integer, uuid, timestamptz) is
'List a user''s ACTIVE reservations that have not run out, the newest first: p_limit of them, after the one whose id is p_after.
p_after_at is the time of that one.';
