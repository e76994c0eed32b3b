-- Written last, in the loading transaction: a database that has this table was loaded whole.

SET LOCAL ROLE postgres;

CREATE TABLE private.sample_load (
    size_mb integer NOT NULL,
    seed bigint NOT NULL,
    messages bigint NOT NULL,
    users bigint NOT NULL
);
INSERT INTO private.sample_load
VALUES (pg_temp.amount('size_mb'), pg_temp.seed(), pg_temp.amount('messages'), pg_temp.amount('users'));
COMMENT ON TABLE private.sample_load IS 'How this sample was made';

RESET ROLE;
