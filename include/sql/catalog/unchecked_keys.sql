-- Foreign keys that were never checked against the rows, and the statement that does so; needs an empty search_path.
SELECT c.oid::bigint AS oid,
       c.conrelid::bigint AS table_oid,
       pg_catalog.pg_table_size(c.conrelid) AS bytes,
       format('ALTER TABLE ONLY %s VALIDATE CONSTRAINT %I', c.conrelid::regclass, c.conname) AS statement
  FROM pg_catalog.pg_constraint c
 WHERE c.contype = 'f'
   AND NOT c.convalidated
   AND c.conparentid = 0
 ORDER BY c.oid;
