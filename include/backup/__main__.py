"""Start the command line: ``python -m include.backup``."""

from __future__ import annotations

import sys

from include.backup.cli.main import SIGNAL_BASE, main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before the command had its own handlers, or after
        sys.exit(SIGNAL_BASE + 2)
