-- What a base backup has to know of the cluster, and whether this role may take one.
SELECT pg_catalog.pg_is_in_recovery() AS in_recovery,
       current_setting('wal_level') AS wal_level,
       current_setting('max_wal_senders')::int AS max_wal_senders,
       coalesce(current_setting('summarize_wal', true), 'off') = 'on' AS summarizes,
       current_setting('data_checksums') = 'on' AS data_checksums,
       (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size') AS wal_segment_bytes,
       (SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid = 10) AS superuser,
       (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS may_replicate,
       (SELECT array_agg(datname::text ORDER BY datname) FROM pg_catalog.pg_database WHERE datallowconn) AS databases,
       (SELECT sum(pg_catalog.pg_database_size(oid))::bigint FROM pg_catalog.pg_database
         WHERE has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
       ) AS cluster_bytes,
       (SELECT coalesce(array_agg(format('%I.%I', n.nspname, c.relname) ORDER BY n.nspname, c.relname), '{}')
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relpersistence = 'u' AND c.relkind = 'r') AS unlogged,
       clock_timestamp() AS now;
