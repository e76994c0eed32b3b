-- The keys of a table by which rows can be matched: unique at every moment, over columns that are never null.
SELECT c.relname::text AS name,
       i.indisprimary AS is_primary,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
              WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
       ARRAY(SELECT pg_catalog.format('OPERATOR(%%I.%%s)', n.nspname, o.oprname)
               FROM pg_catalog.unnest(i.indclass::oid[]) WITH ORDINALITY k (class, place)
               JOIN pg_catalog.pg_opclass x ON x.oid = k.class
               JOIN pg_catalog.pg_amop m ON m.amopfamily = x.opcfamily AND m.amoplefttype = x.opcintype
                                        AND m.amoprighttype = x.opcintype AND m.amopstrategy = 3
               JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
               JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
              ORDER BY k.place) AS operators
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am h ON h.oid = c.relam
 WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indimmediate
   AND i.indpred IS NULL AND i.indexprs IS NULL AND h.amname = 'btree'
   AND NOT EXISTS (SELECT
                     FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                    WHERE k.place <= i.indnkeyatts AND (NOT a.attnotnull OR a.attgenerated <> ''))
 ORDER BY i.indisprimary DESC, i.indnkeyatts, c.relname;
