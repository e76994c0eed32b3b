CREATE SCHEMA private;
CREATE TYPE public.mood AS ENUM ('good', 'bad');
CREATE TABLE public.users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood public.mood);
CREATE TABLE public."Odd ""table""
name" (id int REFERENCES public.users);
CREATE TABLE private.settings (name text PRIMARY KEY, value text DEFAULT 'plain');
ALTER TABLE private.settings ADD CONSTRAINT same_name CHECK (name <> '');
ALTER TABLE public.users ADD CONSTRAINT same_name CHECK (name <> '');
CREATE VIEW public.happy AS SELECT * FROM public.users WHERE mood = 'good';
CREATE INDEX users_name_idx ON public.users (name);
COMMENT ON TABLE public.users IS 'People; it''s "them"';
GRANT SELECT ON public.users TO anon;
GRANT INSERT ON public.users TO authenticated;
CREATE FUNCTION private.send() RETURNS text LANGUAGE plpgsql AS $body$
DECLARE
  api_key CONSTANT text := 'CANARY-api-key';
BEGIN
  -- the token: CANARY-comment
  PERFORM set_config('app.jwt_secret', 'CANARY-setting', false);
  EXECUTE 'ALTER ROLE somebody PASSWORD ''CANARY-nested''';
  RETURN format('{"Authorization": "Bearer CANARY-bearer", "id": "%s"}', 'k7Jq2vX9mZ4tR8wB');
END $body$;
CREATE FUNCTION private.hand_made() RETURNS text LANGUAGE sql AS $$ SELECT 'CANARY' $$;
CREATE FOREIGN DATA WRAPPER far OPTIONS (service_account 'CANARY-wrapper');
CREATE SERVER far_away FOREIGN DATA WRAPPER far OPTIONS (host 'far.example', api_token 'CANARY-server');
CREATE USER MAPPING FOR postgres SERVER far_away OPTIONS (user 'bob', password 'CANARY-mapping');
CREATE FOREIGN TABLE public.elsewhere (id int) SERVER far_away OPTIONS (table_name 'x', credential 'CANARY-table');
CREATE SUBSCRIPTION history_subscription CONNECTION 'host=far.example dbname=d user=u password=CANARY-subscription'
  PUBLICATION p WITH (connect = false, enabled = false, slot_name = NONE, create_slot = false);
CREATE FUNCTION private.on_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER webhook AFTER INSERT ON public.users FOR EACH ROW
  EXECUTE FUNCTION private.on_change('https://hooks.example', '{"Authorization": "Bearer CANARY-trigger"}');
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET "app.settings.jwt_secret" TO %L', current_database(), 'CANARY-database');
  EXECUTE format('ALTER DATABASE %I SET work_mem TO %L', current_database(), '8MB');
END $$;
