CREATE SCHEMA "Sales Dept";
CREATE TYPE public.state AS ENUM ('open', 'done');
CREATE FUNCTION public.is_even(n int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT n % 2 = 0';
CREATE SEQUENCE public.shared_numbers START 500;
CREATE SEQUENCE public.unrelated START 900;
SELECT nextval('public.shared_numbers'), nextval('public.unrelated'), nextval('public.unrelated');
CREATE TABLE public.regions (id int PRIMARY KEY, name text);
INSERT INTO public.regions SELECT n, 'region ' || n FROM generate_series(1, 50) n;
CREATE TABLE "Sales Dept"."Order ""Lines""" (
  id serial PRIMARY KEY, number bigint DEFAULT nextval('public.shared_numbers'), state public.state DEFAULT 'open',
  amount int CHECK (public.is_even(amount)), region int REFERENCES public.regions
);
INSERT INTO "Sales Dept"."Order ""Lines""" (amount, region) SELECT 2 * n, 1 + n % 50 FROM generate_series(1, 400) n;
CREATE TABLE public.events (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE public.events_2025 PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
  PARTITION BY HASH (id);
CREATE TABLE public.events_2025_0 PARTITION OF public.events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.events_2025_1 PARTITION OF public.events_2025 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public."events Rest" PARTITION OF public.events DEFAULT;
INSERT INTO public.events SELECT n, date '2025-11-01' + n FROM generate_series(1, 300) n;
CREATE TABLE public.notes (id int, body text);
CREATE TABLE public.pinned_notes (until date) INHERITS (public.notes);
INSERT INTO public.notes SELECT n, md5(n::text) FROM generate_series(1, 20) n;
INSERT INTO public.pinned_notes SELECT n, md5(n::text), 'infinity' FROM generate_series(21, 30) n;
CREATE VIEW public.open_lines AS SELECT * FROM "Sales Dept"."Order ""Lines""" WHERE state = 'open';
CREATE MATERIALIZED VIEW public.totals AS SELECT count(*) FROM "Sales Dept"."Order ""Lines""";
CREATE TABLE public.noise AS SELECT n FROM generate_series(1, 1000) n;
ALTER TABLE public.noise ADD FOREIGN KEY (n) REFERENCES public.regions NOT VALID;
SELECT lo_from_bytea(0, 'large');
CREATE SCHEMA scrap;
CREATE TABLE scrap.heap AS SELECT n FROM generate_series(1, 9) n;
