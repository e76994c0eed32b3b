-- Settings of a database, and of roles in it; role NULL: of the database itself.
SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE r.rolname::text END AS role, s.setconfig::text[] AS settings
  FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 WHERE d.datname = %(database)s
 ORDER BY role NULLS FIRST;
