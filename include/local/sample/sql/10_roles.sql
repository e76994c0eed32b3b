-- Roles as a Supabase project has them. Roles belong to the cluster, so each is created only if missing.
-- The password of pulse_backup is set by the loader, already hashed.

DO $roles$
DECLARE
    wanted text[][] := ARRAY[
        ['postgres',               'LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS'],
        ['anon',                   'NOLOGIN NOINHERIT'],
        ['authenticated',          'NOLOGIN NOINHERIT'],
        ['service_role',           'NOLOGIN NOINHERIT BYPASSRLS'],
        ['authenticator',          'LOGIN NOINHERIT CONNECTION LIMIT 60'],
        ['supabase_auth_admin',    'LOGIN NOINHERIT CREATEROLE'],
        ['supabase_storage_admin', 'LOGIN NOINHERIT CREATEROLE'],
        ['dashboard_user',         'NOLOGIN CREATEDB CREATEROLE REPLICATION'],
        ['pulse_backup',           'LOGIN REPLICATION BYPASSRLS CONNECTION LIMIT 20'],
        ['Pulse "Ops" \ team',     $$NOLOGIN VALID UNTIL '2031-12-31 00:00:00+00'$$]
    ];
    wish text[];
BEGIN
    FOREACH wish SLICE 1 IN ARRAY wanted LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wish[1]) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I %s', wish[1], wish[2]);
        END IF;
    END LOOP;
    -- A superuser named postgres needs no membership, and 16 and later refuse to grant a role back to its grantor.
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = 'postgres') THEN
        GRANT anon, authenticated, service_role TO postgres WITH ADMIN OPTION;
        GRANT supabase_auth_admin, supabase_storage_admin, dashboard_user TO postgres;
    END IF;
END
$roles$;

GRANT anon, authenticated, service_role TO authenticator;
GRANT service_role TO "Pulse ""Ops"" \ team";
GRANT pg_read_all_data, pg_monitor TO pulse_backup;
GRANT SET ON PARAMETER log_min_duration_statement TO dashboard_user;
GRANT pg_monitor TO "Pulse ""Ops"" \ team" WITH ADMIN OPTION;

ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
ALTER ROLE authenticator SET statement_timeout = '8s';
ALTER ROLE authenticator SET lock_timeout = '8s';
ALTER ROLE supabase_auth_admin SET search_path = 'auth';
ALTER ROLE supabase_auth_admin SET idle_in_transaction_session_timeout = '60000';
ALTER ROLE supabase_storage_admin SET search_path = 'storage';

COMMENT ON ROLE pulse_backup IS 'Reads everything, past row security, for backups';
COMMENT ON ROLE "Pulse ""Ops"" \ team" IS 'People on call; the role''s name is awkward on purpose';
