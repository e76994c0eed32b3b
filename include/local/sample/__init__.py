"""The sample database: a Supabase-shaped "Pulse Messages", the same for the same seed."""

from __future__ import annotations

from include.local.sample.amounts import DEFAULT_SEED, SampleAmounts, sample_amounts
from include.local.sample.loader import BACKUP_ROLE, SampleError, load_sample, replace_database
from include.local.sample.summary import SampleSummary, sample_is_loaded, summarise_sample

__all__ = [
    "BACKUP_ROLE",
    "DEFAULT_SEED",
    "SampleAmounts",
    "SampleError",
    "SampleSummary",
    "load_sample",
    "replace_database",
    "sample_amounts",
    "sample_is_loaded",
    "summarise_sample",
]
