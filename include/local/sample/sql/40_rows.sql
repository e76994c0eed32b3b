-- Rows of every table but messages.

SET LOCAL ROLE postgres;

INSERT INTO public.workspaces
SELECT
    pg_temp.key('workspace', n),
    'Workspace-' || n,
    (ARRAY['Acme', 'Globex', 'Initech', 'Ünïcode GmbH', 'شركة النور', '株式会社さくら', 'O''Neill & Sons', 'Back\slash Ltd', E'Two\nLines', '🚀 Labs'])[1 + pg_temp.pick(n, 100, 10)] || ' ' || n,
    (enum_range(NULL::public.workspace_plan))[1 + pg_temp.pick(n, 101, 5)],
    jsonb_build_object('theme', '#' || lpad(to_hex(pg_temp.pick(n, 102, 16777216)), 6, '0'), 'sso', n % 5 = 0, 'limits', jsonb_build_object('storage_gb', 2 ^ (n % 8), 'guests', NULL)),
    CASE WHEN n % 7 = 0 THEN 'NaN'::numeric ELSE pg_temp.pick(n, 103, 5000000) / 10000.0 END,
    int4range(1, 10 + pg_temp.pick(n, 104, 500), '[]'),
    CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN 'empty'::tstzrange
        ELSE tstzrange(pg_temp.moment(n, 105), CASE WHEN n % 3 > 0 THEN pg_temp.moment(n, 105) + interval '14 days' END) END,
    NULL,
    timestamptz '2023-01-01 00:00:00+00' + n * interval '1 hour',
    CASE n % 6 WHEN 0 THEN timestamptz '2026-01-01 00:00:00.123456+00' WHEN 1 THEN '-infinity' ELSE 'infinity' END
FROM generate_series(1, pg_temp.amount('workspaces')) AS n;

INSERT INTO public.users (
    id, number, handle, given_name, family_name, email, locale, status, interests, aliases, address, avatar,
    presence_score, last_seen_at, created_at
)
SELECT
    pg_temp.key('user', n),
    1000 + 10 * n,
    CASE WHEN n % 3 = 0 THEN 'User_' ELSE 'user.' END || n,
    pg_temp.given_name(1 + pg_temp.pick(n, 71, 32)),
    CASE WHEN n % 29 > 0 THEN pg_temp.family_name(1 + pg_temp.pick(n, 72, 32)) END,
    pg_temp.email(n),
    (ARRAY['en', 'de-DE', 'ar', 'ja-JP', 'pt-BR', 'fr'])[1 + pg_temp.pick(n, 110, 6)],
    (enum_range(NULL::public.user_status))[1 + pg_temp.pick(n, 111, 4)],
    CASE n % 5 WHEN 0 THEN NULL WHEN 1 THEN '{}' WHEN 2 THEN ARRAY['chess', NULL, 'NULL', 'a,b', '"q"', '{x}', ''] ELSE ARRAY['music', 'café', '山登り'] END,
    ARRAY['u' || n, 'U' || n],
    CASE WHEN n % 4 > 0 THEN ROW(n || ' Rue de l''Église, "B"', lpad((n % 99999)::text, 5, '0'), CASE WHEN n % 3 > 0 THEN 'Köln' END,
        ROW(pg_temp.pick(n, 112, 180000) / 1000.0 - 90, pg_temp.pick(n, 113, 360000) / 1000.0 - 180)::public.geo_point)::public.postal_address END,
    CASE WHEN n % 10 = 0 THEN '\x89504e470d0a1a0a'::bytea || sha256(int8send(pg_temp.noise(n, 114))) || '\x00'::bytea WHEN n % 10 = 1 THEN ''::bytea END,
    CASE n % 8 WHEN 0 THEN 'NaN' WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' WHEN 3 THEN '-0' WHEN 4 THEN 1e-300 WHEN 5 THEN 0.1 + 0.2
        ELSE pg_temp.pick(n, 115, 1000000) / 7.0::double precision END,
    CASE WHEN n % 50 = 0 THEN timestamptz '-infinity' ELSE pg_temp.moment(n, 116) END,
    pg_temp.moment(n, 16)
FROM generate_series(1, pg_temp.amount('users')) AS n;

INSERT INTO public.workspace_members
SELECT
    pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces')),
    pg_temp.key('user', n),
    (ARRAY['member', 'member', 'member', 'guest', 'admin', 'owner']::public.member_role[])[1 + pg_temp.pick(n, 120, 6)],
    pg_temp.pick(n, 121, 256)::bit(8),
    make_interval(months => pg_temp.pick(n, 122, 3), days => pg_temp.pick(n, 123, 40), secs => pg_temp.pick(n, 124, 90000) / 10.0) * (1 - 2 * (n % 2)),
    pg_temp.moment(n, 125)
FROM generate_series(1, pg_temp.amount('users')) AS n;

INSERT INTO public.conversations
SELECT
    pg_temp.key('conversation', n),
    pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces')),
    (enum_range(NULL::public.conversation_kind))[1 + n % 3],
    CASE WHEN n % 3 > 0 THEN pg_temp.object(pg_temp.slice(pg_temp.noise(n, 130), 0, 48)) || CASE WHEN n % 11 = 0 THEN ' 💬' ELSE ' ' || n END END,
    CASE n % 3 WHEN 0 THEN extensions.hstore('topic', 'a => "b"') || extensions.hstore('empty', NULL) ELSE '' END,
    n,
    pg_temp.key('user', 1 + pg_temp.pick(n, 131, pg_temp.amount('users')::int)),
    CASE n % 4 WHEN 0 THEN interval '1 year 2 mons -3 days 04:05:06.789' WHEN 1 THEN interval '90 days' END,
    pg_temp.moment(n, 132),
    CASE WHEN n % 13 = 0 THEN timestamptz 'infinity' END
FROM generate_series(1, pg_temp.amount('conversations')) AS n;

UPDATE public.workspaces AS w SET default_conversation_id = pg_temp.key('conversation', n)
FROM generate_series(1, pg_temp.amount('workspaces') / 2) AS n
WHERE w.id = pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces'));

-- Members of conversation c in workspace w are every further user of w, from a start that depends on c.
INSERT INTO public.conversation_members
SELECT DISTINCT ON (c, member)
    pg_temp.key('conversation', c),
    pg_temp.member(c, member),
    CASE WHEN pg_temp.pick(c * 8 + member, 140, 3) > 0 THEN 1 + pg_temp.pick(c * 8 + member, 141, pg_temp.amount('messages')::int) END,
    pg_temp.pick(c * 8 + member, 142, 10) = 0
FROM generate_series(1, pg_temp.amount('conversations')) AS c, generate_series(0, 5) AS member
ORDER BY c, member;

INSERT INTO public.attachments
SELECT
    pg_temp.key('attachment', n),
    n * 25,
    pg_temp.key('object', n),
    pg_temp.file_name(n),
    pg_temp.mime_type(n),
    pg_temp.file_size(n),
    sha256(int8send(pg_temp.noise(n, 150))),
    CASE WHEN pg_temp.mime_type(n) LIKE 'image/%' THEN ARRAY[320 + pg_temp.pick(n, 151, 4000), 240 + pg_temp.pick(n, 152, 3000)] END,
    CASE WHEN n <= 3 THEN 730000 + n END,
    pg_temp.message_time(n * 25)
FROM generate_series(1, pg_temp.amount('attachments')) AS n;

INSERT INTO public.reactions
SELECT
    1 + pg_temp.pick(n, 160, pg_temp.amount('messages')::int),
    pg_temp.key('user', 1 + pg_temp.pick(n, 161, pg_temp.amount('users')::int)),
    (enum_range(NULL::public.reaction_kind))[1 + pg_temp.pick(n, 162, 6)],
    pg_temp.moment(n, 163)
FROM generate_series(1, pg_temp.amount('messages') / 10) AS n;

INSERT INTO audit.activity
SELECT
    n,
    CASE WHEN n % 1000 = 0 THEN timestamptz 'infinity' ELSE timestamptz '2023-01-01 00:00:00+00' + (n * 66000000.0 / pg_temp.amount('activity')) * interval '1 second' END,
    pg_temp.key('user', 1 + pg_temp.pick(n, 170, pg_temp.amount('users')::int)),
    (ARRAY['login', 'logout', 'message.edit', 'member.add', 'export'])[1 + pg_temp.pick(n, 171, 5)],
    CASE WHEN n % 5 = 0 THEN jsonb_build_object('from', pg_temp.pick(n, 172, 100), 'note', E'line\nbreak \\ "q"') END,
    inet '192.168.0.0/16' + pg_temp.pick(n, 173, 60000)
FROM generate_series(1, pg_temp.amount('activity')) AS n;

INSERT INTO public.huddles (workspace_id, room, during, attendees)
SELECT
    pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces')),
    'room ' || n % 4,
    tstzrange(timestamptz '2024-01-01 00:00:00+00' + n * interval '1 hour', timestamptz '2024-01-01 00:45:00+00' + n * interval '1 hour'),
    2 + pg_temp.pick(n, 180, 30)
FROM generate_series(1, 400) AS n;

INSERT INTO public.invoices
SELECT
    'INV-' || lpad(n::text, 6, '0'),
    pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces')),
    daterange(date '2023-01-01' + (n * 30)::int, date '2023-01-01' + ((n + 1) * 30)::int),
    CASE n % 9 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' WHEN 3 THEN 12345678901234567890.123456789012345678901234567890 WHEN 4 THEN 0.000 ELSE pg_temp.pick(n, 181, 9999999) / 100.0 END,
    CASE n % 5 WHEN 0 THEN 'NaN' WHEN 1 THEN '-infinity' ELSE 1.1 END,
    CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN 'infinity' WHEN 2 THEN '0044-03-15 BC' ELSE date '2024-02-29' END,
    CASE n % 3 WHEN 0 THEN '{}' WHEN 1 THEN '{[0,0.5),(1,2.25]}' END::nummultirange,
    ARRAY[jsonb_build_object('item', 'seat', 'quantity', n), '"text"', 'null', '1.50']
FROM generate_series(1, 600) AS n;

INSERT INTO private.api_keys (workspace_id, label, key_hash, scopes, created_at)
SELECT
    pg_temp.key('workspace', 1 + n % pg_temp.amount('workspaces')),
    'key ' || n,
    sha256(int8send(pg_temp.noise(n, 190))),
    ARRAY['read', 'write'],
    pg_temp.moment(n, 191)
FROM generate_series(1, 120) AS n;

SELECT setval('public.users_number_seq', 1000 + 10 * pg_temp.amount('users'));

RESET ROLE;
