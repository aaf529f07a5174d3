"""One place where answers are made, in threads, once for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from bridge.dashboard.channels import Answer, Channel, NowOptions
from bridge.dashboard.pace import Pace

__all__ = ["Hub", "HubStatistics"]

log = logging.getLogger(__name__)

T = TypeVar("T")

KEEP = 256
"""Answers that are held to be given to others as well, at most."""


@dataclass(slots=True)
class HubStatistics:
    """What the server did so far."""

    clients: int = 0
    """Pages that are connected."""
    subscriptions: int = 0
    """Of all pages."""
    in_flight: int = 0
    """Messages that were sent and not acknowledged yet: one a subscription at most."""
    sent: int = 0
    """Messages."""
    sent_bytes: int = 0
    """Bytes of them."""
    skipped: int = 0
    """Messages that were not made, as the page had not acknowledged the one before."""
    made: int = 0
    """Answers made."""
    shared: int = 0
    """Answers that had been made for somebody else."""
    refused: int = 0
    """Requests that were turned away: wrong token, origin or host."""
    slower: float = 1.0
    """Times slower than pages ask for, since the run needs all processors."""


class Hub:
    """Asks the feed, in threads, so that the event loop stays free.

    Parameters
    ----------
    feed
        The run.
    threads
        At work at the same time.
    share
        See `bridge.dashboard.pace.Pace`.
    """

    def __init__(self, feed: Any, *, threads: int = 3, share: float = 1.0) -> None:
        self.feed = feed
        self._pace = Pace(share)
        self.statistics = HubStatistics()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="dashboard")
        # What takes long, such as a file of a thousand frames, waits for others of its kind alone.
        self._one = ThreadPoolExecutor(1, thread_name_prefix="dashboard-file")
        self._answers: dict[bytes, tuple[float, asyncio.Future[Answer]]] = {}
        self._watched: dict[object, tuple[str, float]] = {}
        self._paces: dict[str, float] = {}
        self._waiting: dict[asyncio.Event, tuple[tuple[str, ...], int]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        feed.listen(self._tell)
        feed.watch(self._paces)

    # ------------------------------------------------------------- who looks

    def watch(self, who: object, channel: str, every: float) -> None:
        """Note what somebody looks at, and how often: the run is read as often as that."""
        self._watched[who] = channel, every
        self._set_pace()

    def leave(self, who: object) -> None:
        """Somebody looks no more."""
        if self._watched.pop(who, None) is not None:
            self._set_pace()

    def _set_pace(self) -> None:
        paces: dict[str, float] = {}
        for channel, every in self._watched.values():
            paces[channel] = min(every, paces.get(channel, every))
        if paces != self._paces:
            self._paces = paces
            self.feed.watch(paces, self.slower)

    @property
    def slower(self) -> float:
        """Times slower than asked everything goes, as the run needs all processors."""
        return self._pace.factor

    def look(self) -> None:
        """See how busy the machine is; called about once a second."""
        if self._pace.look():
            self.statistics.slower = self.slower
            self.feed.watch(self._paces, self.slower)

    def tell(self, event: asyncio.Event, kinds: tuple[str, ...], version: int) -> None:
        """Set an event once the version of some kinds is another one; at once, if it is."""
        self._loop = asyncio.get_running_loop()
        # Noted first: what the reader tells of from now on is not missed.
        self._waiting[event] = kinds, version
        if self.feed.version(kinds) != version:
            self.forget(event)
            event.set()

    def forget(self, event: asyncio.Event) -> None:
        """An event need not be set any more."""
        self._waiting.pop(event, None)

    def _tell(self) -> None:
        """Tell that something was read; from the reader's thread."""
        if self._loop is not None and self._waiting:
            with contextlib.suppress(RuntimeError):  # the server has ended
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        now: dict[tuple[str, ...], int] = {}
        for event, (kinds, version) in list(self._waiting.items()):
            if kinds not in now:
                now[kinds] = self.feed.version(kinds)
            if now[kinds] != version:
                self.forget(event)
                event.set()

    # ------------------------------------------------------------- answers

    async def call(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call something that may block, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, functools.partial(function, *arguments, **named)
        )

    async def call_slow(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that takes long, one after the other."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._one, functools.partial(function, *arguments))

    async def answer(
        self, channel: Channel, options: NowOptions, cursor: Any, *, fresh: float
    ) -> Answer:
        """Return the answer to a question; one that is younger than `fresh` seconds will do."""
        key = msgspec.json.encode((channel.name, options, cursor))
        now = time.monotonic()
        known = self._answers.get(key)
        if known is not None and now - known[0] <= fresh and not _failed(known[1]):
            self.statistics.shared += 1
            return await asyncio.shield(known[1])
        self.statistics.made += 1
        future = None
        if cursor is not None or channel.brief:
            future = self._ask_at_once(channel, options, cursor)
        if future is None:
            future = asyncio.ensure_future(self.call(channel.ask, self.feed, options, cursor))
        self._answers[key] = (now, future)
        self._forget(now)
        # Others wait for it, too: it goes on when the first who asked has left.
        return await asyncio.shield(future)

    def _ask_at_once(
        self, channel: Channel, options: NowOptions, cursor: Any
    ) -> asyncio.Future[Answer] | None:
        """Ask here for what is little, as what came since: a thread that is woken is more work.

        Returns
        -------
        Future or None
            Done; None if it would have to wait for whoever reads the run.
        """
        lock = self.feed.memory.lock
        if getattr(options, "run", None) is not None or not lock.acquire(blocking=False):
            return None
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(channel.ask(self.feed, options, cursor))
        except Exception as error:
            future.set_exception(error)
        finally:
            lock.release()
        return future

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._one.shutdown(wait=False, cancel_futures=True)

    def _forget(self, now: float) -> None:
        for key, (made, future) in list(self._answers.items()):
            if future.done() and (now - made > 1.0 or len(self._answers) > KEEP):
                # Whoever waited for it has heard of its error; nobody else needs to.
                if not future.cancelled():
                    future.exception()
                del self._answers[key]


def _failed(future: asyncio.Future[Answer]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
