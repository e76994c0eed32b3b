-- Tables that hold rows of their own, the largest first; with what the planner believes of them.
SELECT n.nspname::text AS schema,
       c.relname::text AS "table",
       pg_catalog.pg_table_size(c.oid) AS bytes,
       greatest(c.reltuples, 0)::bigint AS estimate
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY bytes DESC, 1, 2;
