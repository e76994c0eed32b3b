"""Attachments: the objects of the source's own buckets, archived with the database as one recovery point."""
