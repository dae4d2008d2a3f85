-- Count the rows of each table.

select 'users' as table_name, count(*) as row_count from inventory.users
union all
select 'drops', count(*) from inventory.drops
union all
select 'reservations', count(*) from inventory.reservations
union all
select 'purchases', count(*) from inventory.purchases;
