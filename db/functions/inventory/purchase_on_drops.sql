-- inventory.purchase_on_drops: turn the holds of many users into purchases, in the order given.
--
-- Purpose: the one implementation of purchasing; api.purchase calls it for one request, api.purchase_batch for many. Requests of
-- one user in one call behave as if they came one after the other.
--
-- Steps: inventory.find_holds finds the holds; inventory.lock_and_expire_holds gives back those that have run out, if there
-- are any; the live ones are consumed here; inventory.purchase_decisions says what becomes of each request; the sales are
-- written here, with the units, the unit price and the currency of the hold.
--
-- With a provider of payments (api.set_payment_provider) what costs something is sold as pending, and each sale gets a payment,
-- or with p_basket_id all of them get one: inventory.plan_payments makes their ids and ends, inventory.open_payments writes them.
--
-- A user who has several holds on a drop may mean different ones in one call. Then the first such request goes with those of others,
-- and each of the rest alone (inventory.purchases_alone says when). At the same moment another session may sell
-- another of these holds with the same Idempotency-Key. Then this call waits, undoes what it did, and begins again, because it finds
-- that purchase now. The part that may be undone is a call of this function that is given the holds (p_holds).
--
-- Locks, in this order: the rows of those drops on which one of the holds has run out, because its units must go back, in the
-- order of their ids; reservations in the order of their ids; keys in the order of drops, users and keys. Any other drop is left
-- alone, because the reserve has taken the stock already.
--
-- Errors: VALIDATION_ERROR (a key). Nothing else is raised; each request has its code: AUTH_REQUIRED, DROP_NOT_FOUND,
-- DROP_NOT_ACTIVE (it was cancelled), SEVERAL_RESERVATIONS, RESERVATION_NOT_FOUND (the one that it names), RESERVATION_EXPIRED,
-- NO_ACTIVE_RESERVATION, IDEMPOTENCY_KEY_REUSED.
--
-- Plans: as in inventory.reserve_on_drops and inventory.expire_due. = any (array) visits the primary key in its order, so that
-- the update locks reservations in the order of their ids.
--
-- "rows" keeps the estimated cost of a call for many drops far below what starts PostgreSQL's JIT compiler.

create or replace function inventory.purchase_on_drops(
  p_requests api.purchase_request[], p_basket_id uuid default null, p_holds inventory.hold_facts[] default null
)
returns table (n integer, code text, replayed boolean, purchase api.purchase_row)
language plpgsql rows 10
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_keys text[] := array(select q.idempotency_key from unnest(p_requests) q);
  v_has_keys boolean := array_remove(v_keys, null) <> '{}';
  v_holds inventory.hold_facts[]; -- of each request
  v_has_variants boolean;
  v_repeats_user boolean;
  v_alone integer[]; -- the numbers of the requests that go alone, after the others; null: none
  v_together integer[]; -- those of the others
  v_live_ids uuid[];
  v_due_ids uuid[];
  v_consumed_ids uuid[];
  v_new_ids uuid[]; -- an id for each request, in case it buys units
  v_provider text;
  v_payment_ids uuid[]; -- with a provider: of each request
  v_payment_ends timestamptz[];
  v_is_by_hand text;
  v_constraint text;
begin
  if p_holds is null and v_has_keys then
    perform inventory.check_idempotency_keys(v_keys);
  end if;
  v_holds := coalesce(
    p_holds,
    array(
      select row(h.hold_id, h.is_due, h.has_several, h.variant_id, h.qty, h.unit_price, h.currency)::inventory.hold_facts
      from inventory.find_holds(p_requests) h
      order by h.n
    ));
  select
    array_agg(distinct q.hold_id) filter (where not q.is_due), array_agg(distinct q.hold_id) filter (where q.is_due),
    bool_or(q.variant_id is not null), count(distinct q.user_id) < count(*)
  into v_live_ids, v_due_ids, v_has_variants, v_repeats_user
  from rows from (unnest(p_requests), unnest(v_holds)) as q (
    drop_id, user_id, idempotency_key, reservation_id, hold_id, is_due, has_several, variant_id, qty, unit_price, currency);

  if v_due_ids is not null then
    perform inventory.lock_and_expire_holds(
      array(
        select distinct q.drop_id
        from rows from (unnest(p_requests), unnest(v_holds)) as q (
          drop_id, user_id, idempotency_key, reservation_id, hold_id, is_due, has_several, variant_id, qty, unit_price, currency)
        where q.is_due
        order by q.drop_id
      ),
      v_live_ids, v_due_ids);
    -- A hold that is not due any more was extended by a transaction that began before it was due and has committed since.
    v_live_ids := v_live_ids || array(
      select r.id
      from inventory.reservations r
      where r.id = any (v_due_ids) and r.expires_at > now()
    );
    v_holds := array(
      select
        row(
          h.hold_id, h.is_due and h.hold_id <> all (v_live_ids), h.has_several, h.variant_id, h.qty, h.unit_price,
          h.currency)::inventory.hold_facts
      from unnest(v_holds) with ordinality h
      order by h.ordinality
    );
  end if;

  if p_holds is null then
    if v_repeats_user then
      v_alone := inventory.purchases_alone(p_requests, v_holds);
    end if;
    if v_alone is not null then
      -- All are locked now, because those of one request after the other would not be locked in the order of their ids.
      perform from inventory.reservations r where r.id = any (v_live_ids) order by r.id for no key update;
      v_together := array(
        select q.ordinality from unnest(p_requests) with ordinality q where q.ordinality <> all (v_alone) order by q.ordinality);
      return query
      select v_together[o.n], o.code, o.replayed, o.purchase
      from inventory.purchase_on_drops(array(select p_requests[q.n] from unnest(v_together) q (n)), p_basket_id) o;
      return query
      select q.n, o.code, o.replayed, o.purchase
      from unnest(v_alone) q (n)
      cross join lateral inventory.purchase_on_drops(array[p_requests[q.n]], p_basket_id) o;
      return;
    elsif v_has_keys and v_has_variants then
      begin
        return query select * from inventory.purchase_on_drops(p_requests, p_basket_id, v_holds);
      exception when unique_violation then
        get stacked diagnostics v_constraint = constraint_name;
        if v_constraint <> 'purchases_idempotency_key' or current_setting('transaction_isolation') <> 'read committed' then
          raise; -- the other purchase is not seen, so it would be the same again
        end if;
        return query select * from inventory.purchase_on_drops(p_requests, p_basket_id);
      end;
      return;
    end if;
  end if;

  v_is_by_hand := set_config('lastpair.is_by_hand', 'off', true); -- see inventory.note_reservations and inventory.note_purchases
  if v_live_ids <> '{}' then
    with consumed as (
      update inventory.reservations r
      set status = 'CONSUMED', updated_at = now()
      where r.id = any (v_live_ids) and r.status <> all (array['EXPIRED', 'CANCELLED', 'CONSUMED'])
      returning r.id
    )
    select array_agg(consumed.id), (select s.payment_provider from inventory.settings s where s.is_only)
    into v_consumed_ids, v_provider
    from consumed;
  end if;

  if v_consumed_ids is null then -- nothing is sold, so nothing is written, and no trigger runs
    v_is_by_hand := set_config('lastpair.is_by_hand', 'on', true);
    return query
    select d.n, d.code, d.replayed, case when d.code is null then d.earlier end
    from inventory.purchase_decisions(p_requests, v_holds, cardinality(v_live_ids), null) d
    order by d.n;
    return;
  end if;

  v_new_ids := inventory.new_ids(cardinality(p_requests));
  if v_provider <> 'none' then
    select p.payment_ids, p.ends into v_payment_ids, v_payment_ends
    from inventory.plan_payments(v_holds, p_basket_id is not null) p;
  end if;
  return query
  with decision as materialized (
    select *
    from inventory.purchase_decisions(p_requests, v_holds, cardinality(v_live_ids), v_consumed_ids)
  ),
  sale as (
    insert into inventory.purchases (
      id, drop_id, variant_id, reservation_id, user_id, qty, unit_price, currency, amount, status, idempotency_key,
      payment_id, payment_expires_at)
    select
      v_new_ids[d.n], d.drop_id, d.variant_id, d.hold_id, d.user_id, d.qty, d.unit_price, d.currency, d.qty * d.unit_price,
      case when v_payment_ids[d.n] is null then 'paid' else 'pending' end, d.idempotency_key,
      v_payment_ids[d.n], v_payment_ends[d.n]
    from decision d
    where d.is_sold and d.n = d.leader_n
    order by d.drop_id, d.user_id, d.idempotency_key
  )
  select
    d.n,
    d.code,
    d.replayed,
    case
      when d.is_sold then
        row(
          v_new_ids[d.leader_n], d.drop_id, d.variant_id, d.hold_id, d.user_id, d.qty, d.unit_price, d.currency,
          d.qty * d.unit_price, case when v_payment_ids[d.leader_n] is null then 'paid' else 'pending' end, null, null,
          now(), now(), 0, v_payment_ids[d.leader_n])::api.purchase_row
      when d.code is null then d.earlier
    end
  from decision d
  order by d.n;
  v_is_by_hand := set_config('lastpair.is_by_hand', 'on', true);
  if v_payment_ids is not null then
    perform inventory.open_payments(v_provider, v_new_ids, p_basket_id);
  end if;
end
$$;

comment on function inventory.purchase_on_drops(api.purchase_request[], uuid, inventory.hold_facts[]) is
'Turn the holds of many users into purchases; one outcome per request, nothing raised for a refusal.';
