-- Empty all tables of the product, real data included. For development only; make seed-reset runs it before the seed.

truncate inventory.users, inventory.drops, inventory.variants, inventory.reservations, inventory.purchases, inventory.baskets,
  inventory.idempotency_keys, inventory.events;
-- The history refuses this otherwise.
alter table inventory.drop_changes disable trigger drop_changes_keep;
truncate inventory.drop_changes;
alter table inventory.drop_changes enable trigger drop_changes_keep;

-- A notification that is only an id makes listeners read the log. The log no longer reaches back to them, so dashboards start
-- anew.
select pg_notify('lastpair_events', nextval('inventory.events_id_seq')::text);
