-- One replication slot; safe_wal_size is NULL without max_slot_wal_keep_size, and for a lost slot.
SELECT s.slot_name, s.slot_type, s.active, s.active_pid, s.restart_lsn, s.wal_status, s.safe_wal_size
  FROM pg_catalog.pg_replication_slots s
 WHERE s.slot_name = %(name)s;
