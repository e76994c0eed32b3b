"""The write-ahead log: names, keys, the stored chain, and what can be recovered from it.

The pure part (lsn, segments, history, keys, chain, window) knows no server and no store. WAL belongs to a whole
cluster and its files repeat their names after an upgrade or on a new server, so every key begins with the cluster's
system identifier::

    incremental/<system identifier>/wal/<timeline>/<segment>.zst             a complete segment
    incremental/<system identifier>/wal/partial/<timeline>/<segment>.<end LSN>.zst   the beginning of one
    incremental/<system identifier>/wal/history/<timeline>.history           where a timeline branched off
    incremental/runs/<source>/<year>/<month>/<day>/<time>_<run>.json         what each run stored

Timelines are eight upper-case hex digits, as in a segment's name; an end LSN in a key is sixteen. An object holds one
zstd frame; its user metadata say ``length`` and ``sha256`` of what it holds, and its SHA-256 is kept by the store.

A base backup gives recovery its beginning: ``window.BasePoint``. WAL from its start on must be stored, so the slot
that holds WAL back exists before a base backup begins. A run that finds the chain broken, or no base backup behind
its end, triggers the DAG ``<source>.base_backup`` at once, and again until there is one.
"""
