"""Point-in-time recovery: a new server beside the source, from a base backup and the log after it."""
