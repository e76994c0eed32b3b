"""Base backups: a cluster's files as they are, from which its log goes on to any point in time."""
