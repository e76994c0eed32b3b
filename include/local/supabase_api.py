"""The embedded stand-in for Supabase's Management API: one project, which the shipped policy names."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from typing import Any

from include.local import ports
from include.local.credentials import load_credentials
from include.local.environment import service_environment
from include.local.errors import ServiceFailedError
from include.local.layout import HOST, Layout
from include.local.processes import wait_until
from include.local.service import Program, Service
from include.local.supabase_project import StandInProject
from include.local.supabase_server import StandIn, make_server

PROJECT_REF = "pulsemessagesdemoref"
START_SECONDS = 30.0


class SupabaseApi:
    """The stand-in of one stack, and how a test tells it what to answer."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.url = f"http://{HOST}:{layout.supabase_port}"

    def service(self) -> Service:
        environment = {
            **service_environment(self._layout),
            "SUPABASE_PORT": str(self._layout.supabase_port),
            "SUPABASE_TOKEN": self.token,
        }
        argv = (sys.executable, "-m", "include.local.supabase_api")
        return Service(self._layout, Program(name="supabase", argv=argv, environment=environment))

    @property
    def token(self) -> str:
        return load_credentials(self._layout.credentials).supabase_token

    def start(self) -> bool:
        """Start the server; return whether this call started it."""
        service = self.service()
        if service.running():
            return False
        service.stop()
        ports.require_free("supabase", self._layout.supabase_port)
        service.start()

        def answered() -> bool:
            service.require_running()
            return self.healthy()

        if not wait_until(answered, START_SECONDS):
            raise ServiceFailedError(f"the stand-in for Supabase's API does not answer; {service.log_tail()}")
        return True

    def healthy(self) -> bool:
        return ports.answers(self._layout.supabase_port)

    def change(self, **fields: Any) -> None:
        """Set fields of the project, such as ``backups`` or ``pitr_enabled``; None of ``backups`` is the default."""
        self._control("PATCH", f"projects/{PROJECT_REF}", fields)

    def fail(self, **fault: Any) -> None:
        """Add a fault: ``status``, and what ``Fault`` has besides."""
        self._control("POST", "faults", fault)

    def forget_faults(self) -> None:
        """Answer as usual again."""
        self._control("DELETE", "faults", None)

    def requests(self) -> list[dict[str, Any]]:
        """Return what was asked, oldest first."""
        found: list[dict[str, Any]] = self._control("GET", "requests", None)
        return found

    def _control(self, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is our own
            f"{self.url}/stand-in/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.loads(answer.read())


def main() -> None:
    """Answer until SIGTERM."""
    stand_in = StandIn(os.environ["SUPABASE_TOKEN"])
    stand_in.add(StandInProject(ref=PROJECT_REF))
    make_server(stand_in, int(os.environ["SUPABASE_PORT"])).serve_forever()


if __name__ == "__main__":
    main()
