-- What binds some tables to others that do not come with them: foreign keys, and tables above them.
SELECT 'constraint' AS what, n.nspname::text AS schema, c.relname::text AS table, f.conname::text AS name,
       pn.nspname::text AS other_schema, p.relname::text AS other_table
  FROM pg_catalog.pg_constraint f
  JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = f.confrelid
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid = ANY (%(oids)s) AND NOT f.confrelid = ANY (%(oids)s)
UNION ALL
SELECT CASE WHEN c.relispartition THEN 'partition' ELSE 'child' END, n.nspname, c.relname, '', pn.nspname, p.relname
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE i.inhrelid = ANY (%(oids)s) AND NOT i.inhparent = ANY (%(oids)s);
