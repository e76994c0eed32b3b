-- Sentences put together from pieces: one 64-bit number gives one sentence, and few are alike.

CREATE FUNCTION pg_temp.opener(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['', '', '', '', 'hey, ', 'ok so ', 'Quick question: ', 'FYI ', 'Honestly ', 'no rush but ', 'hmm, ', 'Sorry, ',
        'Good morning! ', 'btw ', 'Heads-up: ', 'Not sure, but ', 'I think ', 'Looks like ', 'Apparently ', 'just saw that ',
        'reminder: ', 'Thanks! ', 'Great, ', 'wait, ', 'To be clear, ', 'For the record: ', 'yep, ', 'nope, ', 'haha ',
        'Following up: ', 'As discussed, ', '👋 '])[i]
$$;

CREATE FUNCTION pg_temp.subject(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['the customer', 'our supplier', 'Marta from finance', 'the new intern', 'someone on the night shift',
        'the design team', 'legal', 'my manager', 'the build server', 'the staging cluster', 'the Lisbon office', 'QA',
        'the landlord', 'that vendor in Osaka', 'the printer on 3', 'my flight', 'the courier', 'the release branch',
        'support tier two', 'the auditor', 'Jonas', 'Priyanka', 'the mobile app', 'the payment gateway', 'the dashboard',
        'the old invoice', 'the contract draft', 'the quarterly review', 'the venue', 'the caterer', 'the data export',
        'the search index', 'the on-call phone', 'the welcome email', 'the migration script', 'the webhook', 'the budget',
        'the roadmap', 'the hiring panel', 'our biggest account'])[i]
$$;

CREATE FUNCTION pg_temp.verb(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['needs', 'is still waiting for', 'just approved', 'rejected', 'keeps asking about', 'can''t find', 'broke',
        'finally fixed', 'wants to move', 'has questions about', 'is blocked by', 'signed off on', 'forgot', 'is late with',
        'will pick up', 'shared', 'doubled', 'cancelled', 'confirmed', 'is reviewing', 'should not touch', 'lost track of',
        'is happy with', 'complained about', 'sent over', 'rescheduled', 'rolled back', 'prepared', 'duplicated',
        'renamed', 'archived', 'escalated', 'paid for', 'is testing', 'shipped', 'paused', 'overwrote', 'deleted',
        'restored', 'summarised'])[i]
$$;

CREATE FUNCTION pg_temp.object(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['the March invoice', 'ticket', 'the onboarding checklist', 'the signed NDA', 'the seating plan',
        'the second milestone', 'room ', 'the API keys rotation', 'the backup report', 'order', 'the pricing page',
        'the slides', 'the password reset flow', 'PR', 'the customer interview', 'the refund', 'the analytics events',
        'the translation file', 'the new logo', 'build', 'the travel booking', 'the "urgent" request', 'the parking permits',
        'the maintenance window', 'the feature flag', 'shipment', 'the press release', 'the tax form', 'the survey results',
        'version', 'the load test', 'the rate limiter', 'the meeting notes', 'the floor plan', 'the training videos',
        'the warranty claim', 'the e-mail thread', 'batch', 'the retention policy', 'the incident timeline',
        'the cookie banner', 'the newsletter', 'lot', 'the Friday demo', 'the spare laptops', 'the union agreement',
        'the delivery address', 'invoice'])[i]
$$;

CREATE FUNCTION pg_temp.circumstance(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['', '', '', '', '', ' before lunch', ' by end of day', ' again', ' for the third time this week', ' on Monday',
        ' since the last deploy', ' in the wrong channel', ' without telling anyone', ' after the call', ' as of this morning',
        ' until further notice', ' over the weekend', ' at 5 sharp', ' during the freeze', ' in about an hour', ' next sprint',
        ' while I was away', ' and nobody noticed', ' which is fine by me', ' and I have no idea why', ' if that helps',
        ' so please don''t reply yet', ', see above', ' (still)', ' – details in the doc', ' because of the holiday',
        ' with some luck'])[i]
$$;

CREATE FUNCTION pg_temp.closer(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['. ', '. ', '. ', '. ', '. ', '! ', '? ', '?! ', '... ', '. Thoughts? ', ' :) ', ' 🙃 ', ' 👍 ', '. Can you check? ', '. +1 ',
        '. Thanks 🙏 '])[i]
$$;

-- Other scripts and directions; combining marks, emoji of several code points, and text that looks like COPY's syntax.
CREATE FUNCTION pg_temp.foreign_phrase(i int) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (ARRAY['Können wir das morgen besprechen? ', 'Ça marche, à tout à l''heure ! ', '¿Puedes enviarme el informe? ',
        'مرحبا، هل وصل الطلب؟ ', 'תודה רבה, נדבר מחר. ', 'お疲れ様です。資料を送りました。', '稍后我会更新文档。', '내일 회의 시간 괜찮으세요? ',
        'Спасибо, всё получилось! ', 'Cảm ơn bạn nhiều nhé. ', 'Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚a̴̵̜̰͔ͫ͗͢l̠ͨͧͩ͘g̉o ', 'é ≠ é ',
        '👩‍👩‍👧‍👦 family plan 🏳️‍🌈🇵🇹 ', E'tab\there, backslash \\ there\\n ', E'"quoted", ''single'' and `back` ', '‮reversed‬ ',
        E'first line\nsecond line\n\\.\nafter the dot ', E'\\N ', E'windows\r\nline ends\r\n', 'SELECT * FROM "users"; -- ok? ',
        '<b>not bold</b> &amp; ', '{"json": ["in", "text"]} ', E'\u200B\u00A0\uFEFF', '½ ¾ ∑ ∞ ℵ 𝔘𝔫𝔦 '])[i]
$$;

CREATE FUNCTION pg_temp.sentence(noise bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_temp.opener(pg_temp.slice(noise, 0, 32))
        || pg_temp.subject(pg_temp.slice(noise, 5, 40)) || ' '
        || pg_temp.verb(pg_temp.slice(noise, 12, 40)) || ' '
        || pg_temp.object(pg_temp.slice(noise, 19, 48))
        || CASE WHEN (noise & 3) = 0 THEN ' ' || ((noise >> 40) & 65535)::text ELSE '' END
        || pg_temp.circumstance(pg_temp.slice(noise, 30, 32))
        || pg_temp.closer(pg_temp.slice(noise, 44, 16))
$$;

-- A log somebody pasted: some kilobytes, so that TOAST has work.
CREATE FUNCTION pg_temp.pasted_log(n bigint) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT '```' || E'\n' || string_agg(
        to_char(timestamp '2024-01-01' + (n * 60 + line) * interval '1 second', 'YYYY-MM-DD HH24:MI:SS')
            || ' [' || to_hex(pg_temp.noise(n * 1000 + line, 80)) || '] ' || pg_temp.sentence(pg_temp.noise(n * 1000 + line, 81)),
        E'\n' ORDER BY line) || E'\n```'
    FROM generate_series(1, 20 + pg_temp.pick(n, 82, 180)) AS line
$$;
