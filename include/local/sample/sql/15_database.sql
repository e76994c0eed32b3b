-- What belongs to the database itself: owner, settings, privileges, extensions, schemas.

DO $database$
DECLARE
    name text := pg_catalog.current_database();
BEGIN
    EXECUTE pg_catalog.format('ALTER DATABASE %I OWNER TO postgres', name);
    EXECUTE pg_catalog.format('ALTER DATABASE %I SET search_path = "$user", public, extensions', name);
    EXECUTE pg_catalog.format('ALTER DATABASE %I SET jit = off', name);
    EXECUTE pg_catalog.format('ALTER DATABASE %I SET "app.settings.jwt_exp" = ''3600''', name);
    EXECUTE pg_catalog.format('ALTER DATABASE %I SET "app.settings.greeting" = %L', name, E'it''s "Pulse" \\ fine');
    EXECUTE pg_catalog.format('ALTER ROLE authenticated IN DATABASE %I SET work_mem = ''16MB''', name);
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO authenticator, pulse_backup', name);
    EXECUTE pg_catalog.format('GRANT CREATE, CONNECT ON DATABASE %I TO dashboard_user WITH GRANT OPTION', name);
    EXECUTE pg_catalog.format('COMMENT ON DATABASE %I IS %L', name, 'Pulse Messages: a sample, shaped like a "Supabase" project''s database');
END
$database$;

CREATE SCHEMA extensions AUTHORIZATION postgres;
CREATE EXTENSION pgcrypto WITH SCHEMA extensions;
CREATE EXTENSION citext WITH SCHEMA extensions;
CREATE EXTENSION hstore WITH SCHEMA extensions;
CREATE EXTENSION btree_gist WITH SCHEMA extensions;
CREATE EXTENSION pg_trgm WITH SCHEMA extensions;
CREATE EXTENSION unaccent WITH SCHEMA extensions;
CREATE EXTENSION pg_stat_statements WITH SCHEMA extensions;

CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
CREATE SCHEMA storage AUTHORIZATION supabase_storage_admin;
CREATE SCHEMA audit AUTHORIZATION postgres;
CREATE SCHEMA private AUTHORIZATION postgres;
CREATE SCHEMA "Odd ""names"" \ and
lines" AUTHORIZATION postgres;

GRANT USAGE ON SCHEMA extensions, public TO anon, authenticated, service_role, supabase_auth_admin, supabase_storage_admin;
GRANT USAGE ON SCHEMA auth, storage TO anon, authenticated, service_role;
GRANT ALL ON SCHEMA auth, storage TO postgres, dashboard_user;
GRANT USAGE ON SCHEMA audit TO service_role WITH GRANT OPTION;
GRANT USAGE ON SCHEMA private TO authenticated, supabase_storage_admin, "Pulse ""Ops"" \ team";

ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA private REVOKE ALL ON TABLES FROM service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA audit GRANT SELECT ON TABLES TO "Pulse ""Ops"" \ team";
ALTER DEFAULT PRIVILEGES FOR ROLE supabase_auth_admin IN SCHEMA auth GRANT ALL ON TABLES TO postgres, dashboard_user;
ALTER DEFAULT PRIVILEGES FOR ROLE supabase_auth_admin IN SCHEMA auth GRANT ALL ON SEQUENCES TO postgres, dashboard_user;
ALTER DEFAULT PRIVILEGES FOR ROLE supabase_storage_admin IN SCHEMA storage
    GRANT ALL ON TABLES TO postgres, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

COMMENT ON SCHEMA auth IS 'Accounts and sessions';
COMMENT ON SCHEMA storage IS 'Files'' metadata';
COMMENT ON SCHEMA extensions IS 'Where extensions live; not "public"';
COMMENT ON SCHEMA "Odd ""names"" \ and
lines" IS 'Names that a careless script quotes wrongly';
COMMENT ON EXTENSION hstore IS 'Used by conversations.labels';

-- What physical backups ask of a role that is no superuser, beside REPLICATION: a segment of WAL ended on demand, and
-- the server's own configuration, which Debian keeps outside the data folder.
GRANT EXECUTE ON FUNCTION
    pg_catalog.pg_switch_wal(), pg_catalog.pg_show_all_file_settings(), pg_catalog.pg_hba_file_rules()
    TO pulse_backup;
GRANT SELECT ON pg_catalog.pg_file_settings, pg_catalog.pg_hba_file_rules TO pulse_backup;
