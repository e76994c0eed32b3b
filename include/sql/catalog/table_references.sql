-- Foreign keys by one of their two tables. A partition's copy of its parent's key counts only where the parent is not
-- there to be counted.
SELECT f.oid::bigint AS oid,
       f.conname::text AS name,
       f.conrelid::bigint AS child,
       f.confrelid::bigint AS parent,
       cn.nspname::text AS child_schema, c.relname::text AS child_table, c.relkind::text AS child_kind,
       pn.nspname::text AS parent_schema, p.relname::text AS parent_table, p.relkind::text AS parent_kind,
       f.confdeltype::text AS on_delete,
       f.confupdtype::text AS on_update,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY k (number, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number
              ORDER BY k.place) AS child_columns,
       ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY k (number, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.number
              ORDER BY k.place) AS parent_columns,
       ARRAY(SELECT pg_catalog.format('OPERATOR(%%I.%%s)', n.nspname, o.oprname)
               FROM pg_catalog.unnest(f.conpfeqop) WITH ORDINALITY k (operator, place)
               JOIN pg_catalog.pg_operator o ON o.oid = k.operator
               JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
              ORDER BY k.place) AS operators
  FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
  JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = f.confrelid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE f.contype = 'f'
   AND (f.conparentid = 0 OR CASE WHEN f.confrelid = ANY (%(oids)s) AND NOT c.relispartition THEN true
                                  WHEN f.conrelid = ANY (%(oids)s) AND NOT p.relispartition THEN true END)
   AND (f.confrelid = ANY (%(oids)s) OR f.conrelid = ANY (%(oids)s))
 ORDER BY f.conname, f.oid;
