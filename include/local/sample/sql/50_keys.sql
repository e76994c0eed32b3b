-- Keys, indexes and statistics, built once the rows are there.

SET LOCAL ROLE postgres;

ALTER TABLE public.workspaces ADD PRIMARY KEY (id);
ALTER TABLE public.workspaces ADD CONSTRAINT workspaces_slug_key UNIQUE (slug);
ALTER TABLE public.users ADD PRIMARY KEY (id);
ALTER TABLE public.users ADD CONSTRAINT users_number_key UNIQUE (number);
ALTER TABLE public.users ADD CONSTRAINT users_handle_key UNIQUE (handle) INCLUDE (status);
ALTER TABLE public.workspace_members ADD PRIMARY KEY (workspace_id, user_id);
ALTER TABLE public.conversations ADD PRIMARY KEY (id);
ALTER TABLE public.conversations ADD CONSTRAINT "position is unique" UNIQUE (workspace_id, "position") DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE public.conversation_members ADD PRIMARY KEY (conversation_id, user_id);
ALTER TABLE public.messages ADD PRIMARY KEY (id);
ALTER TABLE public.attachments ADD PRIMARY KEY (id);
ALTER TABLE audit.activity ADD PRIMARY KEY (id, occurred_at, action);
ALTER TABLE public.huddles ADD PRIMARY KEY (id);
ALTER TABLE public.huddles ADD CONSTRAINT one_huddle_per_room EXCLUDE USING gist (workspace_id WITH =, room WITH =, during WITH &&)
    WHERE (attendees > 0);
ALTER TABLE public.invoices ADD PRIMARY KEY (number);
ALTER TABLE private.api_keys ADD PRIMARY KEY (id);

CREATE INDEX messages_conversation_id_created_at_idx ON public.messages (conversation_id, created_at DESC);
CREATE INDEX messages_pinned_idx ON public.messages (conversation_id) WHERE is_pinned AND deleted_at IS NULL;
CREATE INDEX messages_created_at_idx ON public.messages USING brin (created_at) WITH (pages_per_range = 32);
CREATE INDEX messages_client_idx ON public.messages ((metadata ->> 'client'), kind) WHERE kind <> 'text';
CREATE INDEX messages_mentions_idx ON public.messages USING gin (mentions) WHERE mentions IS NOT NULL;
CREATE INDEX "Attachments by Name" ON public.attachments (lower(file_name) COLLATE "C" text_pattern_ops);
CREATE INDEX attachments_message_id_idx ON public.attachments USING hash (message_id);
CREATE INDEX reactions_message_id_idx ON public.reactions (message_id);
CREATE INDEX activity_details_idx ON audit.activity USING gin (details jsonb_path_ops);
CREATE INDEX users_name_trigram_idx ON public.users USING gin (display_name extensions.gin_trgm_ops);
CREATE INDEX users_interests_idx ON public.users USING gin (interests) WITH (fastupdate = off);
CREATE UNIQUE INDEX users_email_idx ON public.users (lower(email::text)) NULLS NOT DISTINCT;
CREATE INDEX conversations_labels_idx ON public.conversations USING gist (labels);
ALTER INDEX public.users_email_idx SET (fillfactor = 80);
ALTER TABLE public.users ALTER COLUMN avatar SET STORAGE EXTERNAL;
ALTER TABLE public.messages ALTER COLUMN conversation_id SET STATISTICS 50;
ALTER TABLE public.messages SET (autovacuum_vacuum_scale_factor = 0.05, toast.autovacuum_enabled = true);
ALTER TABLE public.workspaces CLUSTER ON workspaces_slug_key;

ALTER TABLE public.users ADD CONSTRAINT users_id_fkey FOREIGN KEY (id) REFERENCES auth.users (id) ON DELETE CASCADE;
ALTER TABLE public.workspace_members ADD FOREIGN KEY (workspace_id) REFERENCES public.workspaces (id) ON DELETE CASCADE;
ALTER TABLE public.workspace_members ADD FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE;
ALTER TABLE public.conversations ADD FOREIGN KEY (workspace_id) REFERENCES public.workspaces (id) ON DELETE CASCADE;
ALTER TABLE public.conversations ADD FOREIGN KEY (workspace_id, created_by) REFERENCES public.workspace_members (workspace_id, user_id)
    ON DELETE SET NULL (created_by) NOT VALID;
ALTER TABLE public.workspaces ADD CONSTRAINT "default conversation exists" FOREIGN KEY (default_conversation_id)
    REFERENCES public.conversations (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE public.conversation_members ADD FOREIGN KEY (conversation_id) REFERENCES public.conversations (id) ON DELETE CASCADE;
ALTER TABLE public.conversation_members ADD FOREIGN KEY (user_id) REFERENCES public.users (id) ON DELETE CASCADE;
ALTER TABLE public.messages ADD CONSTRAINT messages_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES public.conversations (id) ON DELETE CASCADE;
ALTER TABLE public.messages ADD CONSTRAINT messages_sender_id_fkey FOREIGN KEY (sender_id) REFERENCES public.users (id);
ALTER TABLE public.messages ADD CONSTRAINT messages_reply_to_id_fkey FOREIGN KEY (reply_to_id) REFERENCES public.messages (id) ON DELETE SET NULL;
ALTER TABLE public.attachments ADD FOREIGN KEY (message_id) REFERENCES public.messages (id) ON DELETE CASCADE;
ALTER TABLE public.attachments ADD FOREIGN KEY (object_id) REFERENCES storage.objects (id) DEFERRABLE;
ALTER TABLE public.reactions ADD FOREIGN KEY (message_id) REFERENCES public.messages (id) ON DELETE CASCADE;
ALTER TABLE public.invoices ADD FOREIGN KEY (workspace_id) REFERENCES public.workspaces (id) ON UPDATE CASCADE ON DELETE RESTRICT;

CREATE STATISTICS public.messages_kind_and_deleted (dependencies, ndistinct, mcv) ON kind, deleted_at, is_pinned FROM public.messages;
CREATE STATISTICS "Odd ""names"" \ and
lines"."Length, by day" ON (body_length / 100), (created_at AT TIME ZONE 'UTC') FROM public.messages;

ALTER TABLE public.invoices REPLICA IDENTITY FULL;
ALTER TABLE public.workspaces REPLICA IDENTITY USING INDEX workspaces_slug_key;

COMMENT ON STATISTICS public.messages_kind_and_deleted IS 'Deleted messages aren''t spread evenly';
COMMENT ON INDEX public."Attachments by Name" IS 'Prefix search, "C" order';
COMMENT ON CONSTRAINT one_huddle_per_room ON public.huddles IS 'No two huddles in a room at a time';

RESET ROLE;
