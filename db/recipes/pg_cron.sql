-- The sweep inside the database: pg_cron does the work of the service's sweeper, even while no process of the service runs.
-- Run this as the role that owns the schemas. A second run replaces the jobs, and
-- db/recipes/pg_cron_off.sql removes them. docs/operations.md, "The sweep inside the database", says how to set up pg_cron first.
--
--   psql -X -v ON_ERROR_STOP=1 -f db/recipes/pg_cron.sql "$MIGRATION_DATABASE_URL"
--
-- Before version 1.5, pg_cron cannot run a job more often than once a minute. From 1.5 on, add -v every='2 seconds' to run as
-- often as the service does. The event log reaches back an hour, the default; for another EVENT_RETENTION_SECONDS add its value,
-- for example -v retention_seconds=7200.

\if :{?every}
\else
  \set every '* * * * *'
\endif
\if :{?retention_seconds}
\else
  \set retention_seconds 3600
\endif

-- Expire a thousand holds a transaction until no more are due. So a long sweep does not keep locks for long, and after a failure
-- it does not start from the beginning.
select cron.schedule('lastpair expire', :'every', $job$
do $$
declare
  v_expired integer;
begin
  loop
    select count(*) into v_expired from api.expire_reservations(1000);
    commit;
    exit when v_expired < 1000;
  end loop;
end
$$
$job$);

-- The same for payments that nobody paid in time. To tell their provider takes the service.
select cron.schedule('lastpair expire payments', :'every', $job$
do $$
declare
  v_expired integer;
begin
  loop
    v_expired := api.expire_payments(1000);
    commit;
    exit when v_expired < 1000;
  end loop;
end
$$
$job$);

select cron.schedule('lastpair advance', :'every', 'select from api.advance_drops()');

-- format() builds this command, because psql replaces no variable inside dollar quotes.
select cron.schedule('lastpair prune', '* * * * *', format($job$
do $$
declare
  v_pruned bigint;
begin
  loop
    v_pruned := api.prune_events(%s, 10000);
    commit;
    exit when v_pruned < 10000;
  end loop;
end
$$
$job$, :retention_seconds::integer));

select cron.schedule('lastpair prune keys', '23 * * * *', 'select api.prune_idempotency_keys(86400)');
select cron.schedule('lastpair prune webhooks', '*/5 * * * *', 'select api.prune_webhooks(604800, 100000)');

-- pg_cron keeps a row of every run forever; this job deletes the old ones.
select cron.schedule('lastpair forget runs', '17 3 * * *',
  $job$delete from cron.job_run_details where username = current_user and end_time < now() - interval '1 day'$job$);
