-- The types that some tables' columns are made of, as far as they are nobody else's: no extension's, not PostgreSQL's.
WITH RECURSIVE used (oid) AS (
  SELECT a.atttypid FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
  UNION
  SELECT p.oid
    FROM used u
    JOIN pg_catalog.pg_type t ON t.oid = u.oid
   CROSS JOIN LATERAL (
     SELECT t.typelem AS oid WHERE t.typelem <> 0 AND t.typcategory = 'A'
     UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
     UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
     UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
     UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
   ) p
)
SELECT n.nspname::text AS schema, t.typname::text AS name, t.typtype::text AS kind,
       coalesce((SELECT c.relkind::text FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid), '') AS relation_kind
  FROM used u
  JOIN pg_catalog.pg_type t ON t.oid = u.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typtype IN ('e', 'd', 'c', 'r') AND n.nspname <> 'pg_catalog' AND n.nspname <> 'information_schema'
   AND NOT (t.typrelid = ANY (%(oids)s))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
 ORDER BY 1, 2;
