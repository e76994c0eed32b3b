-- What tells of things that a dump of this database does not carry.
SELECT (SELECT coalesce(array_agg(nspname::text), '{}') FROM pg_catalog.pg_namespace) AS schemas,
       (SELECT count(*) FROM pg_catalog.pg_subscription
         WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) AS subscriptions;
