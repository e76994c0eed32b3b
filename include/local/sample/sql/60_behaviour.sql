-- Functions, triggers, rules and views: created after the rows, so that none of them ran while loading.

SET LOCAL ROLE postgres;

CREATE FUNCTION private.is_member(workspace uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT EXISTS (
        SELECT FROM public.workspace_members AS m WHERE m.workspace_id = is_member.workspace AND m.user_id = auth.uid()
    )
$$;

CREATE FUNCTION public.touch_edited_at() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    -- 'quotes', "more quotes", $$ and a \ backslash survive only if the body is quoted well
    IF NEW.body IS DISTINCT FROM OLD.body THEN
        NEW.edited_at := now();
    END IF;
    RETURN NEW;
END
$function$;

CREATE FUNCTION audit.record_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO audit.activity (id, occurred_at, action, details)
    VALUES (nextval('audit.activity_id_seq'), clock_timestamp(), TG_ARGV[0], to_jsonb(coalesce(NEW, OLD)));
    RETURN NULL;
END
$$;

CREATE FUNCTION public.count_statement() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    UPDATE private.counters SET value = value + (SELECT count(*) FROM inserted) WHERE name = 'messages';
    RETURN NULL;
END
$$;

CREATE FUNCTION public.search_messages(query text, VARIADIC conversations uuid[] DEFAULT '{}', OUT message_id bigint, OUT excerpt text)
    RETURNS SETOF record LANGUAGE plpgsql STABLE ROWS 50 COST 500 AS $$
BEGIN
    RETURN QUERY
    SELECT m.id, left(m.body, 80) FROM public.messages AS m
    WHERE m.body ILIKE '%' || query || '%' AND (cardinality(conversations) = 0 OR m.conversation_id = ANY (conversations))
    LIMIT 50;
END
$$;

CREATE FUNCTION public.messages_per_day(since date, until date DEFAULT 'infinity') RETURNS TABLE (day date, messages bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (m.created_at AT TIME ZONE 'UTC')::date, count(*) FROM public.messages AS m
    WHERE (m.created_at AT TIME ZONE 'UTC')::date BETWEEN since AND until
    GROUP BY 1 ORDER BY 1;
END;

CREATE PROCEDURE public.archive_conversation(target uuid, INOUT done boolean DEFAULT false) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.conversations SET archived_at = now() WHERE id = target;
    done := FOUND;
END
$$;

CREATE TABLE private.counters (name text PRIMARY KEY, value bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO private.counters SELECT 'messages', count(*) FROM public.messages;

CREATE SEQUENCE audit.activity_id_seq OWNED BY audit.activity.id;
SELECT setval('audit.activity_id_seq', (SELECT max(id) FROM audit.activity));
CREATE SEQUENCE public.ticket_seq START WITH 100 INCREMENT BY 5 CACHE 20;
SELECT nextval('public.ticket_seq') FROM generate_series(1, 3);
CREATE SEQUENCE public.never_called_seq AS smallint START WITH 42;
CREATE SEQUENCE private.countdown_seq AS integer INCREMENT BY -7 MINVALUE -2000000 MAXVALUE -1 START WITH -3 CYCLE;
SELECT setval('private.countdown_seq', -1234, false);
CREATE SEQUENCE "Odd ""names"" \ and
lines"."Sequence's ""name""";
SELECT nextval('"Odd ""names"" \ and
lines"."Sequence''s ""name"""');

CREATE TRIGGER touch_edited_at BEFORE UPDATE OF body ON public.messages
    FOR EACH ROW WHEN (OLD.body IS DISTINCT FROM NEW.body) EXECUTE FUNCTION public.touch_edited_at();
CREATE TRIGGER count_inserts AFTER INSERT ON public.messages
    REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION public.count_statement();
CREATE TRIGGER record_change AFTER INSERT OR UPDATE OR DELETE ON public.workspaces
    FOR EACH ROW EXECUTE FUNCTION audit.record_change('workspace''s "change"');
CREATE CONSTRAINT TRIGGER record_invoice AFTER UPDATE ON public.invoices DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit.record_change('invoice');
CREATE TRIGGER partitioned_trigger AFTER DELETE ON public.reactions
    FOR EACH ROW EXECUTE FUNCTION audit.record_change('reaction');
CREATE TRIGGER disabled_trigger AFTER INSERT ON public.users
    FOR EACH ROW EXECUTE FUNCTION audit.record_change('user');
ALTER TABLE public.users DISABLE TRIGGER disabled_trigger;
CREATE TRIGGER replica_trigger AFTER INSERT ON public.conversations
    FOR EACH ROW EXECUTE FUNCTION audit.record_change('conversation');
ALTER TABLE public.conversations ENABLE ALWAYS TRIGGER replica_trigger;

CREATE VIEW public.recent_messages WITH (security_invoker = true) AS
    SELECT m.id, m.conversation_id, m.sender_id, m.body, m.created_at, u.display_name AS "Sender's name"
    FROM public.messages AS m JOIN public.users AS u ON u.id = m.sender_id
    WHERE m.deleted_at IS NULL AND m.created_at > timestamptz '2024-12-01 00:00:00+00';
CREATE VIEW public.active_users WITH (security_barrier = true) AS
    SELECT id, handle, status, address FROM public.users WHERE status = 'active' WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW public.reply_chains (id, root, depth) AS
    SELECT id, id, 0 FROM public.messages WHERE reply_to_id IS NULL AND id <= 1000
    UNION ALL
    SELECT m.id, c.root, c.depth + 1 FROM public.messages AS m JOIN reply_chains AS c ON m.reply_to_id = c.id WHERE m.id <= 1000;
CREATE VIEW "Odd ""names"" \ and
lines"."View with a
newline" AS SELECT 1 AS "a""b", 'it''s'::text AS "c\d", NULL::public.geo_point AS "E'f'";
ALTER VIEW public.active_users ALTER COLUMN status SET DEFAULT 'active';

CREATE MATERIALIZED VIEW public.conversation_activity WITH (fillfactor = 90) AS
    SELECT conversation_id, count(*) AS messages, max(created_at) AS last_message_at, sum(body_length)::bigint AS characters
    FROM public.messages GROUP BY conversation_id ORDER BY conversation_id
    WITH DATA;
CREATE UNIQUE INDEX conversation_activity_key ON public.conversation_activity (conversation_id);
CREATE MATERIALIZED VIEW public.busiest_conversations AS
    SELECT conversation_id, messages FROM public.conversation_activity ORDER BY messages DESC, conversation_id LIMIT 20
    WITH DATA;
CREATE MATERIALIZED VIEW private.yearly_report AS
    SELECT extract(year FROM created_at AT TIME ZONE 'UTC') AS year, count(*) AS messages FROM public.messages GROUP BY 1
    WITH NO DATA;

CREATE RULE soft_delete AS ON DELETE TO private.api_keys
    DO INSTEAD UPDATE private.api_keys SET scopes = '{}', label = OLD.label || ' (revoked)' WHERE id = OLD.id;
CREATE RULE never_less AS ON UPDATE TO private.counters WHERE NEW.value < OLD.value DO INSTEAD NOTHING;
CREATE RULE redirect AS ON INSERT TO public.recent_messages DO INSTEAD NOTHING;

GRANT EXECUTE ON FUNCTION private.is_member(uuid) TO authenticated, service_role, supabase_storage_admin;
GRANT EXECUTE ON FUNCTION public.is_handle(text) TO PUBLIC;
GRANT EXECUTE ON PROCEDURE public.archive_conversation(uuid, boolean) TO authenticated WITH GRANT OPTION;
REVOKE EXECUTE ON FUNCTION public.search_messages(text, uuid[]) FROM anon;

COMMENT ON FUNCTION public.touch_edited_at() IS 'Doesn''t touch "edited_at" when the body stays';
COMMENT ON PROCEDURE public.archive_conversation(uuid, boolean) IS 'CALL archive_conversation(id)';
COMMENT ON TRIGGER touch_edited_at ON public.messages IS 'Keeps edited_at honest';
COMMENT ON RULE soft_delete ON private.api_keys IS 'Keys are never deleted';
COMMENT ON VIEW public.recent_messages IS 'Runs with the caller''s row security';
COMMENT ON COLUMN public.recent_messages."Sender's name" IS 'As shown';
COMMENT ON MATERIALIZED VIEW public.conversation_activity IS 'Refreshed at night';
COMMENT ON SEQUENCE public.ticket_seq IS 'Counts by five; cached by twenty';

RESET ROLE;
