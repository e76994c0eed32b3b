-- What tells of things that a dump of this database does not carry.
SELECT (SELECT coalesce(array_agg(nspname::text), '{}') FROM pg_catalog.pg_namespace) AS schemas,
       (SELECT count(*) FROM pg_catalog.pg_subscription
         WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) AS subscriptions,
       current_setting('is_superuser') = 'on' AS superuser,
       -- Options hold passwords: of others' mappings only a superuser sees them, and pg_dump no more than its role.
       (SELECT count(*) FROM pg_catalog.pg_user_mappings
         WHERE umoptions IS NULL AND current_setting('is_superuser') <> 'on') AS mappings_without_options;
