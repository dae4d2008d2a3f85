-- Remove the jobs that db/recipes/pg_cron.sql scheduled. Run this as the same role. The service's sweeper keeps running.

select cron.unschedule(jobid) from cron.job where username = current_user and jobname like 'lastpair %';
