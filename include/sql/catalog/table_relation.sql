-- One relation by its name, with its partitions: what it is, who owns it, what would hinder a merge.
SELECT c.oid::bigint AS oid,
       c.relkind::text AS kind,
       o.rolname::text AS owner,
       pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') AS may_own,
       pg_catalog.pg_table_size(c.oid)::bigint AS bytes,
       ARRAY(SELECT r.rulename::text FROM pg_catalog.pg_rewrite r
              WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN' AND r.ev_enabled IN ('O', 'A')) AS rules,
       ARRAY(SELECT p.relid::bigint FROM pg_catalog.pg_partition_tree(c.oid) p
             UNION SELECT c.oid::bigint) AS parts
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
 WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'm', 'f');
