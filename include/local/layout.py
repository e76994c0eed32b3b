"""Where the embedded stack keeps its state, and which ports it uses."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.local.errors import StackError

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
DEFAULT_PORT_BASE = 6400
PORTS_NEEDED = 5
LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders and ports of one stack; ``port_base`` tells stacks apart."""

    port_base: int
    state: Path

    @property
    def source_port(self) -> int:
        return self.port_base

    @property
    def store_port(self) -> int:
        return self.port_base + 1

    @property
    def slack_port(self) -> int:
        return self.port_base + 2

    @property
    def airflow_port(self) -> int:
        return self.port_base + 3

    @property
    def supabase_port(self) -> int:
        return self.port_base + 4

    @property
    def ports(self) -> dict[str, int]:
        """Return the port of each service.

        >>> Layout(port_base=6400, state=Path("x")).ports
        {'source': 6400, 'store': 6401, 'slack': 6402, 'airflow': 6403, 'supabase': 6404}
        """
        return {
            "source": self.source_port,
            "store": self.store_port,
            "slack": self.slack_port,
            "airflow": self.airflow_port,
            "supabase": self.supabase_port,
        }

    @property
    def tls(self) -> Path:
        return self.state / "tls"

    @property
    def ca(self) -> Path:
        return self.tls / "ca.pem"

    @property
    def certificate(self) -> Path:
        return self.tls / "server.pem"

    @property
    def key(self) -> Path:
        return self.tls / "server.key"

    @property
    def credentials(self) -> Path:
        return self.state / "secrets.json"

    @property
    def source(self) -> Path:
        return self.state / "postgres"

    @property
    def store(self) -> Path:
        return self.state / "s3"

    @property
    def airflow(self) -> Path:
        return self.state / "airflow"

    @property
    def schema_remote(self) -> Path:
        """The git remote of the schema's history: a bare repository beside everything else."""
        return self.state / "schema.git"

    @property
    def staging(self) -> Path:
        return self.state / "staging"

    @property
    def restored(self) -> Path:
        return self.state / "restored"

    @property
    def scratch(self) -> Path:
        return self.state / "scratch"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def home(self) -> Path:
        """An empty home, so that no ~/.aws, ~/.pgpass or ~/.postgresql of the user is read."""
        return self.state / "home"

    def make_folders(self) -> None:
        """Create what is missing; only the owner may look inside."""
        self.state.mkdir(parents=True, exist_ok=True)
        for folder in (self.logs, self.pids, self.home, self.staging, self.scratch, self.airflow, self.store):
            folder.mkdir(mode=0o700, exist_ok=True)


def layout_of(port_base: int, state: Path | None = None) -> Layout:
    """Return the layout for a port base; state lies below ``.local/`` unless told otherwise."""
    if not 1024 <= port_base <= LARGEST_PORT - PORTS_NEEDED:
        raise StackError(f"PORT_BASE={port_base} is out of range: 1024 to {LARGEST_PORT - PORTS_NEEDED}")
    folder = state or ROOT / ".local" / str(port_base)
    return Layout(port_base=port_base, state=folder.resolve())


def port_base_from(environ: Mapping[str, str] = os.environ) -> int:
    """Return PORT_BASE of the environment.

    >>> port_base_from({})
    6400
    """
    value = environ.get("PORT_BASE") or str(DEFAULT_PORT_BASE)
    if not value.isdigit():
        raise StackError(f"PORT_BASE={value!r} is no number; give the first of {PORTS_NEEDED} free ports")
    return int(value)
