-- Tables with everything that can hang on a table; run as superuser.

CREATE ROLE table_owner NOLOGIN;
CREATE ROLE table_reader NOLOGIN;
DO $database$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO table_owner', current_database());
END
$database$;
CREATE EXTENSION citext;
CREATE SCHEMA chat AUTHORIZATION table_owner;
SET ROLE table_owner;

CREATE TYPE chat.status AS ENUM ('sent', 'read', 'gone');
CREATE DOMAIN chat.amount AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TYPE chat.place AS (street text, house integer);
CREATE FUNCTION chat.shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT upper($1) $$;
CREATE TABLE chat.fired (id bigserial PRIMARY KEY, what text);
CREATE FUNCTION chat.fire() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chat.fired (what) VALUES (TG_TABLE_NAME || ' ' || TG_OP);
    RETURN coalesce(NEW, OLD);
END $$;

CREATE TABLE chat.users (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email public.citext NOT NULL UNIQUE,
    name text
);
CREATE TABLE chat.messages (
    id bigserial PRIMARY KEY,
    author integer NOT NULL REFERENCES chat.users,
    reply_to bigint REFERENCES chat.messages,
    status chat.status NOT NULL DEFAULT 'sent',
    price chat.amount,
    body text,
    loud text GENERATED ALWAYS AS (chat.shout(body)) STORED,
    sent timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT body_is_short CHECK (length(body) < 1000)
);
CREATE INDEX messages_author ON chat.messages (author);
CREATE INDEX messages_body ON chat.messages (chat.shout(body));
CREATE TABLE chat.files (
    id integer PRIMARY KEY, message bigint REFERENCES chat.messages ON DELETE CASCADE, name text
);
CREATE TABLE chat.previews (
    id integer PRIMARY KEY, file integer REFERENCES chat.files ON DELETE CASCADE, width integer
);
CREATE TABLE chat.stars (
    id integer PRIMARY KEY, message bigint REFERENCES chat.messages ON DELETE SET NULL
);
CREATE TABLE chat.reports (id integer PRIMARY KEY, message bigint REFERENCES chat.messages, why text);
CREATE VIEW chat.unread AS SELECT id, body FROM chat.messages WHERE status = 'sent';
CREATE MATERIALIZED VIEW chat.counts AS SELECT count(*) AS users FROM chat.users;
CREATE TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON chat.messages FOR EACH ROW EXECUTE FUNCTION chat.fire();
CREATE TRIGGER is_off AFTER INSERT ON chat.messages FOR EACH ROW EXECUTE FUNCTION chat.fire();
ALTER TABLE chat.messages DISABLE TRIGGER is_off;
CREATE TRIGGER always AFTER UPDATE ON chat.messages FOR EACH ROW EXECUTE FUNCTION chat.fire();
ALTER TABLE chat.messages ENABLE ALWAYS TRIGGER always;
ALTER TABLE chat.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.messages FORCE ROW LEVEL SECURITY;
CREATE POLICY readers ON chat.messages FOR SELECT TO table_reader USING (status <> 'gone');
GRANT USAGE ON SCHEMA chat TO table_reader;
GRANT SELECT ON chat.messages TO table_reader;
CREATE STATISTICS chat.messages_stats ON author, status FROM chat.messages;

CREATE TABLE chat.events (id integer NOT NULL, day date NOT NULL, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE chat.events_2024 PARTITION OF chat.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE chat.events_2025 PARTITION OF chat.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON chat.events FOR EACH ROW EXECUTE FUNCTION chat.fire();
CREATE TABLE chat.moods (status chat.status NOT NULL, note integer NOT NULL, PRIMARY KEY (status, note)) PARTITION BY HASH (status);
CREATE TABLE chat.moods_0 PARTITION OF chat.moods FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE chat.moods_1 PARTITION OF chat.moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);

CREATE TABLE chat.no_key (id integer, what text);
CREATE TABLE chat."Odd ""name"", {here} %s" ("I d" integer PRIMARY KEY, "b""x" text, "%s" text DEFAULT '{}');
CREATE TABLE chat.mixed (
    id public.citext PRIMARY KEY,
    doc json, docs jsonb, at point, home chat.place, labels chat.status[], span int4range, raw bytea, number numeric,
    real double precision, took interval, born date, flags bit varying, price chat.amount
);
CREATE TABLE chat.tree (id integer PRIMARY KEY, parent integer REFERENCES chat.tree ON DELETE CASCADE, name text);
CREATE TABLE chat.documents (id integer PRIMARY KEY, body text);
CREATE TABLE chat.old_documents (archived date) INHERITS (chat.documents);

INSERT INTO chat.users (email, name) SELECT 'User' || n || '@example.org', 'user ' || n FROM generate_series(1, 50) AS n;
RESET ROLE;
INSERT INTO chat.messages (author, reply_to, status, price, body, sent)
SELECT n % 50 + 1, CASE WHEN n > 10 THEN n - 10 END, (enum_range(NULL::chat.status))[n % 3 + 1], n * 1.25, 'body ' || n,
       '2024-05-01 00:00:00+00'::timestamptz + n * interval '1 min'
FROM generate_series(1, 400) AS n;
SET ROLE table_owner;
TRUNCATE chat.fired;
INSERT INTO chat.files SELECT n, n, 'file ' || n FROM generate_series(1, 40) AS n;
INSERT INTO chat.previews SELECT n, n, 100 FROM generate_series(1, 40) AS n;
INSERT INTO chat.stars SELECT n, n FROM generate_series(1, 40) AS n;
INSERT INTO chat.events SELECT n, date '2024-01-01' + n * 3, 'event ' || n FROM generate_series(1, 200) AS n;
TRUNCATE chat.fired;
INSERT INTO chat.moods SELECT (enum_range(NULL::chat.status))[n % 3 + 1], n FROM generate_series(1, 60) AS n;
INSERT INTO chat.no_key SELECT n, 'x' FROM generate_series(1, 20) AS n;
INSERT INTO chat."Odd ""name"", {here} %s" SELECT n, 'v' || n, '{"a": "%s"}' FROM generate_series(1, 30) AS n;
INSERT INTO chat.mixed VALUES
    ('One', '{"a":  1}', '{"b": 2}', '(1,2)', ROW('street', 3), '{sent,gone}', '[1,5)', '\x00ff', 1.50, 'NaN', '1 day 02:00', '2024-02-29', B'101', 3.5),
    ('two', NULL, 'null', NULL, ROW(NULL, NULL), '{}', 'empty', '', 0, '-Infinity', '-1 mon', 'infinity', B'', 0),
    ('', 'null', NULL, '(0,-0)', NULL, NULL, NULL, NULL, 'NaN', '-0', NULL, NULL, NULL, NULL);
INSERT INTO chat.tree SELECT n, CASE WHEN n > 1 THEN n / 2 END, 'node ' || n FROM generate_series(1, 31) AS n;
INSERT INTO chat.documents SELECT n, 'document ' || n FROM generate_series(1, 10) AS n;
INSERT INTO chat.old_documents SELECT n, 'old ' || n, '2020-01-01' FROM generate_series(101, 110) AS n;
REFRESH MATERIALIZED VIEW chat.counts;
RESET ROLE;
