"""The web server of one run: what is behind each address."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as WebRoute
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from bridge.dashboard.actions import Actions
from bridge.dashboard.alarms import Alarms, WatchedFeed
from bridge.dashboard.answers import refuse
from bridge.dashboard.api import Api
from bridge.dashboard.hub import Hub
from bridge.dashboard.options import ServerOptions
from bridge.dashboard.routes import ROUTES
from bridge.dashboard.security import Gate
from bridge.dashboard.sockets import Limits, Session
from bridge.dashboard.static import Files
from bridge.dashboard.webhook import Webhook
from bridge.errors import HeadraceError, TransportError

__all__ = ["Dashboard", "make_app"]

log = logging.getLogger(__name__)

BEAT = 1.0
"""Seconds between two looks at alarms and approvals."""


class Dashboard:
    """Everything behind the addresses.

    Parameters
    ----------
    feed
        Follows the run; `bridge.dashboard.feed.Feed`.
    desk
        Sends commands; `bridge.steering.desk.Desk`, or None where nobody can be steered.
    options
        How it is served.
    limits
        What one page may ask for.
    """

    def __init__(
        self, feed: Any, desk: Any, options: ServerOptions, limits: Limits | None = None
    ) -> None:
        self.options = options
        self.limits = limits or Limits()
        self.alarms = Alarms(options.alarms)
        self.webhook = Webhook(options.alarms) if options.alarms.webhook else None
        self.feed = WatchedFeed(feed, self.alarms)
        self.hub = Hub(self.feed, share=options.share)
        self.actions = Actions(desk)
        self._sessions: set[Session] = set()
        self._files = Files()

    def app(self) -> Starlette:
        """Return the application."""
        api = Api(self.hub, self.actions, self.options.base_path)
        routes: list[WebRoute | WebSocketRoute] = [
            WebRoute(route.path, api.endpoint(route), methods=[route.method]) for route in ROUTES
        ]
        routes += [
            WebRoute("/", self._page),
            WebRoute("/static/{name:path}", self._static),
            WebSocketRoute("/ws", self._socket),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(Gate, self.options, self.hub.statistics)],
            exception_handlers={404: _not_found, 405: _wrong_method},
            lifespan=self._live,
        )

    async def close(self, reason: str) -> None:
        """Say good-bye to all pages."""
        await asyncio.gather(*(session.close(reason) for session in list(self._sessions)))

    # ------------------------------------------------------------- addresses

    async def _page(self, request: Request) -> Response:
        return await self.hub.call(self._files.respond, request, "index.html")

    async def _static(self, request: Request) -> Response:
        # In a thread, since each is compressed when it is asked for first.
        return await self.hub.call(self._files.respond, request, request.path_params["name"])

    async def _socket(self, socket: WebSocket) -> None:
        if len(self._sessions) >= self.limits.clients:
            await socket.close(1013)
            return
        session = Session(socket, self.hub, self.limits)
        self._sessions.add(session)
        try:
            await session.serve()
        finally:
            self._sessions.discard(session)

    # ------------------------------------------------------------- in the background

    @contextlib.asynccontextmanager
    async def _live(self, app: Starlette) -> AsyncIterator[None]:
        beats = (self._look, self.actions.tick)
        tasks = [asyncio.create_task(self._repeat(beat)) for beat in beats]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.webhook is not None:
                self.webhook.close()
            self.actions.close()
            self.hub.close()

    async def _look(self) -> None:
        self.hub.look()
        changes = await self.hub.call(self.feed.look)
        if self.webhook is not None:
            for change in changes:
                self.webhook.send(change)

    async def _repeat(self, what: Any) -> None:
        """Do something about once a second; a failure is told once, and does not end it."""
        told = ""
        while True:
            try:
                await what()
                told = ""
            except Exception as error:
                if str(error) != told:
                    # That nobody listens any more is how every run ends.
                    level = logging.INFO if isinstance(error, TransportError) else logging.WARNING
                    log.log(level, "%s", error, exc_info=not isinstance(error, HeadraceError))
                told = str(error)
            await asyncio.sleep(BEAT)


def make_app(
    feed: Any, desk: Any, options: ServerOptions, limits: Limits | None = None
) -> Starlette:
    """Return the application of a run; see `Dashboard`."""
    return Dashboard(feed, desk, options, limits).app()


async def _not_found(request: Request, error: Exception) -> Response:
    return refuse(404, "There is nothing at this address; /api/openapi.json lists what there is.")


async def _wrong_method(request: Request, error: Exception) -> Response:
    return refuse(405, "This address does not take this method; see /api/openapi.json.")
