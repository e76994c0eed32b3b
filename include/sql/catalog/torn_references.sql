-- What is kept and cannot be made without a table, view or sequence that the policy leaves out.
-- What belongs to an extension comes with the extension, whatever is left out.
WITH relation AS (
    SELECT c.oid, format('%%I.%%I', n.nspname, c.relname) AS name,
           (n.nspname = ANY (%(excluded_schemas)s)
            OR format('%%s.%%s', n.nspname, c.relname) = ANY (%(excluded_tables)s)) AS is_left_out
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'S', 'm', 'v', 'f')
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), needs AS (
    SELECT conrelid AS oid, confrelid AS needed, format('its foreign key %%I leads to', conname) AS how
      FROM pg_catalog.pg_constraint
     WHERE contype = 'f' AND conparentid = 0
    UNION ALL
    SELECT r.ev_class, d.refobjid, 'it reads'
      FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
     WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    UNION ALL
    SELECT a.adrelid, d.refobjid, 'a default needs'
      FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_attrdef a ON a.oid = d.objid
     WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
    UNION ALL
    SELECT inhrelid, inhparent, 'it is a part of'
      FROM pg_catalog.pg_inherits
)
SELECT DISTINCT kept.name, format('%%s %%s', needs.how, gone.name) AS reason
  FROM needs
  JOIN relation kept ON kept.oid = needs.oid AND NOT kept.is_left_out
  JOIN relation gone ON gone.oid = needs.needed AND gone.is_left_out
 ORDER BY 1, 2;
