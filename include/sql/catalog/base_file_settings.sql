-- The lines of the configuration files, which may lie outside the data folder.
SELECT name, setting AS value, sourcefile AS file, applied
  FROM pg_catalog.pg_file_settings
 WHERE name IS NOT NULL
 ORDER BY seqno;
