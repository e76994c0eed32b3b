"""How long backups are kept, and what of them may go. Importing this reads the durations alone; policy needs them."""

from include.backup.retention.duration import STRATEGY_MINIMUM, Retention
from include.backup.retention.thinning import Dated, Thinning, thinned_out

__all__ = ["STRATEGY_MINIMUM", "Dated", "Retention", "Thinning", "thinned_out"]
