-- Types, functions and operators of the application, before the tables that use them.

SET LOCAL ROLE postgres;

CREATE TYPE public.workspace_plan AS ENUM ('free', 'team', 'business', 'it''s "custom"', 'Größe XL');
CREATE TYPE public.user_status AS ENUM ('active', 'away', 'suspended', 'deleted');
CREATE TYPE public.member_role AS ENUM ('owner', 'admin', 'member', 'guest');
CREATE TYPE public.conversation_kind AS ENUM ('direct', 'group', 'channel');
CREATE TYPE public.message_kind AS ENUM ('text', 'image', 'file', 'system', 'call');
CREATE TYPE public.reaction_kind AS ENUM ('👍', '❤️', '😂', '🎉', '😮', '😢');

CREATE FUNCTION public.is_handle(candidate text) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN candidate ~* '^[a-z0-9_.]{2,40}$'::text;

CREATE DOMAIN public.email_address AS text
    CONSTRAINT email_has_one_at CHECK (VALUE ~ '^[^@\s]+@[^@\s]+$')
    CONSTRAINT email_is_short CHECK (length(VALUE) <= 254);
CREATE DOMAIN public.positive_amount AS numeric(14, 4) CHECK (VALUE >= 0);
CREATE DOMAIN public.locale_code AS text DEFAULT 'en' NOT NULL CHECK (VALUE ~ '^[a-z]{2}(-[A-Z]{2})?$');
CREATE DOMAIN public.handles AS text[] CHECK (cardinality(VALUE) < 100);

CREATE TYPE public.geo_point AS (latitude double precision, longitude double precision);
CREATE TYPE public.postal_address AS (street text, "Post Code" varchar(12), city text, place public.geo_point);
CREATE TYPE public.score_range AS RANGE (subtype = double precision, subtype_diff = float8mi);

CREATE FUNCTION public.distance(a public.geo_point, b public.geo_point) RETURNS double precision
    LANGUAGE sql IMMUTABLE STRICT
BEGIN ATOMIC
    SELECT sqrt(power((a).latitude - (b).latitude, 2::double precision) + power((a).longitude - (b).longitude, 2::double precision));
END;

CREATE OPERATOR public.<~> (FUNCTION = public.distance, LEFTARG = public.geo_point, RIGHTARG = public.geo_point, COMMUTATOR = OPERATOR(public.<~>));

CREATE FUNCTION public.geo_point_text(point public.geo_point) RETURNS text LANGUAGE sql IMMUTABLE STRICT
    RETURN (((point).latitude)::text || ','::text) || ((point).longitude)::text;

CREATE CAST (public.geo_point AS text) WITH FUNCTION public.geo_point_text(public.geo_point) AS ASSIGNMENT;

CREATE FUNCTION public.longest(state text, candidate text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN state IS NULL OR length(candidate) > length(state) THEN candidate ELSE state END
$$;
CREATE AGGREGATE public.longest_text(text) (SFUNC = public.longest, STYPE = text, PARALLEL = SAFE);

CREATE TEXT SEARCH DICTIONARY public.pulse_stem (TEMPLATE = pg_catalog.simple, ACCEPT = true);
CREATE TEXT SEARCH CONFIGURATION public.pulse (COPY = pg_catalog.simple);
ALTER TEXT SEARCH CONFIGURATION public.pulse ALTER MAPPING FOR word, asciiword WITH extensions.unaccent, public.pulse_stem;

GRANT USAGE ON TYPE public.workspace_plan TO authenticated WITH GRANT OPTION;
REVOKE USAGE ON DOMAIN public.positive_amount FROM PUBLIC;
GRANT USAGE ON DOMAIN public.positive_amount TO service_role;

COMMENT ON TYPE public.workspace_plan IS 'Plans; "custom" isn''t for sale';
COMMENT ON DOMAIN public.email_address IS E'Not a full check \\ on purpose';
COMMENT ON CONSTRAINT email_is_short ON DOMAIN public.email_address IS 'RFC 5321, 4.5.3.1.3';
COMMENT ON TYPE public.postal_address IS 'Composite within a composite';
COMMENT ON COLUMN public.postal_address."Post Code" IS 'A quoted attribute';
COMMENT ON OPERATOR public.<~> (public.geo_point, public.geo_point) IS 'Flat distance in degrees';
COMMENT ON AGGREGATE public.longest_text(text) IS 'The first of the longest';
COMMENT ON CAST (public.geo_point AS text) IS 'latitude,longitude';
COMMENT ON TEXT SEARCH CONFIGURATION public.pulse IS 'Ignores accents';

RESET ROLE;
