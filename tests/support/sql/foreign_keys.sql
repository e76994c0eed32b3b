-- Foreign keys of every kind that an archive can hold; run as superuser.

CREATE SCHEMA keyed;
CREATE TABLE keyed.users (id integer PRIMARY KEY, "first ""name" text);
CREATE TABLE keyed.rooms (id integer PRIMARY KEY, owner integer REFERENCES keyed.users DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE keyed."a ""table" (
    id integer PRIMARY KEY,
    parent integer CONSTRAINT "its ""parent" REFERENCES keyed."a ""table" ON DELETE CASCADE,
    room integer CONSTRAINT room_key REFERENCES keyed.rooms (id) MATCH FULL ON UPDATE CASCADE
);
COMMENT ON CONSTRAINT room_key ON keyed."a ""table" IS 'A remark on a key';
ALTER TABLE keyed.users ADD favourite integer REFERENCES keyed.rooms;
CREATE TABLE keyed.days (day date, room integer REFERENCES keyed.rooms, PRIMARY KEY (day)) PARTITION BY RANGE (day);
CREATE TABLE keyed.days_2024 PARTITION OF keyed.days FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE keyed.visits (day date CONSTRAINT to_parted REFERENCES keyed.days, room integer);
CREATE TABLE keyed.alone (room integer);

INSERT INTO keyed.users SELECT n, 'user ' || n FROM generate_series(1, 30) AS n;
INSERT INTO keyed.rooms SELECT n, n FROM generate_series(1, 20) AS n;
INSERT INTO keyed."a ""table" SELECT n, nullif(n / 2, 0), n % 20 + 1 FROM generate_series(1, 200) AS n;
INSERT INTO keyed.days SELECT '2024-01-01'::date + n, n % 20 + 1 FROM generate_series(0, 99) AS n;
INSERT INTO keyed.visits SELECT '2024-01-01'::date + n, 1 FROM generate_series(0, 99) AS n;
INSERT INTO keyed.alone VALUES (-1);
ALTER TABLE keyed.alone ADD CONSTRAINT stays_unchecked FOREIGN KEY (room) REFERENCES keyed.rooms NOT VALID;

CREATE TABLE keyed.noticed (command text);
CREATE FUNCTION keyed.notice() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keyed.noticed VALUES (tg_tag);
END $$;
CREATE EVENT TRIGGER keyed_notice ON ddl_command_end EXECUTE FUNCTION keyed.notice();
COMMENT ON EVENT TRIGGER keyed_notice IS 'Sees every command';
TRUNCATE keyed.noticed;
