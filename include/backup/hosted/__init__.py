"""Restore into a hosted Supabase project: add what is ours to what the provider has made, with an ordinary role."""
