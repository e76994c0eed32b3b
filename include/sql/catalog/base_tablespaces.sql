-- Tablespaces outside the data folder.
SELECT oid::bigint AS oid, spcname::text AS name, pg_catalog.pg_tablespace_location(oid) AS location
  FROM pg_catalog.pg_tablespace
 WHERE pg_catalog.pg_tablespace_location(oid) <> ''
 ORDER BY oid;
