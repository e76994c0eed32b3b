-- Triggers that fire, and the function that each calls.
SELECT t.oid::bigint AS oid, t.tgname::text AS name, n.nspname::text AS schema, c.relname::text AS relation,
       t.tgenabled::text AS enabled, t.tgfoid::bigint AS function
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
 ORDER BY n.nspname, c.relname, t.tgname;
