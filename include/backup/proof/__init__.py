"""Proof that a backup can be restored, and that what comes back is what the dump read."""
