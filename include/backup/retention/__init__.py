"""How long backups are kept, and what of them may go. Importing this reads the durations alone; policy needs them."""

from include.backup.retention.duration import STRATEGY_MINIMUM, Retention

__all__ = ["STRATEGY_MINIMUM", "Retention"]
