"""A TCP proxy on loopback that delays, cuts, holds back or closes what passes through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
START_SECONDS = 10.0
# Close with RST instead of FIN, as a crashed peer's kernel or a firewall does.
LINGER_RESET = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    """Where bytes flow."""

    TO_CLIENT = "to_client"
    TO_SERVER = "to_server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the proxy does to connections, those that are open included.

    ``cut_after_bytes`` counts each connection's bytes in the direction ``cut``; exactly so many pass, then both
    sides are closed (with ``reset`` by RST, which may swallow some of the last bytes). ``blackhole`` accepts
    connections and lets nothing through until it is lifted; ``refuse`` closes new connections at once.
    """

    delay_seconds: float = 0.0
    cut_after_bytes: int | None = None
    cut: Direction = Direction.TO_CLIENT
    reset: bool = False
    blackhole: bool = False
    refuse: bool = False


class TcpProxy:
    """Forward connections to one server; a context manager that gives itself, with ``port`` to connect to."""

    def __init__(self, host: str, port: int, fault: Fault | None = None) -> None:
        self._target = (host, port)
        self._fault = fault or Fault()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._flowing = asyncio.Event()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.accepted = 0
        self.passed = dict.fromkeys(Direction, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        """Change what goes wrong from now on; holds for open connections too once this returns."""
        self._call(self._apply(fault))

    def open_connections(self) -> int:
        """Return how many connections are open now."""
        return len(self._links)

    def close_connections(self, *, reset: bool = False) -> None:
        """Close every open connection; new ones are accepted as before."""
        self._call(self._close_links(reset))

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_SECONDS)

    async def _start(self) -> None:
        await self._apply(self._fault)
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._close_links(reset=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _apply(self, fault: Fault) -> None:
        self._fault = fault
        if fault.blackhole:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def _close_links(self, reset: bool) -> None:
        for link in list(self._links):
            link.close(reset=reset)
            self._links.discard(link)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._fault.refuse:
            _close(writer, reset=True)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
        except OSError:
            # The server is down: the client sees what it would see without us, a connection that ends.
            _close(writer, reset=True)
            return
        link = _Link(client=writer, server=server_writer)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, reader, server_writer, Direction.TO_SERVER))
                pumps.create_task(self._pump(link, server_reader, writer, Direction.TO_CLIENT))
        finally:
            link.close(reset=False)
            self._links.discard(link)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                fault = self._fault
                if fault.delay_seconds:
                    await asyncio.sleep(fault.delay_seconds)
                limit = fault.cut_after_bytes if fault.cut is direction else None
                allowed = data if limit is None else data[: max(0, limit - passed)]
                writer.write(allowed)
                await writer.drain()
                passed += len(allowed)
                self.passed[direction] += len(allowed)
                if limit is not None and passed >= limit:
                    link.close(reset=fault.reset)
                    return
            await self._flowing.wait()
            writer.write_eof()
        except ConnectionError:
            link.close(reset=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Link:
    """Both ends of one connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def close(self, *, reset: bool) -> None:
        _close(self.client, reset=reset)
        _close(self.server, reset=reset)


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        raw = writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        writer.transport.abort()
    else:
        writer.close()
