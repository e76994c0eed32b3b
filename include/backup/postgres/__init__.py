"""PostgreSQL: its tools, servers, sessions, locks and dump format."""
