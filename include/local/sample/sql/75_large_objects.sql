-- Large objects under fixed numbers: empty, small, binary of every byte, and one of more than a megabyte.

SET LOCAL ROLE postgres;

SELECT lo_create(730000);
SELECT lo_from_bytea(730001, convert_to(E'A small text, "quoted" \\ and two\nlines', 'UTF8'));
SELECT lo_from_bytea(730002, (SELECT string_agg(set_byte('\x00', 0, b), ''::bytea ORDER BY b) FROM generate_series(0, 255) AS b));
SELECT lo_from_bytea(730003, (SELECT string_agg(sha256(int8send(pg_temp.noise(part, 320))), ''::bytea ORDER BY part) FROM generate_series(1, 36000) AS part));
SELECT lo_create(730004);
SELECT lo_put(730004, 300000, 'after a hole');

COMMENT ON LARGE OBJECT 730000 IS 'Empty on purpose';
COMMENT ON LARGE OBJECT 730003 IS 'Bigger than a megabyte; it''s "noise"';
GRANT SELECT ON LARGE OBJECT 730000, 730001, 730002, 730003, 730004 TO pulse_backup;
GRANT SELECT, UPDATE ON LARGE OBJECT 730001 TO service_role WITH GRANT OPTION;
GRANT SELECT ON LARGE OBJECT 730002 TO PUBLIC;

RESET ROLE;
ALTER LARGE OBJECT 730002 OWNER TO supabase_storage_admin;
