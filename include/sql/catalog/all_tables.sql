-- Every table of a database whose rows are its own, with the catalogue's.
SELECT format('%I.%I', n.nspname, c.relname) AS name
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE (c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated)
   AND c.relpersistence <> 't' AND n.nspname !~ '^pg_(temp|toast)'
 ORDER BY n.nspname, c.relname;
