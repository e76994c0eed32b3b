"""The history of a source's schema in a git repository: what changed, when, and since which release."""
