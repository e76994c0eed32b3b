-- A small database with one of each kind of object that a proof compares; run as superuser.

CREATE ROLE proof_owner NOLOGIN;
CREATE ROLE proof_reader NOLOGIN;
CREATE ROLE proof_app LOGIN PASSWORD 'canary-role-password';
GRANT proof_reader TO proof_app;
ALTER ROLE proof_app SET statement_timeout = '7s';
COMMENT ON ROLE proof_reader IS 'Reads';

DO $database$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO proof_owner', current_database());
    EXECUTE format('ALTER DATABASE %I SET work_mem = ''8MB''', current_database());
    EXECUTE format('ALTER DATABASE %I SET "app.jwt_secret" = ''canary-database-setting''', current_database());
    EXECUTE format('ALTER ROLE proof_app IN DATABASE %I SET work_mem = ''9MB''', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO proof_reader', current_database());
    EXECUTE format('COMMENT ON DATABASE %I IS ''Proof''', current_database());
END
$database$;

CREATE SCHEMA shop AUTHORIZATION proof_owner;
CREATE EXTENSION hstore SCHEMA shop;
CREATE EXTENSION postgres_fdw SCHEMA shop;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.invalid', dbname 'far');
ALTER SERVER far OWNER TO proof_owner;
CREATE USER MAPPING FOR proof_app SERVER far OPTIONS (user 'far', password 'canary-user-mapping');

SET ROLE proof_owner;

CREATE TYPE shop.mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN shop.amount AS numeric(12, 2) DEFAULT 0 CONSTRAINT amount_is_not_negative CHECK (VALUE >= 0);
CREATE FUNCTION shop.total(quantity integer, price shop.amount) RETURNS numeric
    LANGUAGE sql IMMUTABLE AS $$ SELECT quantity * price $$;
CREATE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- canary-function-body
    NEW.changed := coalesce(NEW.changed, now());
    RETURN NEW;
END $$;

CREATE SEQUENCE shop.numbers START 100 INCREMENT 5;
SELECT setval('shop.numbers', 250);
CREATE SEQUENCE shop.untouched;

CREATE TABLE shop.customers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL DEFAULT 'nobody',
    mood shop.mood DEFAULT 'ok',
    labels shop.hstore,
    changed timestamptz,
    CONSTRAINT name_is_short CHECK (length(name) < 200)
);
CREATE TABLE shop.orders (
    id serial PRIMARY KEY,
    customer integer CONSTRAINT orders_customer REFERENCES shop.customers,
    quantity integer DEFAULT 1,
    price shop.amount,
    total numeric GENERATED ALWAYS AS (quantity * price) STORED,
    placed timestamptz,
    took interval,
    weight double precision,
    raw bytea
);
INSERT INTO shop.customers (name, mood, labels, changed)
SELECT 'customer ' || n, (enum_range(NULL::shop.mood))[n % 3 + 1], 'a=>1'::shop.hstore, '2024-03-10 09:30:00+00'::timestamptz + n * interval '1 h'
FROM generate_series(1, 40) AS n;
INSERT INTO shop.orders (customer, quantity, price, placed, took, weight, raw)
SELECT n % 40 + 1, n, n * 1.25, '2024-07-01 00:00:00+00'::timestamptz + n * interval '1 day', n * interval '90 min', 1.0 / n, int4send(n)
FROM generate_series(1, 300) AS n;

-- Equal columns, so that rows and whole members can change places.
CREATE TABLE shop.here (id integer, what text);
CREATE TABLE shop.there (id integer, what text);
INSERT INTO shop.here SELECT n, 'here ' || n FROM generate_series(1, 5000) AS n;
INSERT INTO shop.there SELECT n, 'there ' || n FROM generate_series(1, 5000) AS n;
CREATE TABLE shop.twins (value integer);
INSERT INTO shop.twins SELECT n % 3 FROM generate_series(1, 30) AS n;
CREATE TABLE shop.empty (id integer, what text);
CREATE TABLE shop.sizes (id integer, filling text);
ALTER TABLE shop.sizes ALTER COLUMN filling SET STORAGE PLAIN;
INSERT INTO shop.sizes SELECT n, repeat('x', CASE WHEN n % 2 = 0 THEN 5000 ELSE 10 END) FROM generate_series(1, 200) AS n;

-- Hash values of an enum are its labels' numbers, which a restore gives anew: rows land in other leaves.
CREATE TABLE shop.moods (mood shop.mood, note integer) PARTITION BY HASH (mood);
CREATE TABLE shop.moods_0 PARTITION OF shop.moods FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.moods_1 PARTITION OF shop.moods FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shop.moods SELECT (enum_range(NULL::shop.mood))[n % 3 + 1], n FROM generate_series(1, 60) AS n;
CREATE TABLE shop.days (day date NOT NULL, visits integer) PARTITION BY RANGE (day);
CREATE TABLE shop.days_2024 PARTITION OF shop.days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO shop.days SELECT '2024-01-01'::date + n, n FROM generate_series(1, 50) AS n;

CREATE INDEX orders_placed ON shop.orders (placed) WHERE quantity > 1;
CREATE INDEX customers_name ON shop.customers (lower(name));
CREATE STATISTICS shop.orders_statistics (dependencies) ON customer, quantity FROM shop.orders;
CREATE TRIGGER stamp BEFORE UPDATE ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.stamp();
CREATE RULE no_delete AS ON DELETE TO shop.here DO INSTEAD NOTHING;
ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY;
ALTER TABLE shop.customers FORCE ROW LEVEL SECURITY;
CREATE POLICY readers ON shop.customers FOR SELECT TO proof_reader USING (mood <> 'sad');
CREATE VIEW shop.happy AS SELECT id, name FROM shop.customers WHERE mood = 'happy';
CREATE MATERIALIZED VIEW shop.totals AS SELECT customer, sum(total) AS total FROM shop.orders GROUP BY customer;
CREATE MATERIALIZED VIEW shop.later AS SELECT count(*) FROM shop.orders WITH NO DATA;
CREATE UNIQUE INDEX totals_customer ON shop.totals (customer);
GRANT USAGE ON SCHEMA shop TO proof_reader;
GRANT SELECT ON shop.orders, shop.customers TO proof_reader;
GRANT UPDATE (quantity) ON shop.orders TO proof_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO proof_reader;
COMMENT ON TABLE shop.orders IS 'What was ordered';
COMMENT ON COLUMN shop.orders.quantity IS 'How many';
COMMENT ON FUNCTION shop.total(integer, shop.amount) IS 'Money';
CREATE PUBLICATION feed FOR TABLE shop.orders WHERE (id > 0);

SELECT lo_from_bytea(70001, '\x00ff0a'::bytea), lo_from_bytea(70002, ''::bytea);
COMMENT ON LARGE OBJECT 70001 IS 'Three bytes';
GRANT SELECT ON LARGE OBJECT 70001 TO proof_reader;
GRANT SELECT ON LARGE OBJECT 70001, 70002 TO pulse_backup;

RESET ROLE;
