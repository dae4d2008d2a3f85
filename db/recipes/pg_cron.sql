-- The sweep inside the database: what the service's poller does, done by pg_cron, also while no process of the service runs.
-- Run it as the role that owns the schemas (the one of DATABASE_URL); run again, it replaces the jobs. db/recipes/pg_cron_off.sql
-- takes them back. docs/operations.md, "The sweep inside the database", says what to set up before.
--
--   psql -X -v ON_ERROR_STOP=1 -f db/recipes/pg_cron.sql "$DATABASE_URL"
--
-- A minute is the least that pg_cron does before 1.5. From 1.5 on add, for the service's own pace:  -v every='2 seconds'
-- The event log reaches back an hour, as by default; for another EVENT_RETENTION_SECONDS add:       -v retention_seconds=7200

\if :{?every}
\else
  \set every '* * * * *'
\endif
\if :{?retention_seconds}
\else
  \set retention_seconds 3600
\endif

-- A thousand holds a transaction, until nothing is due: a sweep of many neither holds locks for long nor starts all over when it fails.
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

select cron.schedule('lastpair advance', :'every', 'select from api.advance_drops()');

-- psql replaces no variable inside dollar quotes, so the command is put together.
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

-- pg_cron notes every run and forgets none.
select cron.schedule('lastpair forget runs', '17 3 * * *',
  $job$delete from cron.job_run_details where username = current_user and end_time < now() - interval '1 day'$job$);
