-- Schema storage, after Supabase's: buckets, objects, and the path functions their policies use.

SET LOCAL ROLE supabase_storage_admin;

CREATE TABLE storage.migrations (
    id integer PRIMARY KEY,
    name varchar(100) UNIQUE NOT NULL,
    hash varchar(40) NOT NULL,
    executed_at timestamp DEFAULT current_timestamp
);

CREATE TABLE storage.buckets (
    id text PRIMARY KEY,
    name text NOT NULL,
    owner uuid,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    public boolean DEFAULT false,
    avif_autodetection boolean DEFAULT false,
    file_size_limit bigint,
    allowed_mime_types text[]
);

CREATE TABLE storage.objects (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    bucket_id text,
    name text,
    owner uuid,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    last_accessed_at timestamptz DEFAULT now(),
    metadata jsonb,
    path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED,
    version text
);

CREATE FUNCTION storage.foldername(name text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    _parts text[];
BEGIN
    SELECT string_to_array(name, '/') INTO _parts;
    RETURN _parts[1:array_length(_parts, 1) - 1];
END
$$;

CREATE FUNCTION storage.extension(name text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT reverse(split_part(reverse(name), '.', 1))
$$;

CREATE FUNCTION storage.update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = now();
    RETURN NEW;
END
$$;

INSERT INTO storage.migrations
SELECT n, 'migration-' || n, md5(n::text), timestamp '2023-03-01' + n * interval '3 days' FROM generate_series(0, 25) AS n;

INSERT INTO storage.buckets (id, name, owner, created_at, updated_at, public, file_size_limit, allowed_mime_types)
VALUES
    ('attachments', 'attachments', NULL, '2023-01-01 00:00:00+00', '2024-06-01 12:00:00+00', false, 52428800, NULL),
    ('avatars', 'avatars', pg_temp.key('user', 1), '2023-01-01 00:00:00+00', '2023-01-01 00:00:00+00', true, 1048576, '{image/png,image/jpeg}'),
    ('Exports & "reports"', 'Exports & "reports"', NULL, '-infinity', 'infinity', false, NULL, '{}');

INSERT INTO storage.objects (id, bucket_id, name, owner, created_at, updated_at, last_accessed_at, metadata, version)
SELECT
    pg_temp.key('object', n),
    'attachments',
    file.name,
    pg_temp.key('user', 1 + pg_temp.pick(n, 60, pg_temp.amount('users')::int)),
    pg_temp.message_time(n * 25),
    pg_temp.message_time(n * 25),
    pg_temp.moment(n, 61),
    jsonb_build_object(
        'eTag', pg_temp.file_etag(file.name, pg_temp.file_size(n)), 'size', pg_temp.file_size(n), 'mimetype', pg_temp.mime_type(n),
        'cacheControl', 'max-age=3600', 'httpStatusCode', 200
    ),
    pg_temp.key('version', n)::text
FROM generate_series(1, pg_temp.amount('attachments')) AS n
CROSS JOIN LATERAL (
    SELECT pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces')) || '/' || to_char(pg_temp.message_time(n * 25), 'YYYY/MM') || '/' || pg_temp.file_name(n) AS name
) AS file;

ALTER TABLE storage.objects ADD PRIMARY KEY (id);
ALTER TABLE storage.objects ADD CONSTRAINT "objects_bucketId_fkey" FOREIGN KEY (bucket_id) REFERENCES storage.buckets (id);
CREATE UNIQUE INDEX bucketid_objname ON storage.objects (bucket_id, name);
CREATE INDEX name_prefix_search ON storage.objects (name text_pattern_ops);

CREATE TRIGGER update_objects_updated_at BEFORE UPDATE ON storage.objects
    FOR EACH ROW EXECUTE FUNCTION storage.update_updated_at_column();

ALTER TABLE storage.buckets ENABLE ROW LEVEL SECURITY;
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;

GRANT EXECUTE ON FUNCTION storage.foldername(text), storage.extension(text) TO anon, authenticated, service_role, postgres;
COMMENT ON COLUMN storage.objects.path_tokens IS 'Generated from name; a dump leaves it out';

RESET ROLE;
