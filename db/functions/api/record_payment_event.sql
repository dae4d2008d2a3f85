-- api.record_payment_event: keep what a provider tells about a payment, and let the payment become so, if it may.
--
-- Purpose: providers tell a thing twice, late and out of order. Each event is kept once, by its provider and id, and changes the
-- payment at most once; inventory.may_pay_become has the changes that are legal. Whatever the order, the result is the same.
--
-- outcome is
--   applied     the payment has changed
--   unchanged   the event came before, the payment is so already, or it may not become so any more
--   flagged     the seller has to look at it (api.list_payment_problems). problem says why:
--     unknown_payment    no payment is named so; nothing is changed
--     wrong_amount       another amount than the payment's was paid, or is said to be refunded; nothing is changed
--     wrong_currency     nothing is changed
--     wrong_mode         the caller says so, of a test payment for example; nothing is changed
--     refunded_in_part   the provider has paid back a part of its own accord. It is noted, but which units that means is not known.
--                        If it was not told before that the payment was paid, the payment is paid now
--     too_late           the money came when the payment had been cancelled and the units were gone, so it is refunded
--     paid_twice         the payment was paid already, and this is said to be paid under another id at the provider, or to be
--                        refunded, because only what was paid can be refunded. Nothing is changed, and the seller pays it back
--                        there. What is told of that id later changes nothing either
-- payment is as it is then.
--
-- paid: the purchases are paid, or the money goes back (inventory.receive_money). failed: the buyer may try again. cancelled:
-- the units go back. refunded: the units go back, if all was refunded. refunded_amount is what was paid back so far in all; null:
-- all of it. What was refunded here before is no change, but a call to refund it that was given up ends, because somebody has done
-- that at the provider.
--
-- Locks, in this order: see inventory.lock_payment_for_event; the event's key. Only an event that moves stock locks the drop.
-- Errors: VALIDATION_ERROR (provider, event_id, status, body).

create or replace function api.record_payment_event(p_event api.payment_event)
returns table (outcome text, problem text, payment api.payment_row)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  v_id uuid;
  v_payment inventory.payments;
  v_paid_reference text;    -- the id at the provider under which the payment was paid first
  v_is_other_money boolean; -- the event is about one under which it was paid a second time
  v_refunded_amount numeric;
begin
  if p_event.provider is null or p_event.event_id is null or p_event.body is null then
    perform inventory.refuse('VALIDATION_ERROR', 'p_event: must have provider, event_id and body');
  elsif (p_event.status in ('paid', 'failed', 'cancelled', 'refunded')) is not true then
    perform inventory.refuse('VALIDATION_ERROR', 'status: must be paid, failed, cancelled or refunded');
  end if;
  v_id := inventory.find_payment(p_event);
  if v_id is not null then
    v_payment := inventory.lock_payment_for_event(p_event, v_id);
  end if;
  -- This is asked under the lock, because the same event may come several times at once.
  if exists (select from inventory.payment_events e where e.provider = p_event.provider and e.event_id = p_event.event_id) then
    outcome := 'unchanged';
    payment := case when v_id is not null then inventory.payment_row(v_payment) end;
    return next;
    return;
  end if;

  v_paid_reference := (
    select e.provider_reference
    from inventory.payment_events e
    where e.payment_id = v_id and e.status in ('paid', 'refunded') and e.provider_reference is not null
      and (e.outcome <> 'flagged' or e.problem in ('too_late', 'refunded_in_part'))
    order by e.id
    limit 1
  );
  v_is_other_money := p_event.provider_reference <> v_paid_reference and exists (
    select
    from inventory.payment_events e
    where e.payment_id = v_id and e.problem = 'paid_twice' and e.provider_reference = p_event.provider_reference
  );

  problem := case
    when p_event.problem is not null then p_event.problem
    when v_is_other_money then null
    when v_id is null then 'unknown_payment'
    when upper(p_event.currency) <> v_payment.currency then 'wrong_currency'
    when p_event.status in ('paid', 'refunded') and p_event.amount <> v_payment.amount then 'wrong_amount'
    when p_event.status in ('paid', 'refunded') and p_event.provider_reference <> v_paid_reference then 'paid_twice'
  end;
  if problem is not null then
    outcome := 'flagged';
  elsif v_is_other_money or not inventory.may_pay_become((inventory.payment_row(v_payment)).status, p_event.status) then
    outcome := 'unchanged';
  elsif p_event.status = 'paid' then
    if inventory.receive_money(v_payment) then
      outcome := 'applied';
    else
      outcome := 'flagged';
      problem := 'too_late';
    end if;
  elsif p_event.status = 'failed' then
    outcome := 'applied';
    update inventory.payments y set status = 'failed', updated_at = now() where y.id = v_id;
  elsif p_event.status = 'cancelled' then
    outcome := 'applied';
    perform inventory.cancel_payments(array[v_id], false);
  else
    v_refunded_amount := least(coalesce(p_event.refunded_amount, v_payment.amount), v_payment.amount);
    if v_refunded_amount <= v_payment.refunded_amount and v_refunded_amount < v_payment.amount then
      outcome := 'unchanged';
    elsif v_refunded_amount = v_payment.amount then
      outcome := 'applied';
      perform inventory.refund(
        d.drop_id,
        array(select p.id from inventory.purchases p where p.payment_id = v_id and p.drop_id = d.drop_id))
      from (select distinct p.drop_id from inventory.purchases p where p.payment_id = v_id) d;
      update inventory.payments y
      set status = 'refunded', refunded_amount = y.amount, updated_at = now()
      where y.id = v_id;
      perform inventory.drop_calls(v_id, array['cancel', 'refund']);
    else
      outcome := 'flagged';
      update inventory.payments y
      set refunded_amount = v_refunded_amount, updated_at = now()
      where y.id = v_id
      returning * into v_payment;
      -- Only what was paid can be refunded, so this event tells that, too. The one that should have told it may be lost.
      problem := case
        when v_payment.status = 'paid' or inventory.receive_money(v_payment) then 'refunded_in_part'
        else 'too_late'
      end;
    end if;
  end if;

  if outcome = 'unchanged' and p_event.status = 'refunded' and v_payment.refunded_amount > 0 and v_is_other_money is not true
    and coalesce(p_event.refunded_amount >= v_payment.refunded_amount, true)
  then
    perform inventory.drop_calls(v_id, array['refund'], coalesce(p_event.refunded_amount < v_payment.amount, false));
  end if;
  if v_id is not null and v_payment.provider_reference is null and p_event.provider_reference is not null
    and (problem is null or problem in ('refunded_in_part', 'too_late')) -- otherwise it is the id of other money
  then
    update inventory.payments y
    set provider_reference = p_event.provider_reference
    where y.id = v_id and not exists (
      select from inventory.payments other
      where other.provider = p_event.provider and other.provider_reference = p_event.provider_reference);
  end if;
  insert into inventory.payment_events (
    provider, event_id, payment_id, provider_reference, status, amount, currency, refunded_amount, body, outcome, problem)
  values (
    p_event.provider, p_event.event_id, v_id, p_event.provider_reference, p_event.status, p_event.amount, p_event.currency,
    p_event.refunded_amount, p_event.body, outcome, problem)
  on conflict on constraint payment_events_event_id_key do nothing; -- no lock keeps the same event of an unknown payment apart
  if not found then
    outcome := 'unchanged';
    problem := null;
  end if;
  payment := (select inventory.payment_row(y) from inventory.payments y where y.id = v_id);
  return next;
end
$$;

comment on function api.record_payment_event(api.payment_event) is
'Keep what a provider tells about a payment, once, and let the payment become so, if it may. Returns applied, unchanged or
flagged, the problem if there is one, and the payment as it is then.';
