-- Whether a table is pg_cron's or pg_net's, or made by this role or a superuser: any other by its name is nothing that
-- those extensions work with, and may run code of its owner's.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
     WHERE c.oid = pg_catalog.to_regclass(%(relation)s) AND c.relkind = 'r'
       AND (r.rolsuper OR r.rolname = current_user
            OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                         JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname IN ('pg_cron', 'pg_net')
                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
) AS found;
