-- The triggers of some tables that would fire, with the state that each is to have again.
SELECT ARRAY[n.nspname::text, c.relname::text] AS relation,
       t.tgname::text AS name,
       t.tgenabled::text AS state
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE t.tgrelid = ANY (%(oids)s) AND NOT t.tgisinternal
 ORDER BY 1, 2;
