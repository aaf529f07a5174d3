"""The WebSocket: a page subscribes to channels, and acknowledges each message before the next.

Of each subscription one message is in flight at most. The next is made once the page has said that
it is done with the one before, from what is then the newest: a slow page sees fewer messages, never
old ones, and nothing queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from typing import Any, Literal

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.dashboard.channels import CHANNELS, Answer, Channel, NowOptions, convert_options
from bridge.dashboard.hub import Hub
from bridge.dashboard.wire import encode_message
from bridge.errors import ConfigError, HeadraceError

__all__ = ["PROTOCOL", "Limits", "Session", "Subscription"]

log = logging.getLogger(__name__)

PROTOCOL = "headrace.1"
RETRY = 2.0
"""Seconds before a question that failed is asked again."""
GOODBYE = 1.0
"""Seconds that a page has to take in what was sent to it, before the server ends without."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one page may ask for.

    Attributes
    ----------
    clients
        Pages at the same time.
    subscriptions
        Of one page.
    message
        Bytes of a message from the page.
    faults
        Messages of a page that make no sense, before it is sent away.
    fastest, slowest
        Seconds between two messages of a subscription.
    """

    clients: int = 64
    subscriptions: int = 32
    message: int = 256 * 1024
    faults: int = 20
    fastest: float = 0.02
    slowest: float = 60.0


class _Word(msgspec.Struct):
    """A message from the page."""

    type: Literal["subscribe", "update", "unsubscribe", "ack", "ping"]
    id: int = 0
    channel: str = ""
    options: dict[str, Any] = {}
    every: float | None = None
    seq: int = 0
    t: Any = None


class _Gone(Exception):
    """The page is not there any more."""


_decoder = msgspec.json.Decoder(_Word)


class Subscription:
    """What is sent, and when: free of sockets and clocks.

    Parameters
    ----------
    id
        The page's number for it.
    channel
        Which.
    options
        Checked.
    every
        Seconds between two messages, at least.
    """

    def __init__(self, id: int, channel: Channel, options: NowOptions, every: float) -> None:
        self.id = id
        self.channel = channel
        self.options = options
        self.every = every
        self.cursor: Any = None
        self.seq = 0
        self.in_flight = False
        self.skipped = 0
        self.version: int | None = None
        self.sent_at = -math.inf
        self._next: Any = None
        self._mark: int | None = None
        self._stale = False

    def update(self, options: NowOptions, every: float) -> None:
        """Ask for something else: the next message replaces everything."""
        self.options, self.every = options, every
        self.cursor, self._mark, self._stale = None, None, self.in_flight
        self.version = None

    def due(self, now: float, slower: float = 1.0) -> float:
        """Return when the next message may be made, on the beat that all of this pace share.

        Parameters
        ----------
        now
            Seconds.
        slower
            Times slower than was asked for.
        """
        if self.sent_at == -math.inf:
            return now
        every = self.every * slower
        return (math.floor(self.sent_at / every) + 1) * every

    def take(self, answer: Answer, now: float) -> bool:
        """Note an answer; return whether it is to be sent."""
        self.sent_at = now
        same = answer.mark and answer.mark == self._mark
        if answer.empty or same:
            if answer.cursor is not None:
                self.cursor = answer.cursor
            return False
        self._next, self._mark = answer.cursor, answer.mark
        self.seq += 1
        self.in_flight, self._stale = True, False
        if answer.more:
            self.sent_at, self.version = -math.inf, None
        return True

    def acknowledge(self, seq: int) -> bool:
        """The page is done with a message; return whether it was the one in flight."""
        if not self.in_flight or seq != self.seq:
            return False
        self.in_flight = False
        if not self._stale:
            self.cursor = self._next
        return True


class _Running:
    """A subscription and the task that serves it.

    Attributes
    ----------
    changed
        Something else is asked for, or the next message is due.
    ready
        There may be something to send: news, or an answer to something else.
    sent_at
        When the message in flight was sent.
    """

    def __init__(self, subscription: Subscription) -> None:
        self.state = subscription
        self.changed = asyncio.Event()
        self.ready = asyncio.Event()
        self.sent_at = 0.0
        self.task: asyncio.Task[None] | None = None


class Session:
    """One page.

    Parameters
    ----------
    socket
        Not accepted yet.
    hub
        Makes the answers.
    limits
        What it may ask for.
    """

    def __init__(self, socket: WebSocket, hub: Hub, limits: Limits) -> None:
        self._socket = socket
        self._hub = hub
        self._limits = limits
        self._running: dict[int, _Running] = {}
        self._faults = 0
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Serve the page until it goes."""
        offered = self._socket.scope.get("subprotocols", [])
        await self._socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        statistics = self._hub.statistics
        if PROTOCOL not in offered:
            await self._say(0, f"This server speaks the subprotocol {PROTOCOL} alone.")
            await self._socket.close(1002)
            return
        statistics.clients += 1
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                if not await self._hear(message.get("text")):
                    break
        except (WebSocketDisconnect, RuntimeError, _Gone):
            pass
        finally:
            statistics.clients -= 1
            tasks = [r.task for r in self._running.values() if r.task is not None]
            for id in list(self._running):
                self._drop(id)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self, reason: str) -> None:
        """Say good-bye; `reason` is a short sentence."""
        # One that does not read any more, as its machine sleeps, would hold the end up forever.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(GOODBYE):
                await self._socket.close(1001, reason)

    # ------------------------------------------------------------- from the page

    async def _hear(self, text: str | None) -> bool:
        """Take one message, None for one of bytes; return whether to go on."""
        id = 0
        try:
            if text is None:
                raise ConfigError("Messages of a page are text, in JSON; one of bytes came.")
            if len(text) > self._limits.message:
                raise ConfigError(f"A message is longer than {self._limits.message} bytes.")
            try:
                word = _decoder.decode(text)
            except RecursionError as error:
                raise ConfigError("The message makes no sense: it is nested too deep.") from error
            except (msgspec.DecodeError, UnicodeError) as error:
                raise ConfigError(f"The message makes no sense: {error}.") from error
            id = word.id
            await self._obey(word)
        except ConfigError as error:
            self._faults += 1
            await self._say(id, str(error))
            if self._faults >= self._limits.faults:
                await self._socket.close(1008, "Too many messages that make no sense.")
                return False
        return True

    async def _obey(self, word: _Word) -> None:
        match word.type:
            case "subscribe":
                self._subscribe(word)
            case "update":
                running = self._find(word.id)
                state = running.state
                options = convert_options(state.channel.options, word.options)
                state.update(options, self._pace(word.every, state.every))
                self._hub.watch(running, state.channel.name, state.every)
                running.changed.set()
                if not state.in_flight:
                    running.ready.set()
            case "unsubscribe":
                self._drop(word.id)
            case "ack":
                # One for a subscription that has just ended is none of our business.
                if word.id in self._running:
                    running = self._running[word.id]
                    if running.state.acknowledge(word.seq):
                        self._note_done(running)
            case "ping":
                await self._send_text({"type": "pong", "t": word.t, "stamp": time.time()})

    def _note_done(self, running: _Running) -> None:
        """The page is done with a message: the next goes out when there is news.

        Its task sleeps on until then.
        """
        state, statistics = running.state, self._hub.statistics
        statistics.in_flight -= 1
        state.skipped = max(0, math.floor((time.monotonic() - running.sent_at) / state.every))
        statistics.skipped += state.skipped
        self._await_news(running)

    def _await_news(self, running: _Running) -> None:
        state = running.state
        if state.version is None:
            running.ready.set()
        else:
            self._hub.tell(running.ready, state.channel.of, state.version)

    def _subscribe(self, word: _Word) -> None:
        if word.id in self._running:
            raise ConfigError(f"There is a subscription {word.id} already; update it.")
        if len(self._running) >= self._limits.subscriptions:
            raise ConfigError(f"A page may have {self._limits.subscriptions} subscriptions.")
        channel = CHANNELS.get(word.channel)
        if channel is None:
            raise ConfigError(
                f"There is no channel {word.channel[:50]!r}; there are {', '.join(CHANNELS)}."
            )
        options = convert_options(channel.options, word.options)
        running = _Running(Subscription(word.id, channel, options, self._pace(word.every, 0.5)))
        self._running[word.id] = running
        self._hub.watch(running, channel.name, running.state.every)
        self._hub.statistics.subscriptions += 1
        running.task = asyncio.create_task(self._serve(running))

    def _pace(self, every: float | None, otherwise: float) -> float:
        if every is None:
            return otherwise
        if not math.isfinite(every):
            raise ConfigError("'every' is a number of seconds.")
        return min(max(every, self._limits.fastest), self._limits.slowest)

    def _find(self, id: int) -> _Running:
        if id not in self._running:
            raise ConfigError(f"There is no subscription {id}.")
        return self._running[id]

    def _drop(self, id: int) -> None:
        running = self._running.pop(id, None)
        if running is None:
            return
        self._hub.leave(running)
        self._hub.forget(running.ready)
        self._hub.statistics.subscriptions -= 1
        self._hub.statistics.in_flight -= running.state.in_flight
        if running.task is not None:
            running.task.cancel()

    # ------------------------------------------------------------- to the page

    async def _serve(self, running: _Running) -> None:
        """Send what is new, again and again; ends by being cancelled, or with the page."""
        with contextlib.suppress(_Gone):
            await self._go_on(running)

    async def _go_on(self, running: _Running) -> None:
        state, told = running.state, ""
        kinds = state.channel.of
        running.ready.set()
        while True:
            # Nothing is new as long as nothing was read of the run that the answer depends on.
            await running.ready.wait()
            running.ready.clear()
            self._hub.forget(running.ready)
            if state.in_flight:
                continue
            await self._wait(running)
            options = state.options
            version = self._hub.feed.version(kinds) if kinds else None
            try:
                answer = await self._hub.answer(
                    state.channel, options, state.cursor, fresh=state.every / 2 * self._hub.slower
                )
            except Exception as error:
                said = _describe(error)
                if said != told:
                    await self._say(state.id, said)
                told = said
                state.sent_at = time.monotonic() + max(0.0, RETRY - state.every)
                running.ready.set()
                continue
            told = ""
            if options is not state.options:
                # Something else is asked for by now.
                running.ready.set()
                continue
            state.version = version
            if state.take(answer, time.monotonic()):
                await self._deliver(running, answer)
            else:
                self._await_news(running)

    async def _wait(self, running: _Running) -> None:
        """Wait until the next message is due, or something else is asked for."""
        now = time.monotonic()
        pause = running.state.due(now, self._hub.slower) - now
        if pause > 0 and not running.changed.is_set():
            timer = asyncio.get_running_loop().call_later(pause, running.changed.set)
            try:
                await running.changed.wait()
            finally:
                timer.cancel()
        running.changed.clear()

    async def _deliver(self, running: _Running, answer: Answer) -> None:
        state, statistics = running.state, self._hub.statistics
        statistics.in_flight += 1
        running.sent_at = time.monotonic()
        message = encode_message(
            answer.body,
            subscription=state.id,
            seq=state.seq,
            stamp=time.time(),
            channel=state.channel.name,
            skipped=state.skipped,
        )
        await self._send(message)
        statistics.sent += 1
        statistics.sent_bytes += len(message)

    async def _say(self, id: int, sentence: str) -> None:
        await self._send_text({"type": "error", "id": id, "error": sentence})

    async def _send_text(self, value: dict[str, Any]) -> None:
        await self._send(msgspec.json.encode(value).decode())

    async def _send(self, message: str | bytes) -> None:
        # Subscriptions are tasks of their own; one message goes out after the other.
        async with self._sending:
            try:
                if isinstance(message, str):
                    await self._socket.send_text(message)
                else:
                    await self._socket.send_bytes(message)
            except (WebSocketDisconnect, RuntimeError, OSError) as error:
                raise _Gone from error


def _describe(error: Exception) -> str:
    if isinstance(error, HeadraceError):
        return str(error)
    log.error("A question could not be answered.", exc_info=error)
    return "The server failed to answer; its log says more."
