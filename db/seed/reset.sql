-- Empty every table of the product, whatever is in it. Development only; make seed-reset runs it before the seed.

truncate inventory.users, inventory.drops, inventory.reservations, inventory.purchases, inventory.events;

-- A notification of the id alone sends listeners to the log, which does not reach back any more: dashboards start anew.
select pg_notify('lastpair_events', nextval('inventory.events_id_seq')::text);
