"""The policy: which databases are protected, how often, for how long. Typed, and strict when it is read."""

from include.backup.policy.load import PROJECT, SCHEMA_FILE, SHIPPED_POLICY, load_policy, policy_path
from include.backup.policy.model import (
    EncryptionPolicy,
    Policy,
    ProofPolicy,
    Schedule,
    SlackPolicy,
    SourcePolicy,
    StorePolicy,
    TierPolicy,
    Timeouts,
)

__all__ = [
    "PROJECT",
    "SCHEMA_FILE",
    "SHIPPED_POLICY",
    "EncryptionPolicy",
    "Policy",
    "ProofPolicy",
    "Schedule",
    "SlackPolicy",
    "SourcePolicy",
    "StorePolicy",
    "TierPolicy",
    "Timeouts",
    "load_policy",
    "policy_path",
]
