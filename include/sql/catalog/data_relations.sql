-- Every relation that a person may mean by a table: what it inherits from, and the tables whose columns a sequence fills.
WITH RECURSIVE lineage (relation, ancestor) AS (
    SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
     UNION
    SELECT l.relation, i.inhparent FROM lineage l JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.ancestor
)
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       ARRAY(SELECT l.ancestor::bigint FROM lineage l WHERE l.relation = c.oid) AS ancestors,
       ARRAY(SELECT d.refobjid::bigint
               FROM pg_catalog.pg_depend d
              WHERE c.relkind = 'S' AND d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
              UNION
             SELECT a.adrelid::bigint
               FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid
              WHERE c.relkind = 'S' AND d.classid = 'pg_catalog.pg_attrdef'::regclass
                AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid) AS used_by
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'S', 'm', 'v', 'f') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)';
