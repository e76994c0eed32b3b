-- The sequences that give a table's columns their next values.
SELECT DISTINCT ON (s.oid)
       n.nspname::text AS schema,
       s.relname::text AS name,
       d.classid = 'pg_catalog.pg_class'::regclass AS owned,
       a.attname::text AS column_name,
       q.seqincrement > 0 AS ascending,
       q.seqmin::bigint AS least,
       q.seqmax::bigint AS most
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_class s ON s.relkind = 'S' AND (
            (d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i'))
         OR (d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
             AND d.refobjid = s.oid))
  JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
  JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
  LEFT JOIN pg_catalog.pg_attrdef x ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND x.oid = d.objid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = coalesce(x.adrelid, d.refobjid)
                                AND a.attnum = coalesce(x.adnum, d.refobjsubid) AND a.attnum > 0
 WHERE a.attrelid = ANY (%(oids)s)
 ORDER BY s.oid, d.classid = 'pg_catalog.pg_class'::regclass DESC, a.attnum;
