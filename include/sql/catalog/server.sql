-- The source server and database, as a restore has to rebuild them.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int / 10000 AS major,
       d.datname AS database,
       pg_catalog.pg_get_userbyid(d.datdba) AS owner,
       pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datlocprovider::text AS locale_provider,
       d.datcollate AS collate,
       d.datctype AS ctype,
       d.datcollversion AS collation_version,
       pg_catalog.pg_is_in_recovery() AS in_recovery,
       (SELECT coalesce(array_agg(o.datname::text ORDER BY o.datname), '{}')
          FROM pg_catalog.pg_database o
         WHERE o.datname <> d.datname AND NOT o.datistemplate AND o.datallowconn) AS other_databases
  FROM pg_catalog.pg_database d
 WHERE d.datname = current_database();
