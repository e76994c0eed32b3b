-- Roles of the cluster, and whether this role may read their passwords.
SELECT coalesce(array_agg(rolname::text ORDER BY rolname) FILTER (WHERE rolname !~ '^pg_'), '{}') AS roles,
       has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS passwords_readable
  FROM pg_catalog.pg_roles;
