-- Empty all tables of the product, real data included. For development only; make seed-reset runs it before the seed.

truncate inventory.users, inventory.drops, inventory.variants, inventory.reservations, inventory.purchases, inventory.baskets,
  inventory.idempotency_keys, inventory.events, inventory.payments, inventory.provider_calls, inventory.webhook_messages,
  inventory.webhook_deliveries, inventory.webhook_lanes;
-- These refuse it otherwise.
alter table inventory.drop_changes disable trigger drop_changes_keep;
alter table inventory.payment_events disable trigger payment_events_keep;
truncate inventory.drop_changes, inventory.payment_events;
alter table inventory.drop_changes enable trigger drop_changes_keep;
alter table inventory.payment_events enable trigger payment_events_keep;

-- A notification that is only an id makes listeners read the log. The log no longer reaches back to them, so dashboards start
-- anew.
select pg_notify('lastpair_events', nextval('inventory.events_id_seq')::text);
