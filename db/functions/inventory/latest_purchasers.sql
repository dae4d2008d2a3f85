-- inventory.latest_purchasers: the three latest paid purchases of a drop, the newest first, as a JSON array, with the names that
-- everybody may see.
--
-- Locks: none. Errors: none.
-- Plans: as in inventory.reserve_facts. A lateral subquery with a limit looks up each user, so the planner cannot make it a join.
-- The subquery of `names` stands where the purchases are read, because PostgreSQL does not put inventory.public_name into a
-- statement if its argument is a subquery.

create or replace function inventory.latest_purchasers(p_drop_id uuid)
returns table (purchasers json)
language sql stable
as $$
  select to_json(array(
    select
      row(latest.user_id, inventory.public_name(u.username, latest.names), latest.qty, latest.created_at)::api.purchaser
    from (
      select p.id, p.user_id, p.qty, p.created_at, (select inventory.purchaser_names()) as names
      from inventory.purchases p
      where p.drop_id = p_drop_id and p.status = 'paid'
      order by p.created_at desc, p.id desc
      limit 3
    ) latest
    left join lateral (
      select u.username from inventory.users u where u.id = latest.user_id limit 1
    ) u on true
    order by latest.created_at desc, latest.id desc
  ))
$$;

comment on function inventory.latest_purchasers(uuid) is
'Return the three latest paid purchases of a drop, the newest first, as JSON.';
