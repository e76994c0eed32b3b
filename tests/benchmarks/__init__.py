"""The benchmark: this project's backup and restore beside the usual ways, in one run on one machine."""
