-- Foreign keys that stand for one partition of what they lead to, and were not checked with the whole.
SELECT c.oid::bigint AS oid
  FROM pg_catalog.pg_constraint c
  JOIN pg_catalog.pg_constraint whole ON whole.oid = c.conparentid
 WHERE c.contype = 'f'
   AND NOT c.convalidated
   AND NOT whole.convalidated;
