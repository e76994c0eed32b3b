-- A hosted project's database: what this role may do there, and what the provider has already made.
SELECT current_user::text AS role,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS is_superuser,
       current_database()::text AS database,
       (SELECT coalesce(array_agg(r.rolname::text), '{}') FROM pg_catalog.pg_roles r
         WHERE pg_catalog.pg_has_role(current_user, r.oid, %(membership)s)) AS settable,
       (SELECT coalesce(array_agg(r.rolname::text), '{}') FROM pg_catalog.pg_roles r
         WHERE pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER WITH ADMIN OPTION')) AS grantable,
       (SELECT coalesce(array_agg(nspname::text), '{}') FROM pg_catalog.pg_namespace) AS schemas,
       (SELECT coalesce(array_agg(extname::text), '{}') FROM pg_catalog.pg_extension) AS installed,
       (SELECT coalesce(array_agg(DISTINCT v.name::text), '{}') FROM pg_catalog.pg_available_extension_versions v
         WHERE v.trusted OR NOT v.superuser
            OR v.name = ANY (string_to_array(replace(coalesce(current_setting('supautils.privileged_extensions', true), ''),
                                                     ' ', ''), ','))) AS installable,
       (SELECT coalesce(array_agg(evtname::text), '{}') FROM pg_catalog.pg_event_trigger) AS event_triggers,
       (SELECT coalesce(array_agg(pubname::text), '{}') FROM pg_catalog.pg_publication) AS publications,
       (SELECT coalesce(array_agg(n.nspname || '.' || c.relname), '{}') FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS relations,
       (SELECT coalesce(array_agg(n.nspname || '.' || p.proname), '{}') FROM pg_catalog.pg_proc p
          JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname <> 'pg_catalog') AS functions,
       (SELECT coalesce(array_agg(n.nspname || '.' || t.typname), '{}') FROM pg_catalog.pg_type t
          JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
         WHERE n.nspname <> 'pg_catalog') AS types,
       (SELECT coalesce(array_agg(n.nspname || '.' || c.relname || ' ' || k.name), '{}')
          FROM (SELECT tgrelid AS relation, tgname AS name FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
                UNION ALL SELECT polrelid, polname FROM pg_catalog.pg_policy
                UNION ALL SELECT conrelid, conname FROM pg_catalog.pg_constraint WHERE conrelid <> 0
                UNION ALL SELECT ev_class, rulename FROM pg_catalog.pg_rewrite) k
          JOIN pg_catalog.pg_class c ON c.oid = k.relation
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS belonging;
