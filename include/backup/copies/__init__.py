"""The 3-2-1 report: how many copies there are, on which kinds of storage, which is off-site, and what proves each."""
