-- Deterministic generators, gone with the session. Everything comes from (row number, salt, seed): the same seed
-- gives the same rows in the same order, on every PostgreSQL version. Simple SQL functions, so that they are inlined:
-- text || bigint is only STABLE and would stop that in an IMMUTABLE one, hence the casts to text.

CREATE FUNCTION pg_temp.seed() RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT {seed}::bigint';

CREATE FUNCTION pg_temp.noise(n bigint, salt int) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT hashint8extended(n, {seed}::bigint + salt)';

CREATE FUNCTION pg_temp.pick(n bigint, salt int, choices int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT ((hashint8extended(n, {seed}::bigint + salt) & 9223372036854775807) % choices)::int';

CREATE FUNCTION pg_temp.slice(noise bigint, shift int, choices int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT 1 + (((noise >> shift) & 65535) % choices)::int';

CREATE FUNCTION pg_temp.key(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT overlay(md5(kind || ''/{seed}/'' || n::text) PLACING ''4'' FROM 13 FOR 1)::uuid';

CREATE FUNCTION pg_temp.moment(n bigint, salt int) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT timestamptz ''2023-01-01 00:00:00+00'' + pg_temp.pick(n, salt, 64800000) * interval ''1 second''';

CREATE FUNCTION pg_temp.amount(what text) RETURNS bigint LANGUAGE sql STABLE
    AS 'SELECT current_setting(''sample.'' || what)::bigint';

-- Messages follow each other over two years, at a pace that depends on how many there are.
CREATE FUNCTION pg_temp.message_time(n bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT timestamptz '2023-01-02 06:00:00+00'
        + ((n - pg_temp.pick(n, 70, 900) / 1000.0::float8) * (64000000 / current_setting('sample.messages')::float8)) * interval '1 second'
$$;

CREATE FUNCTION pg_temp.given_name(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['Ada', 'Björn', 'Chiara', 'Dmitri', 'Élodie', 'Fatima', 'Grace', 'Hiroshi', 'Ingrid', 'José', 'Kofi',
        'Léa', 'Mei', 'Nguyễn', 'Olu', 'Priya', 'Quentin', 'Rania', 'Søren', 'Tomás', 'Uma', 'Violeta', 'Wei', 'Ximena',
        'Yusuf', 'Zoë', 'أمينة', 'דוד', '陽子', 'Ольга', 'สมชาย', 'Ἀριάδνη'])[i]
$$;

CREATE FUNCTION pg_temp.family_name(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['Abernathy', 'Brandt', 'Castañeda', 'D''Angelo', 'Eriksen', 'Fournier', 'García', 'Haddad', 'Ivanova',
        'Jørgensen', 'Kowalski', 'Lindqvist', 'Müller', 'Nakamura', 'O''Brien', 'Petrović', 'Quispe', 'Rossi', 'Şahin',
        'Tanaka', 'Umarov', 'van der Berg', 'Wójcik', 'Xu', 'Yilmaz', 'Zhang', 'Okafor', 'Silva', 'Novák', 'Kim',
        'Sharma', 'de la Cruz'])[i]
$$;

CREATE FUNCTION pg_temp.person(n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT pg_temp.given_name(1 + pg_temp.pick(n, 71, 32)) || '' '' || pg_temp.family_name(1 + pg_temp.pick(n, 72, 32))';

CREATE FUNCTION pg_temp.email(n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'user' || n::text || '@' || (ARRAY['example.com', 'example.org', 'mail.example.net', 'Pulse.example'])[1 + pg_temp.pick(n, 73, 4)]
$$;

CREATE FUNCTION pg_temp.file_name(n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['report', 'Photo', 'résumé', 'screen shot', '会議', 'budget "final"', 'notes', 'it''s_signed'])[1 + pg_temp.pick(n, 74, 8)]
        || '-' || n::text || (ARRAY['.pdf', '.png', '.jpg', '.docx', '.csv', '.mp4'])[1 + pg_temp.pick(n, 75, 6)]
$$;

CREATE FUNCTION pg_temp.mime_type(n bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['application/pdf', 'image/png', 'image/jpeg',
        'application/vnd.openxmlformats-officedocument.wordprocessingml.document', 'text/csv', 'video/mp4'])[1 + pg_temp.pick(n, 75, 6)]
$$;

CREATE FUNCTION pg_temp.file_size(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT (10 ^ (2 + pg_temp.pick(n, 76, 2000) / 1000.0))::bigint';

-- What include/local/files.py puts into the bucket under this name.
CREATE FUNCTION pg_temp.file_etag(name text, size bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT '"' || md5(left(repeat(md5(name), size::int / 32 + 1), size::int)) || '"'$$;

-- User number `member` (0 to 5) of conversation c: workspaces own every w-th conversation and every w-th user.
CREATE FUNCTION pg_temp.member(c bigint, member int) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT pg_temp.key('user', 1 + (
        (c - 1) % current_setting('sample.workspaces')::bigint
        + current_setting('sample.workspaces')::bigint * ((c + member) % (current_setting('sample.users')::bigint / current_setting('sample.workspaces')::bigint))
    ))
$$;
