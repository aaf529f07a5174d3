"""What the tests of the server share: a dashboard that is served, and a page that is none."""

from __future__ import annotations

import contextlib
import json
import threading
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
from websockets.sync.client import ClientConnection, connect

from bridge.dashboard.app import Dashboard
from bridge.dashboard.feed import Feed, open_feed
from bridge.dashboard.options import ServerOptions, bind
from bridge.dashboard.server import serve
from bridge.dashboard.sockets import PROTOCOL, Limits
from bridge.dashboard.wire import decode_table
from bridge.runs.dashboard_tables import AlarmTable
from bridge.staging import StagerClient
from bridge.steering import Desk

TOKEN = "a-token-of-the-tests"
FAREWELL = "The tests are over."


class Served:
    """A dashboard of what one stager holds, on a port of its own, in threads of this process."""

    def __init__(self, stager: str, limits: Limits | None = None, **options: Any) -> None:
        self.feed: Feed = open_feed(None, stager)
        self.options = ServerOptions(
            **{"token": TOKEN, "alarms": AlarmTable(lag_above=20), **options}
        )
        desk = Desk(lambda: StagerClient(stager, name="desk", timeout=20.0))
        self.dashboard = Dashboard(self.feed, desk, self.options, limits)
        self._stop = threading.Event()
        listener = bind(self.options.host, self.options.port)
        self.port: int = listener.getsockname()[1]
        self._thread = threading.Thread(
            target=serve,
            args=(self.dashboard, listener, self._stop),
            kwargs={"farewell": FAREWELL},
            name="serve",
        )
        self._thread.start()
        scheme = "https" if self.options.certificate else "http"
        self.origin = f"{scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self.feed.close()

    def stop(self) -> None:
        """End the server; waits for it."""
        self._stop.set()
        self._thread.join(60.0)
        assert not self._thread.is_alive()

    def client(self, **more: Any) -> httpx.Client:
        """Return a program that has the token."""
        headers = {"Authorization": f"Bearer {TOKEN}", **more.pop("headers", {})}
        return httpx.Client(base_url=self.origin, headers=headers, timeout=60.0, **more)

    def page(self, **more: Any) -> Page:
        """Return a page, connected."""
        return Page(self, **more)


class Page:
    """A page as the server sees it: it acknowledges when it is told to."""

    def __init__(self, served: Served, **more: Any) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._opened = contextlib.ExitStack()
        self.socket: ClientConnection = self._opened.enter_context(
            connect(
                f"ws://127.0.0.1:{served.port}/ws",
                **{
                    "subprotocols": [PROTOCOL],
                    "additional_headers": headers,
                    "max_size": None,
                    "open_timeout": 60.0,
                    "proxy": None,
                    **more,
                },
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._opened.close()

    def say(self, **word: Any) -> None:
        """Send a message."""
        self.socket.send(json.dumps(word))

    def subscribe(self, id: int, channel: str, every: float = 0.05, **options: Any) -> None:
        """Subscribe."""
        self.say(type="subscribe", id=id, channel=channel, options=options, every=every)

    def receive(self, timeout: float = 60.0) -> dict[str, Any]:
        """Return the next message; that of a table with its arrays."""
        raw = self.socket.recv(timeout)
        if isinstance(raw, str):
            word: dict[str, Any] = json.loads(raw)
            return word
        header, arrays = decode_table(raw)
        return {**header, "arrays": arrays}

    def acknowledge(self, message: dict[str, Any]) -> None:
        """Say that a message was dealt with."""
        self.say(type="ack", id=message["id"], seq=message["seq"])

    def hears_nothing(self, seconds: float = 0.4) -> bool:
        """Return whether nothing comes for a while."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False


def results(n: int, first: int = 0) -> dict[str, np.ndarray]:
    """Results of n frames."""
    x = np.arange(first, first + n, dtype=np.float64)
    return {"tica": np.stack([np.sin(x / 7), np.cos(x / 5)], axis=1), "novelty": x}
