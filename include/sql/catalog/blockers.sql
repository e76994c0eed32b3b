-- Sessions that would make the dump wait, or that the dump would make bloat worse for.
SELECT coalesce((SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8
                   FROM pg_catalog.pg_stat_activity
                  WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()), 0) AS longest_transaction_seconds,
       (SELECT count(*) FROM pg_catalog.pg_prepared_xacts) AS prepared_transactions,
       (SELECT coalesce(array_agg(l.relation::regclass::text || ' (pid ' || l.pid || ')'), '{}')
          FROM pg_catalog.pg_locks l
         WHERE l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation'
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       ) AS exclusive_locks;
