"""Keep the user's own Airflow, AWS and PostgreSQL settings out of the stack."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from include.local.layout import ROOT, Layout

KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR")
FOREIGN_PREFIXES = ("AIRFLOW", "AWS_", "PG", "BOTO")


def service_environment(layout: Layout, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what every program of the stack starts from: nothing of the user's but path and language."""
    kept = {name: environ[name] for name in KEPT if name in environ}
    programs = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join([programs, kept.get("PATH", os.defpath)]),
        "HOME": str(layout.home),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def forget_foreign_settings(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove settings of other programs from this process, where libpq and boto3 would read them.

    >>> variables = {"PGHOST": "production", "AWS_PROFILE": "work", "LANG": "C"}
    >>> forget_foreign_settings(variables)
    >>> variables
    {'LANG': 'C'}
    """
    for name in [name for name in environ if name.startswith(FOREIGN_PREFIXES)]:
        del environ[name]
