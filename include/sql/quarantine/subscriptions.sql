-- Subscriptions of this database, which would fetch from another server once enabled.
SELECT subname::text AS name, subenabled AS enabled
  FROM pg_catalog.pg_subscription
 WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
 ORDER BY subname;
