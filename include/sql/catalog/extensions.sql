-- Extensions with the rows that pg_dump takes of their configuration tables (pg_extension.extcondition).
SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema,
       coalesce((SELECT jsonb_object_agg(format('%I.%I', cn.nspname, c.relname),
                                         coalesce(e.extcondition[position.i], ''))
                   FROM generate_subscripts(e.extconfig, 1) AS position(i)
                   JOIN pg_catalog.pg_class c ON c.oid = e.extconfig[position.i]
                   JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace), '{}') AS conditions
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 ORDER BY e.extname;
