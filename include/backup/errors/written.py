"""Errors of what a person wrote: the policy, settings, connections, parameters."""

from __future__ import annotations

from include.backup.errors.root import RetryWorthlessError


class PolicyError(RetryWorthlessError):
    """Raised when the policy file is not acceptable; names the file, the line and what is allowed."""

    exit_code = 2


class SettingsError(RetryWorthlessError):
    """Raised when airflow_settings.yaml is not acceptable; names the file and the line."""

    exit_code = 2


class ConnectionDefinitionError(RetryWorthlessError):
    """Raised when a connection is missing, incomplete, or holds what is not allowed."""

    exit_code = 2


class ParameterError(RetryWorthlessError):
    """Raised when a parameter of a run or a command is not acceptable."""

    exit_code = 2


class AmbiguousChoiceError(ParameterError):
    """Raised when what a person wrote fits more than one backup; names them."""


class UnknownSourceError(ParameterError):
    """Raised when the policy has no such source."""


class UnknownTierError(ParameterError):
    """Raised when a source has no such tier."""


class HoldError(ParameterError):
    """Raised when a hold cannot be set or released as asked."""
