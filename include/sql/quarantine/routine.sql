-- One routine: a name that means it under any search_path, its owner, and who may execute it.
SELECT pg_catalog.format('%%I.%%I(%%s)', n.nspname, p.proname, (
           SELECT pg_catalog.string_agg(pg_catalog.format('%%I.%%I', tn.nspname, t.typname), ', ' ORDER BY a.position)
             FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY a (type, position)
             JOIN pg_catalog.pg_type t ON t.oid = a.type
             JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace)) AS name,
       pg_catalog.pg_get_userbyid(p.proowner)::text AS owner, p.proacl::text AS acl
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.oid = %(oid)s;
