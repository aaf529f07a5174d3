"""A client's conversation with one stager: requests, answers, repeats, time limits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

from bridge.errors import ConnectionLost, HeadraceError, NobodyListening, error_from_code
from bridge.staging import messages as m
from bridge.staging.rendezvous import shares_node
from bridge.transports import Channel, open_channel

__all__ = ["Session"]

REPEAT_AFTER = 3.0
"""Seconds without an answer after which a request is made again; none does a thing twice."""

R = TypeVar("R")


class Session:
    """Requests to a stager, one at a time, from one thread at a time.

    Parameters
    ----------
    address
        Where the stager listens.
    timeout
        Seconds to wait for an answer before the stager counts as lost.
    mapped
        Whether segments are mapped; None finds out whether this process shares the stager's node.
    joins
        Whether small records may come in one buffer; see `bridge.staging.messages.FetchedJoined`.

    Raises
    ------
    NobodyListening, AuthenticationFailed, VersionMismatch
        If the first exchange fails.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str = "",
        keys: Any = None,
        timeout: float = 10.0,
        mapped: bool | None = None,
        joins: bool = False,
    ) -> None:
        self.address = address
        self.name = name
        self.timeout = timeout
        self.instance = ""
        self.channel: Channel = open_channel(address, keys=keys)
        self._number = 0
        self._wanted = mapped
        self._joins = joins
        self.mapped = False
        try:
            self.hello(first=True)
        except BaseException:
            self.channel.close()
            raise

    def number(self) -> int:
        """Return the next request's number."""
        self._number += 1
        return self._number

    def hello(self, *, first: bool = False) -> bool:
        """Introduce the client; true if the stager is another one than before."""
        request = m.Hello(self.number(), self.name)
        end = time.monotonic() + self.timeout
        while True:
            self.channel.send([m.encode(request)])
            reply = self._answer(request.request, min(end, time.monotonic() + REPEAT_AFTER), end)
            if reply is not None:
                break
            if time.monotonic() >= end:
                self._give_up(first)
        welcome = _expect(reply[0], m.Welcome)
        if self._joins:
            # A stager of an earlier release refuses that, and nobody listens.
            self.channel.send([m.encode(m.TakeJoined(0))])
        before, self.instance = self.instance, welcome.instance
        self.mapped = (
            bool(welcome.probe_path) and shares_node(welcome.probe_path, welcome.probe_nonce)
            if self._wanted is None
            else self._wanted
        )
        return before != welcome.instance

    def _give_up(self, first: bool) -> None:
        problem = self.channel.problem()
        if problem is not None:
            raise problem
        if first:
            raise NobodyListening(
                f"Waited {self.timeout:.0f} s for a stager at {self.address}; nobody answered. "
                "Start one with 'headrace stage', or check the address."
            )
        raise ConnectionLost(
            f"The stager at {self.address} has not answered for {self.timeout:.0f} s; it may have "
            "ended, or the way to it is cut."
        )

    def ask(
        self,
        request: m.Request,
        kind: type[R],
        buffers: Sequence[Any] = (),
        *,
        wait: float = 0.0,
    ) -> tuple[R, list[memoryview]]:
        """Make a request and return its answer.

        Parameters
        ----------
        kind
            The answer that is expected.
        wait
            Seconds that the stager may take on purpose, besides the session's time limit.

        Raises
        ------
        HeadraceError
            What the stager refused with; `ConnectionLost` if it does not answer.
        """
        end = time.monotonic() + self.timeout + wait
        while True:
            self.channel.send([m.encode(request), *buffers])
            patience = min(end, time.monotonic() + REPEAT_AFTER + wait)
            reply = self._answer(request.request, patience, end)
            if reply is None:
                if time.monotonic() >= end:
                    self._give_up(False)
                self.on_repeat(request)
                continue
            head = reply[0]
            if isinstance(head, m.Refused) and head.code == "NotIntroduced":
                if self.hello():
                    self.on_new_stager(request)
                continue
            return _expect(head, kind), reply[1]

    def on_repeat(self, request: m.Request) -> None:
        """A request is about to be made again: its answer may have been lost."""
        if isinstance(request, m.Fetch):
            request.fresh = True

    def on_new_stager(self, request: m.Request) -> None:
        """The stager was started anew: it knows nothing of earlier hand-outs."""
        if isinstance(request, m.Fetch):
            request.fresh = True
            request.released = 0

    def _answer(
        self, number: int, until: float, end: float
    ) -> tuple[m.Reply, list[memoryview]] | None:
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return None
            parts = self.channel.receive(left)
            if parts is None:
                problem = self.channel.problem()
                if problem is not None:
                    raise problem
                continue
            reply = m.decode_reply(parts[0])
            if reply.request == number:
                return reply, parts[1:]

    def close(self) -> None:
        """Say goodbye and close; never waits for an answer."""
        try:
            self.channel.send([m.encode(m.Bye(self.number()))])
        except HeadraceError:
            pass
        finally:
            self.channel.close()


def _expect(reply: m.Reply, kind: type[R]) -> R:
    if isinstance(reply, m.Refused):
        raise error_from_code(reply.code, reply.message)
    if not isinstance(reply, kind):
        raise error_from_code(
            "ProtocolError", f"{kind.__name__} was expected; {type(reply).__name__} came."
        )
    return reply
