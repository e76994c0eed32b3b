"""Verification: prove what is stored and not proven yet, prove old backups again, and test the verifier itself."""
