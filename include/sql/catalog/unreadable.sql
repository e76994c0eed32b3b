-- What this role cannot read whole: pg_dump would stop at it, or leave rows out.
WITH me AS (
    SELECT rolsuper, rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user
), relation AS (
    SELECT c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relowner, n.oid AS nspoid,
           format('%%I.%%I', n.nspname, c.relname) AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'S', 'm') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
       AND n.nspname <> ALL (%(excluded_schemas)s)
       AND format('%%s.%%s', n.nspname, c.relname) <> ALL (%(excluded_tables)s)
)
SELECT r.name,
       CASE WHEN NOT has_schema_privilege(r.nspoid, 'USAGE') THEN 'no USAGE on its schema'
            WHEN r.relkind = 'S' AND NOT has_sequence_privilege(r.oid, 'SELECT') THEN 'no SELECT on the sequence'
            WHEN r.relkind <> 'S' AND NOT has_table_privilege(r.oid, 'SELECT') THEN 'no SELECT on the table'
            ELSE 'row level security hides rows from this role' END AS reason
  FROM relation r, me
 WHERE NOT me.rolsuper
   AND (NOT has_schema_privilege(r.nspoid, 'USAGE')
        OR (r.relkind = 'S' AND NOT has_sequence_privilege(r.oid, 'SELECT'))
        OR (r.relkind <> 'S' AND NOT has_table_privilege(r.oid, 'SELECT'))
        OR (r.relrowsecurity AND NOT me.rolbypassrls
            AND NOT (pg_catalog.pg_has_role(r.relowner, 'USAGE') AND NOT r.relforcerowsecurity)))
 ORDER BY 1;
