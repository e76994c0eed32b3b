-- The columns of a table, with all that decides whether another table's rows mean the same in them.
SELECT a.attname::text AS name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attcollation NOT IN (0, t.typcollation)
            THEN (SELECT pg_catalog.format('%%I.%%I', n.nspname, l.collname)
                    FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
                   WHERE l.oid = a.attcollation)
       END AS collation,
       a.attgenerated <> '' AS generated,
       a.attidentity = 'a' AS always_identity,
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid ORDER BY 1) AS labels,
       CASE b.typtype
            WHEN 'd' THEN pg_catalog.format_type(b.typbasetype, b.typtypmod)
            WHEN 'c' THEN (SELECT pg_catalog.string_agg(pg_catalog.format(
                                    '%%I %%s', f.attname, pg_catalog.format_type(f.atttypid, f.atttypmod)),
                                    ', ' ORDER BY f.attnum)
                             FROM pg_catalog.pg_attribute f
                            WHERE f.attrelid = b.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
       END AS shape
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
 WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum;
