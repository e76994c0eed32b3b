"""Serve the embedded object store on one port, until SIGTERM; then its state is written.

Neither of ministack's own ways fits: its command also binds port 443 when it may, and the hypercorn
command serves from a child that SIGTERM does not end in good order.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import os

from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.app import app  # type: ignore[import-untyped]

from include.local.layout import HOST

# A client that keeps its connection open and answers no TLS shutdown would hold up the end for 30 s.
SHUTDOWN_SECONDS = 1.0


def server_config(port: str, certificate: str, key: str) -> Config:
    """Return one TLS listener on the loopback address."""
    config = Config()
    config.bind = [f"{HOST}:{port}"]
    config.certfile = certificate
    config.keyfile = key
    config.keep_alive_timeout = 75
    config.loglevel = "INFO"
    return config


def main() -> None:
    """Serve until a signal asks to end."""
    config = server_config(
        os.environ["GATEWAY_PORT"], os.environ["MINISTACK_SSL_CERT"], os.environ["MINISTACK_SSL_KEY"]
    )
    asyncio.constants.SSL_SHUTDOWN_TIMEOUT = SHUTDOWN_SECONDS
    asyncio.run(serve(app, config))


if __name__ == "__main__":
    main()
