-- Triggers of constraints that a restore left switched off.
SELECT tgrelid::regclass::text AS "table", tgname AS trigger
  FROM pg_catalog.pg_trigger
 WHERE tgisinternal AND tgenabled = 'D';
