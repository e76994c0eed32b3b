-- What a customer has made in a hosted project's database: no member of an extension, nothing of PostgreSQL's.
SELECT n.nspname::text AS schema, format('%I.%I', n.nspname, o.name) AS name
  FROM (SELECT 'pg_catalog.pg_class'::regclass AS catalog, oid, relnamespace AS namespace, relname::text AS name
          FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        UNION ALL
        SELECT 'pg_catalog.pg_proc'::regclass, oid, pronamespace, proname::text FROM pg_catalog.pg_proc
        UNION ALL
        SELECT 'pg_catalog.pg_type'::regclass, oid, typnamespace, typname::text FROM pg_catalog.pg_type
         WHERE typtype IN ('d', 'e', 'r')) o
  JOIN pg_catalog.pg_namespace n ON n.oid = o.namespace
 WHERE n.nspname !~ '^(pg_|backup_quarantine(_[0-9]+)?$)' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = o.catalog AND d.objid = o.oid AND d.deptype = 'e')
 ORDER BY 1, 2;
