-- What a database holds beyond what CREATE DATABASE gives it.
WITH own_schema AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace
   WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
)
SELECT kind, name
  FROM (SELECT 'schema' AS kind, nspname::text AS name FROM own_schema WHERE nspname <> 'public'
        UNION ALL
        SELECT 'relation', format('%I.%I', nspname, relname)
          FROM pg_catalog.pg_class JOIN own_schema s ON s.oid = relnamespace
        UNION ALL
        SELECT 'function', format('%I.%I', nspname, proname)
          FROM pg_catalog.pg_proc JOIN own_schema s ON s.oid = pronamespace
        UNION ALL
        SELECT 'type', format('%I.%I', nspname, typname)
          FROM pg_catalog.pg_type JOIN own_schema s ON s.oid = typnamespace WHERE typtype IN ('d', 'e', 'r')
        UNION ALL
        SELECT 'extension', extname::text FROM pg_catalog.pg_extension WHERE extname <> 'plpgsql'
        UNION ALL
        SELECT 'large object', oid::text FROM pg_catalog.pg_largeobject_metadata
        UNION ALL
        SELECT 'publication', pubname::text FROM pg_catalog.pg_publication
        UNION ALL
        SELECT 'event trigger', evtname::text FROM pg_catalog.pg_event_trigger) AS found
 ORDER BY kind, name
 LIMIT 10;
