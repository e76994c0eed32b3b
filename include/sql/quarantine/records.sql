-- The tables by a record's name, and whether this role or a superuser has made each: rows of anybody else's, which a
-- source may bring along, would be run with the rights of whoever releases.
SELECT n.nspname::text AS schema, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner,
       c.relkind = 'r' AND NOT c.relhastriggers AND NOT c.relhasrules
       AND (SELECT bool_and(r.rolsuper OR r.rolname = current_user) FROM pg_catalog.pg_roles r
             WHERE r.oid IN (c.relowner, n.nspowner)) AS trusted
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname ~ '^backup_quarantine(_[0-9]+)?$' AND c.relname = 'items'
 ORDER BY n.oid;
