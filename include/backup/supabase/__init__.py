"""Supabase's own backups: its Management API, and what it says of a hosted project."""
