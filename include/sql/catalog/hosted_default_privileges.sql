-- What this role's new objects are granted to others by default, by schema ('' for all).
SELECT coalesce(n.nspname::text, '') AS schema, d.defaclobjtype::text AS kind,
       CASE a.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END AS grantee,
       a.privilege_type::text AS privilege, a.is_grantable AS grantable
  FROM pg_catalog.pg_default_acl d
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace,
       pg_catalog.aclexplode(d.defaclacl) a
 WHERE pg_catalog.pg_get_userbyid(d.defaclrole) = current_user AND a.grantee <> d.defaclrole;
