"""Restore a backup into a database beside the source."""
