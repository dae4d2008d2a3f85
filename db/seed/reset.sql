-- Empty every table of the product, whatever is in it. Development only; make seed-reset runs it before the seed.

truncate inventory.users, inventory.drops, inventory.reservations, inventory.purchases;
