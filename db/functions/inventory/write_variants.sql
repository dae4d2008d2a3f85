-- inventory.write_variants: make the variants of a drop these ones.
--
-- Purpose: a step of api.update_drop, after inventory.variants_after_changes has decided.
--
-- It sets lastpair.is_by_hand, because any session may have set it to off, and then inventory.note_variants looks at the stock only.
--
-- Locks: the caller holds the drop's row. Errors: unique_violation, check_violation.

create or replace function inventory.write_variants(p_drop_id uuid, p_variants inventory.variants[])
returns void
language plpgsql
as $$
begin
  perform set_config('lastpair.is_by_hand', 'on', true);
  delete from inventory.variants v
  where v.drop_id = p_drop_id and v.id not in (select n.id from unnest(p_variants) n);
  -- Two variants may have exchanged their names, which an update in place would take for a name that is used twice.
  update inventory.variants v set name = v.id::text
  from unnest(p_variants) n
  where v.drop_id = p_drop_id and v.id = n.id and v.name <> n.name;
  insert into inventory.variants select n.* from unnest(p_variants) n
  on conflict (drop_id, id) do update
  set (name, price, total_stock, available_stock, position, updated_at) =
    (excluded.name, excluded.price, excluded.total_stock, excluded.available_stock, excluded.position, excluded.updated_at);
end
$$;

comment on function inventory.write_variants(uuid, inventory.variants[]) is
'Make the variants of a drop these ones. The caller holds the drop''s lock.';
