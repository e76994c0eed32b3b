"""A stand-in for Supabase's Management API in a thread of the test, and a client of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from include.backup.connection_spec import Secret
from include.backup.supabase.connection import SupabaseConnection
from include.backup.supabase.project import SupabaseProject
from include.backup.supabase.transport import RateWindow, Transport
from include.local.supabase_project import StandInProject
from include.local.supabase_server import Fault, StandIn, make_server

REF = "abcdefghijklmnopqrst"
TOKEN = "sbp_secret_of_the_test"


@dataclass(kw_only=True)
class RunningApi:
    """The server's state, and how to reach it."""

    stand_in: StandIn
    project: StandInProject
    url: str

    def connection(self, token: str = TOKEN) -> SupabaseConnection:
        return SupabaseConnection(conn_id="pulse_supabase", url=self.url, token=Secret(token))

    def open(
        self,
        *,
        ref: str = REF,
        token: str = TOKEN,
        deadline_seconds: float = 20.0,
        window: RateWindow | None = None,
    ) -> SupabaseProject:
        """Return a client with a rate window of its own."""
        transport = Transport(self.connection(token), deadline_seconds=deadline_seconds, window=window or RateWindow())
        return SupabaseProject(transport, ref)

    def fail(self, **fault: Any) -> None:
        self.stand_in.faults.append(Fault(**fault))

    @property
    def asked(self) -> list[str]:
        """Method and path of each request that came."""
        return [f"{request['method']} {request['path']}" for request in self.stand_in.requests]


@contextmanager
def running_api(**project: Any) -> Iterator[RunningApi]:
    """Serve one project."""
    stand_in = StandIn(TOKEN)
    found = stand_in.add(StandInProject(ref=REF, **project))
    server = make_server(stand_in)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield RunningApi(stand_in=stand_in, project=found, url=f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
