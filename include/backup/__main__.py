"""Start the command line: ``python -m include.backup``."""

from __future__ import annotations

import sys

from include.backup.cli.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
