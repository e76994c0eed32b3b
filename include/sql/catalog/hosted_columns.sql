-- Columns of tables that are there already, into which rows are to be copied.
SELECT n.nspname || '.' || c.relname AS relation, array_agg(a.attname::text) AS columns
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND c.relkind IN ('r', 'p')
   AND n.nspname || '.' || c.relname = ANY (%(relations)s)
 GROUP BY 1;
