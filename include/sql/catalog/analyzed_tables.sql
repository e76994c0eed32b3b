-- What ANALYZE reads in this database, as it names them, the largest first; a partitioned table brings its partitions.
SELECT c.oid::bigint AS oid,
       format('%I.%I', n.nspname, c.relname) AS name,
       pg_catalog.pg_table_size(c.oid)
         + coalesce((SELECT sum(pg_catalog.pg_table_size(t.relid)) FROM pg_catalog.pg_partition_tree(c.oid) t
                      WHERE t.relid <> c.oid), 0)::bigint AS bytes
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm', 'p')
   AND c.relpersistence <> 't'
   AND NOT c.relispartition
   AND NOT c.relisshared
 ORDER BY bytes DESC, name;
