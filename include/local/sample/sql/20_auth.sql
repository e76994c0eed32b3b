-- Schema auth, after Supabase's: tables, the functions that policies call, rows.

SET LOCAL ROLE supabase_auth_admin;

CREATE TYPE auth.aal_level AS ENUM ('aal1', 'aal2', 'aal3');
CREATE TYPE auth.factor_type AS ENUM ('totp', 'webauthn', 'phone');

CREATE TABLE auth.schema_migrations (version varchar(255) PRIMARY KEY);

CREATE TABLE auth.users (
    instance_id uuid,
    id uuid NOT NULL,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    encrypted_password varchar(255),
    email_confirmed_at timestamptz,
    last_sign_in_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamptz,
    updated_at timestamptz,
    phone text DEFAULT NULL,
    phone_confirmed_at timestamptz,
    confirmed_at timestamptz GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED,
    banned_until timestamptz,
    is_sso_user boolean NOT NULL DEFAULT false,
    deleted_at timestamptz,
    is_anonymous boolean NOT NULL DEFAULT false
);

CREATE TABLE auth.sessions (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    created_at timestamptz,
    updated_at timestamptz,
    aal auth.aal_level,
    not_after timestamptz,
    user_agent text,
    ip inet,
    tag text
);

CREATE TABLE auth.refresh_tokens (
    id bigserial,
    token varchar(255),
    user_id varchar(255),
    revoked boolean,
    created_at timestamptz,
    parent varchar(255),
    session_id uuid
);

CREATE TABLE auth.mfa_factors (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL,
    friendly_name text,
    factor_type auth.factor_type NOT NULL,
    secret text
);

CREATE TABLE auth.audit_log_entries (
    id uuid PRIMARY KEY,
    payload json,
    created_at timestamptz,
    ip_address varchar(64) NOT NULL DEFAULT ''
);

CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
    )::uuid
$$;

CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
    )::text
$$;

CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

GRANT EXECUTE ON FUNCTION auth.uid(), auth.role(), auth.jwt() TO anon, authenticated, service_role, postgres;
COMMENT ON FUNCTION auth.uid() IS 'Deprecated. Use auth.jwt() -> ''sub'' instead.';

INSERT INTO auth.schema_migrations
SELECT to_char(timestamp '2022-01-01' + n * interval '11 days', 'YYYYMMDDHH24MISS') FROM generate_series(1, 60) AS n;

INSERT INTO auth.users (
    instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, last_sign_in_at, raw_app_meta_data,
    raw_user_meta_data, is_super_admin, created_at, updated_at, phone, phone_confirmed_at, banned_until, is_sso_user,
    deleted_at, is_anonymous
)
SELECT
    '00000000-0000-0000-0000-000000000000',
    pg_temp.key('user', n),
    'authenticated',
    'authenticated',
    pg_temp.email(n),
    '$2a$10$' || translate(left(encode(sha256(int8send(pg_temp.noise(n, 10))), 'base64'), 53), '+=', './'),
    CASE WHEN pg_temp.pick(n, 11, 20) > 0 THEN pg_temp.moment(n, 12) END,
    CASE WHEN pg_temp.pick(n, 13, 9) > 0 THEN pg_temp.moment(n, 14) END,
    jsonb_build_object('provider', 'email', 'providers', jsonb_build_array('email')),
    jsonb_build_object('full_name', pg_temp.person(n), 'theme', (ARRAY['light', 'dark', 'system'])[1 + pg_temp.pick(n, 15, 3)]),
    CASE WHEN n = 1 THEN true END,
    pg_temp.moment(n, 16),
    pg_temp.moment(n, 17),
    CASE WHEN pg_temp.pick(n, 18, 3) = 0 THEN '49151' || lpad(n::text, 8, '0') END,
    CASE WHEN pg_temp.pick(n, 18, 3) = 0 THEN pg_temp.moment(n, 19) END,
    CASE WHEN pg_temp.pick(n, 20, 300) = 0 THEN timestamptz 'infinity' END,
    pg_temp.pick(n, 21, 40) = 0,
    CASE WHEN pg_temp.pick(n, 22, 100) = 0 THEN pg_temp.moment(n, 23) END,
    false
FROM generate_series(1, pg_temp.amount('users')) AS n;

INSERT INTO auth.sessions
SELECT
    pg_temp.key('session', n),
    pg_temp.key('user', 1 + pg_temp.pick(n, 30, pg_temp.amount('users')::int)),
    pg_temp.moment(n, 31),
    pg_temp.moment(n, 32),
    (ARRAY['aal1', 'aal1', 'aal2', 'aal3'])[1 + pg_temp.pick(n, 33, 4)]::auth.aal_level,
    CASE WHEN pg_temp.pick(n, 34, 5) = 0 THEN timestamptz 'infinity' END,
    'Pulse/' || pg_temp.pick(n, 35, 9) || '.' || pg_temp.pick(n, 36, 30) || ' (iPhone; iOS 17.4)',
    CASE WHEN pg_temp.pick(n, 37, 2) = 0
        THEN inet '10.0.0.0' + pg_temp.pick(n, 38, 16000000)
        ELSE inet '2001:db8::' + pg_temp.pick(n, 39, 16000000)
    END,
    NULL
FROM generate_series(1, pg_temp.amount('users') * 2) AS n;

INSERT INTO auth.refresh_tokens (token, user_id, revoked, created_at, parent, session_id)
SELECT
    translate(left(encode(sha256(int8send(pg_temp.noise(n, 40))), 'base64'), 22), '+/=', '-_.'),
    pg_temp.key('user', 1 + pg_temp.pick(n, 30, pg_temp.amount('users')::int))::text,
    pg_temp.pick(n, 41, 3) = 0,
    pg_temp.moment(n, 31),
    NULL,
    pg_temp.key('session', n)
FROM generate_series(1, pg_temp.amount('users') * 2) AS n;

INSERT INTO auth.audit_log_entries
SELECT
    pg_temp.key('audit', n),
    json_build_object('action', 'login', 'actor_id', pg_temp.key('user', 1 + n % pg_temp.amount('users')), 'log_type', 'account'),
    pg_temp.moment(n, 50),
    ''
FROM generate_series(1, pg_temp.amount('users')) AS n;

ALTER TABLE auth.users ADD PRIMARY KEY (id);
ALTER TABLE auth.sessions ADD PRIMARY KEY (id);
ALTER TABLE auth.refresh_tokens ADD PRIMARY KEY (id);
ALTER TABLE auth.refresh_tokens ADD CONSTRAINT refresh_tokens_token_unique UNIQUE (token);
ALTER TABLE auth.users ADD CONSTRAINT users_phone_key UNIQUE (phone);
CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email) WHERE is_sso_user = false;
CREATE INDEX users_instance_id_email_idx ON auth.users (instance_id, lower(email::text));
CREATE INDEX sessions_user_id_idx ON auth.sessions (user_id, created_at DESC NULLS LAST);
ALTER TABLE auth.sessions ADD FOREIGN KEY (user_id) REFERENCES auth.users (id) ON DELETE CASCADE;
ALTER TABLE auth.refresh_tokens ADD FOREIGN KEY (session_id) REFERENCES auth.sessions (id) ON DELETE CASCADE;
ALTER TABLE auth.mfa_factors ADD FOREIGN KEY (user_id) REFERENCES auth.users (id) ON DELETE CASCADE;

ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth.refresh_tokens ENABLE ROW LEVEL SECURITY;

GRANT SELECT (id, email, created_at) ON auth.users TO authenticated;
COMMENT ON TABLE auth.users IS 'Auth: Stores user login data within a secure schema.';
COMMENT ON COLUMN auth.users.is_sso_user IS 'Auth: Set this column to true when the account comes from SSO.';
COMMENT ON INDEX auth.users_email_partial_key IS 'Auth: "unique" only where is_sso_user is false';

RESET ROLE;
