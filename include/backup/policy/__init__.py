"""The policy: which databases are protected, how often, for how long. Typed, and strict when it is read."""

from include.backup.policy.incremental import IncrementalPolicy, WalTimeouts
from include.backup.policy.load import PROJECT, SCHEMA_FILE, SHIPPED_POLICY, load_policy, policy_path
from include.backup.policy.model import (
    EncryptionPolicy,
    Policy,
    ProofPolicy,
    SlackPolicy,
    SourcePolicy,
    StorePolicy,
    TierPolicy,
    Timeouts,
)
from include.backup.policy.restore import ApprovalPolicy, RestorePolicy, RestoreServer, ThawPolicy
from include.backup.policy.schedule import Schedule
from include.backup.policy.schema_backup import SchemaBackupPolicy

__all__ = [
    "PROJECT",
    "SCHEMA_FILE",
    "SHIPPED_POLICY",
    "ApprovalPolicy",
    "EncryptionPolicy",
    "IncrementalPolicy",
    "Policy",
    "ProofPolicy",
    "RestorePolicy",
    "RestoreServer",
    "Schedule",
    "SchemaBackupPolicy",
    "SlackPolicy",
    "SourcePolicy",
    "StorePolicy",
    "ThawPolicy",
    "TierPolicy",
    "Timeouts",
    "WalTimeouts",
    "load_policy",
    "policy_path",
]
