-- Indexes that exist but cannot be used.
SELECT indexrelid::regclass::text AS index
  FROM pg_catalog.pg_index
 WHERE NOT (indisvalid AND indisready AND indislive)
   AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = indexrelid AND c.relkind = 'i');
