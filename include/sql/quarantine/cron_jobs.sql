-- Jobs that pg_cron would run; the columns differ by version, so each job is shown as JSON.
SELECT j.jobid::text AS id, to_jsonb(j) AS job
  FROM cron.job j
 WHERE j.active
 ORDER BY j.jobid;
