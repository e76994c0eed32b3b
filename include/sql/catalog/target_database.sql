-- One database as it is now, seen from beside it: what a swap has to carry over, and what stands in its way.
SELECT d.oid::bigint AS oid,
       d.datname::text AS name,
       pg_catalog.pg_get_userbyid(d.datdba)::text AS owner,
       d.datconnlimit AS connection_limit,
       d.datallowconn AS allows_connections,
       d.datistemplate AS is_template,
       pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
       pg_catalog.pg_database_size(d.oid) AS bytes,
       (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system_identifier,
       coalesce((SELECT array_agg(json_build_array(CASE WHEN a.grantee = 0 THEN NULL ELSE r.rolname END,
                                                   a.privilege_type, a.is_grantable)::text
                                  ORDER BY a.grantee, a.privilege_type)
                   FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
                   LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee), '{}') AS grants,
       coalesce((SELECT array_agg(pid::text || ' ' || coalesce(usename::text, '') || ' '
                                  || coalesce(NULLIF(application_name, ''), '(no name)') ORDER BY pid)
                   FROM pg_catalog.pg_stat_activity
                  WHERE datid = d.oid AND usesysid IS NOT NULL
                    -- Of others' sessions an ordinary role is told no type.
                    AND coalesce(backend_type, 'client backend') = 'client backend'), '{}') AS sessions,
       coalesce((SELECT array_agg(slot_name::text ORDER BY slot_name)
                   FROM pg_catalog.pg_replication_slots WHERE database = d.datname), '{}') AS slots,
       coalesce((SELECT array_agg(subname::text ORDER BY subname)
                   FROM pg_catalog.pg_subscription WHERE subdbid = d.oid), '{}') AS subscriptions,
       coalesce((SELECT array_agg(gid::text ORDER BY gid)
                   FROM pg_catalog.pg_prepared_xacts WHERE database = d.datname), '{}') AS prepared
  FROM pg_catalog.pg_database d
 WHERE d.datname = %(database)s;
