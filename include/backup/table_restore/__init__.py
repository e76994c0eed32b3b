"""Restore single tables out of an archive: beside what is there, or merged into it by key."""
