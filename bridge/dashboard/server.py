"""Serving until somebody says stop: the socket, encryption, and an end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import uvicorn

from bridge.dashboard.app import Dashboard
from bridge.dashboard.options import make_context

__all__ = ["serve"]

log = logging.getLogger(__name__)

GRACE = 3
"""Seconds that requests have to end once the server is to end."""
SILENCE = 20.0
"""Seconds between two questions whether a page is still there, and to wait for the answer."""


class _Server(uvicorn.Server):
    """One that leaves signals to those who started it, and sleeps while nobody asks anything."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._over = asyncio.Event()

    def end(self) -> None:
        """End in good order."""
        self.should_exit = True
        self._over.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def main_loop(self) -> None:
        """Go on until the end; what uvicorn does once a second is done, but it looks no oftener."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as ever, and cut off those who have not taken in what was sent to them."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


def serve(
    dashboard: Dashboard, listener: socket.socket, stop: threading.Event, *, farewell: str = ""
) -> None:
    """Serve until `stop` is set; blocks.

    Parameters
    ----------
    dashboard
        What to serve.
    listener
        Bound and listening; closed at the end.
    stop
        Set by a signal's thread, or a handler.
    farewell
        Sentence that pages are told at the end, of at most 120 bytes.

    Raises
    ------
    ConfigError
        If the certificate or its key cannot be used.
    """
    options = dashboard.options
    files = {}
    if options.certificate:
        # Tried first, since what is wrong with it is said in a sentence here.
        make_context(options.certificate, options.key)
        files = {"ssl_certfile": options.certificate, "ssl_keyfile": options.key or None}
    config = uvicorn.Config(
        dashboard.app(),
        log_config=None,
        access_log=False,
        server_header=False,
        # Nothing here depends on who asks; the address of a client is not looked at.
        proxy_headers=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=dashboard.limits.message,
        ws_max_queue=16,
        ws_ping_interval=SILENCE,
        ws_ping_timeout=SILENCE,
        # Numbers do not shrink much, and on one machine it costs more than it saves.
        ws_per_message_deflate=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=512,
        **files,  # type: ignore[arg-type]
    )

    over = threading.Event()

    async def run() -> None:
        server, told = _Server(config), asyncio.Event()
        ending = asyncio.create_task(end(server, told))
        loop = asyncio.get_running_loop()
        # A thread waits: a loop that looks again and again wakes a machine that is busy otherwise.
        threading.Thread(target=wait, args=(loop, told), name="dashboard-end", daemon=True).start()
        try:
            await server.serve(sockets=[listener])
        finally:
            over.set()
            ending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ending

    def wait(loop: asyncio.AbstractEventLoop, told: asyncio.Event) -> None:
        while not stop.wait(1.0):
            if over.is_set():
                return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(told.set)

    async def end(server: _Server, told: asyncio.Event) -> None:
        await told.wait()
        await dashboard.close(farewell)
        server.end()

    try:
        asyncio.run(run())
    finally:
        listener.close()
