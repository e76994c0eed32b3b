-- Messages number sample.first to sample.last; the loader runs this once per slice.
-- Noise is computed in a subquery of its own (OFFSET 0), so that the functions above it are inlined.

INSERT INTO public.messages (
    id, conversation_id, sender_id, reply_to_id, kind, created_at, edited_at, deleted_at, is_pinned, body, metadata, mentions
)
OVERRIDING SYSTEM VALUE
SELECT
    n,
    pg_temp.key('conversation', c),
    pg_temp.member(c, slice_of_sender),
    CASE WHEN n > 50 AND (a & 7) = 0 THEN n - 1 - ((a >> 3) & 31) END,
    CASE WHEN n % 25 = 0 THEN 'file' WHEN (a >> 50 & 127) = 1 THEN 'call' WHEN (a >> 50 & 127) = 2 THEN 'system' ELSE 'text' END::public.message_kind,
    pg_temp.message_time(n),
    CASE WHEN (b & 31) = 0 THEN pg_temp.message_time(n) + ((b >> 8) & 65535) * interval '1 second' END,
    CASE WHEN (b & 255) = 1 THEN pg_temp.message_time(n) + interval '1 day' END,
    (b & 511) = 2,
    CASE WHEN n % 97 = 0 THEN pg_temp.foreign_phrase(1 + (n / 97 % 24)::int)
         WHEN n % 23 = 0 THEN pg_temp.foreign_phrase(pg_temp.slice(b, 20, 24)) || pg_temp.sentence(a)
         WHEN n % 499 = 0 THEN pg_temp.pasted_log(n)
         ELSE rtrim(
             pg_temp.sentence(a)
             || CASE WHEN (d & 7) > 1 THEN pg_temp.sentence(b) ELSE '' END
             || CASE WHEN (d & 7) > 3 THEN CASE WHEN (d & 64) = 0 THEN E'\n' ELSE '' END || pg_temp.sentence(d) || pg_temp.sentence(a # d) ELSE '' END
             || CASE WHEN (d & 15) > 13 THEN E'\n\n' || pg_temp.sentence(b # d) || pg_temp.sentence(a # b) || pg_temp.sentence(d # (b >> 3)) ELSE '' END
         )
    END,
    CASE WHEN (b & 15) = 3 THEN '{}'::jsonb ELSE jsonb_build_object(
        'client', (ARRAY['ios', 'android', 'web', 'desktop', 'api'])[pg_temp.slice(a, 40, 5)],
        'version', '5.' || pg_temp.slice(b, 3, 12) || '.' || pg_temp.slice(b, 9, 20),
        'trace', to_hex(d),
        'tokens', (b >> 33) & 1023,
        'delivery', jsonb_build_object('attempts', pg_temp.slice(d, 9, 3), 'ms', ((d >> 12) & 65535)::float8 / 10)
    ) END,
    CASE WHEN (d & 31) = 5 THEN ARRAY[pg_temp.member(c, 0), pg_temp.member(c, 1)] WHEN (d & 1023) = 6 THEN '{}'::uuid[] END
FROM (
    SELECT
        n,
        pg_temp.noise(n, 200) AS a,
        pg_temp.noise(n, 201) AS b,
        pg_temp.noise(n, 202) AS d,
        -- A few conversations are lively, most are quiet.
        1 + floor(power(pg_temp.pick(n, 203, 1000000) / 1000000.0::double precision, 2) * pg_temp.amount('conversations'))::bigint AS c,
        pg_temp.pick(n, 204, 6) AS slice_of_sender
    FROM generate_series(current_setting('sample.first')::bigint, current_setting('sample.last')::bigint) AS n
    OFFSET 0
) AS source
ORDER BY n;
