-- Row security, grants, publications.

SET LOCAL ROLE postgres;

ALTER TABLE public.workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.workspace_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.attachments ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.reactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE private.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE private.api_keys FORCE ROW LEVEL SECURITY;

CREATE POLICY "Members read their workspaces" ON public.workspaces FOR SELECT TO authenticated USING (private.is_member(id));
CREATE POLICY "Anyone may see profiles" ON public.users FOR SELECT TO anon, authenticated USING (true);
CREATE POLICY "One's own profile" ON public.users FOR UPDATE TO authenticated
    USING ((SELECT auth.uid()) = id) WITH CHECK ((SELECT auth.uid()) = id AND status <> 'deleted');
CREATE POLICY "Members see members" ON public.workspace_members FOR SELECT TO authenticated USING (private.is_member(workspace_id));
CREATE POLICY "Members use conversations" ON public.conversations FOR ALL TO authenticated USING (private.is_member(workspace_id));
CREATE POLICY "Members read messages" ON public.messages FOR SELECT TO authenticated
    USING (EXISTS (SELECT FROM public.conversations AS c WHERE c.id = messages.conversation_id AND private.is_member(c.workspace_id)));
CREATE POLICY "Members write messages" ON public.messages FOR INSERT TO authenticated WITH CHECK (sender_id = (SELECT auth.uid()));
CREATE POLICY "Not the deleted ones" ON public.messages AS RESTRICTIVE FOR SELECT TO authenticated USING (deleted_at IS NULL);
CREATE POLICY "Attachments follow messages" ON public.attachments FOR SELECT TO authenticated
    USING (message_id IN (SELECT m.id FROM public.messages AS m));
CREATE POLICY "Own reactions" ON public.reactions FOR DELETE TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY "Only the service" ON private.api_keys TO service_role USING (true) WITH CHECK (label <> 'it''s "root"');
COMMENT ON POLICY "Only the service" ON private.api_keys IS 'Forced: the owner isn''t exempt';

REVOKE ALL ON public.invoices FROM anon, authenticated;
GRANT SELECT (number, workspace_id, period), UPDATE (paid_on) ON public.invoices TO authenticated;
GRANT SELECT ON public.invoices TO "Pulse ""Ops"" \ team" WITH GRANT OPTION;
GRANT USAGE ON SEQUENCE public.ticket_seq TO "Pulse ""Ops"" \ team";
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.messages FROM anon;

SET LOCAL ROLE "Pulse ""Ops"" \ team";
GRANT SELECT ON public.invoices TO dashboard_user;
SET LOCAL ROLE postgres;

CREATE PUBLICATION supabase_realtime FOR TABLE
    public.messages (id, conversation_id, sender_id, body, created_at) WHERE (deleted_at IS NULL),
    public.reactions,
    public.conversations
    WITH (publish = 'insert, truncate', publish_via_partition_root = true);
COMMENT ON PUBLICATION supabase_realtime IS 'What clients subscribe to';

SET LOCAL ROLE supabase_storage_admin;
CREATE POLICY "Public buckets are readable" ON storage.objects FOR SELECT TO anon, authenticated
    USING (bucket_id IN (SELECT b.id FROM storage.buckets AS b WHERE b.public));
CREATE POLICY "Workspace's folder" ON storage.objects FOR INSERT TO authenticated
    WITH CHECK (bucket_id = 'attachments' AND private.is_member(((storage.foldername(name))[1])::uuid));
SET LOCAL ROLE supabase_auth_admin;
CREATE POLICY "Own account" ON auth.users FOR SELECT TO authenticated USING (auth.uid() = id);

RESET ROLE;
CREATE PUBLICATION "Audit, ""all""" FOR TABLES IN SCHEMA audit WITH (publish = 'insert');

-- Privileges on members of extensions are kept apart from what CREATE EXTENSION gives.
REVOKE EXECUTE ON FUNCTION extensions.crypt(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION extensions.crypt(text, text) TO service_role;
GRANT SELECT ON extensions.pg_stat_statements TO dashboard_user WITH GRANT OPTION;

-- As Supabase tells PostgREST that the schema changed; quiet unless someone listens.
CREATE FUNCTION extensions.pgrst_ddl_watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() AS c WHERE c.command_tag LIKE '%TABLE') THEN
        NOTIFY pgrst, 'reload schema';
    END IF;
END
$$;
CREATE EVENT TRIGGER pgrst_ddl_watch ON ddl_command_end EXECUTE FUNCTION extensions.pgrst_ddl_watch();
COMMENT ON EVENT TRIGGER pgrst_ddl_watch IS 'Tells "PostgREST" to look again';
