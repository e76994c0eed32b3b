-- Every function that could call out: its text, and whether it belongs to an extension.
SELECT p.oid::bigint AS oid, n.nspname::text AS schema, p.proname::text AS name, p.oid::regprocedure::text AS signature,
       p.prosrc AS source, p.proacl::text AS acl, e.extname::text AS extension,
       pg_catalog.pg_get_functiondef(p.oid) AS definition
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  LEFT JOIN pg_catalog.pg_depend d ON d.objid = p.oid AND d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'e'
  LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
 WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prokind IN ('f', 'p');
