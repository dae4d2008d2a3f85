-- Takes back what db/recipes/pg_cron.sql scheduled; run it as the same role. The service's poller goes on as ever.

select cron.unschedule(jobid) from cron.job where username = current_user and jobname like 'lastpair %';
