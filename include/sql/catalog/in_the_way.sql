-- What keeps a restore in place from dropping what an archive has, by its name for people: kinds, spaces (schemas) and
-- tags are the archive's objects in some schemas, of which those in dropped are dropped themselves (never public).
WITH RECURSIVE archived AS (
  SELECT kind, space, tag
    FROM unnest(%(kinds)s::text[], %(spaces)s::text[], %(tags)s::text[]) AS a (kind, space, tag)
), own AS (
  SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY (%(schemas)s)
), known (classid, objid) AS (
  SELECT 'pg_catalog.pg_namespace'::regclass::oid, oid FROM own WHERE nspname = ANY (%(dropped)s)
  UNION ALL
  SELECT 'pg_catalog.pg_class'::regclass, c.oid
    FROM pg_catalog.pg_class c JOIN own n ON n.oid = c.relnamespace
    JOIN archived a ON a.kind = 'relation' AND a.space = n.nspname AND a.tag = c.relname
  UNION ALL
  SELECT 'pg_catalog.pg_type'::regclass, t.oid
    FROM pg_catalog.pg_type t JOIN own n ON n.oid = t.typnamespace
    JOIN archived a ON a.kind = 'type' AND a.space = n.nspname AND a.tag = t.typname
  UNION ALL
  -- pg_dump's tag of a function has the types of its arguments.
  SELECT 'pg_catalog.pg_proc'::regclass, p.oid
    FROM pg_catalog.pg_proc p JOIN own n ON n.oid = p.pronamespace
    JOIN archived a ON a.kind = 'function' AND a.space = n.nspname
     AND a.tag = p.proname || '(' || CASE
           WHEN p.prokind = 'a' AND p.pronargs = 0 THEN '*'
           ELSE array_to_string(ARRAY(SELECT pg_catalog.format_type(t.oid, NULL)
                                        FROM unnest(p.proargtypes) WITH ORDINALITY AS t (oid, place)
                                       ORDER BY t.place), ', ') END || ')'
  UNION ALL
  -- Operators, collations, text search and the like: all of them count as archived.
  SELECT d.classid, d.objid
    FROM pg_catalog.pg_depend d
    JOIN own n ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
   WHERE d.classid NOT IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass,
                           'pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_extension'::regclass)
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                      WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e')
), gone (classid, objid) AS (
  SELECT classid, objid FROM known
  UNION
  -- What PostgreSQL drops with them, unasked.
  SELECT d.classid, d.objid
    FROM gone g JOIN pg_catalog.pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
   WHERE d.deptype IN ('a', 'i', 'P', 'S') AND d.objsubid = 0
), found (classid, objid, objsubid) AS (
  -- What hangs on them and stays; of an extension's members the extension.
  SELECT coalesce(e.refclassid, d.classid), coalesce(e.refobjid, d.objid),
         CASE WHEN e.refobjid IS NULL THEN d.objsubid ELSE 0 END
    FROM gone g JOIN pg_catalog.pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
    LEFT JOIN pg_catalog.pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
   WHERE d.deptype = 'n'
     AND NOT EXISTS (SELECT FROM gone x WHERE x.classid = d.classid AND x.objid = d.objid)
  UNION
  -- Rows that would go without a word, such as those of a new partition.
  SELECT g.classid, g.objid, 0
    FROM gone g JOIN pg_catalog.pg_class c ON g.classid = 'pg_catalog.pg_class'::regclass AND g.objid = c.oid
   WHERE c.relkind IN ('r', 'p', 'm', 'f')
     AND NOT EXISTS (SELECT FROM known k WHERE k.classid = g.classid AND k.objid = g.objid)
  UNION
  -- pg_restore drops primary keys before tables: a foreign key that it does not know holds them.
  SELECT g.classid, g.objid, 0
    FROM gone g JOIN pg_catalog.pg_constraint f
      ON g.classid = 'pg_catalog.pg_constraint'::regclass AND g.objid = f.oid
    JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN gone p ON p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = f.confrelid
   WHERE f.contype = 'f' AND f.conparentid = 0
     AND NOT EXISTS (SELECT FROM archived a
                      WHERE a.kind = 'key' AND a.space = n.nspname AND a.tag = c.relname || ' ' || f.conname)
)
SELECT DISTINCT pg_catalog.pg_describe_object(classid, objid, objsubid) AS name FROM found ORDER BY 1;
