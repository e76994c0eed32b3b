-- A server that is to take a restored database, and what this role may do there.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       current_user::text AS role,
       r.rolsuper AS is_superuser,
       r.rolsuper OR r.rolcreatedb AS may_create_database,
       r.rolsuper OR r.rolcreaterole AS may_create_role,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       (SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_catalog.pg_roles) AS roles,
       (SELECT coalesce(array_agg(name::text), '{}') FROM pg_catalog.pg_available_extensions) AS extensions,
       (SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database
         WHERE datname = %(database)s) AS encoding
  FROM pg_catalog.pg_roles r
 WHERE r.rolname = current_user;
