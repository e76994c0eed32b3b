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
from include.backup.policy.restore import ApprovalPolicy, RestorePolicy, RestoreServer, ThawPolicy

__all__ = [
    "PROJECT",
    "SCHEMA_FILE",
    "SHIPPED_POLICY",
    "ApprovalPolicy",
    "EncryptionPolicy",
    "Policy",
    "ProofPolicy",
    "RestorePolicy",
    "RestoreServer",
    "Schedule",
    "SlackPolicy",
    "SourcePolicy",
    "StorePolicy",
    "ThawPolicy",
    "TierPolicy",
    "Timeouts",
    "load_policy",
    "policy_path",
]
