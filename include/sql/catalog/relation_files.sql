-- Every relation with rows of its own, and the file that holds them: a TRUNCATE or a rewrite gives a new file.
SELECT c.oid::bigint AS oid, format('%I.%I', n.nspname, c.relname) AS name,
       pg_catalog.pg_relation_filenode(c.oid)::bigint AS filenode
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)';
