"""What people may do: settle approvals, send commands, pause and stop everything.

The desk decides, not the page. A key that comes twice has one effect and one answer, also where
the two come at the same time.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import msgspec
import xxhash
from starlette.requests import Request

from bridge.commands import CommandKind, FrameReference
from bridge.errors import CommandRefused, ConfigError, SteeringError

__all__ = ["Actions", "AllBody", "ApprovalBody", "CommandBody", "FrameBody", "Once"]

LARGEST = 64 * 1024
"""Bytes of a request."""
KEEP = 2000
"""Keys whose answers are kept."""
GOODBYE = 1.0
"""Seconds that the desk has to end what it is at."""

Text = Annotated[str, msgspec.Meta(max_length=2000)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all have.

    Attributes
    ----------
    reason
        Why, as a sentence for people.
    author
        Who; the dashboard is named in any case.
    """

    reason: Text = ""
    author: Annotated[str, msgspec.Meta(max_length=100)] = ""

    @property
    def by(self) -> str:
        """The author, for the ledger."""
        name = " ".join(self.author.split())
        return f"{name} (dashboard)" if name else "dashboard"


class ApprovalBody(_Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settles an approval.

    Attributes
    ----------
    verdict
        Approve it or deny it.
    """

    verdict: Literal["approve", "deny"]


class FrameBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frame.

    Attributes
    ----------
    simulation
        Whose.
    offset
        Position in its stream.
    """

    simulation: Name
    offset: Annotated[int, msgspec.Meta(ge=0)]


class CommandBody(_Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command, within the bounds that the simulation declares.

    Attributes
    ----------
    kind
        What to do.
    simulation
        Whom it is for.
    parameter, value
        For ``set`` and ``interval``.
    frame
        For ``restart``.
    velocities
        For ``restart``: keep those of the frame, or redraw them.
    """

    kind: CommandKind
    simulation: Name
    parameter: Annotated[str, msgspec.Meta(max_length=200)] = ""
    value: float | None = None
    frame: FrameBody | None = None
    velocities: Literal["keep", "redraw"] = "redraw"


class AllBody(_Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command to all simulations.

    Attributes
    ----------
    kind
        What to do.
    confirm
        Must be true.
    """

    kind: Literal["pause", "resume", "stop"]
    confirm: bool = False


class Conflict(SteeringError):
    """The same key came with something else."""


class Once:
    """Answers by key: whoever comes second with a key gets the answer of the first."""

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._answers: OrderedDict[str, tuple[int, asyncio.Future[Any]]] = OrderedDict()

    async def do(self, key: str, what: bytes, act: Callable[[], Awaitable[Any]]) -> Any:
        """Do something unless it was done.

        Parameters
        ----------
        key
            The key.
        what
            What is to be done; must be the same each time.
        act
            Does it. An attempt that failed may be repeated with the same key.

        Raises
        ------
        SteeringError
            If the key came with something else before.
        """
        digest = xxhash.xxh3_64_intdigest(what)
        known = self._answers.get(key)
        if known is None:
            future: asyncio.Future[Any] = asyncio.ensure_future(act())
            self._answers[key] = (digest, future)
            future.add_done_callback(lambda done: self._forget_failure(key, done))
            while len(self._answers) > self._keep:
                self._answers.popitem(last=False)
        elif known[0] != digest:
            raise Conflict(
                "This Idempotency-Key was used for something else before; take a new one."
            )
        else:
            future = known[1]
        # It is carried out to its end, also where who asked has left.
        return await asyncio.shield(future)

    def _forget_failure(self, key: str, done: asyncio.Future[Any]) -> None:
        failed = done.cancelled() or done.exception() is not None
        if failed and self._answers.get(key, (0, None))[1] is done:
            del self._answers[key]


def read_key(request: Request) -> str:
    """Return the key of a request.

    Raises
    ------
    ConfigError
        If it is missing or unfit.
    """
    key = request.headers.get("idempotency-key", "")
    if not 8 <= len(key) <= 128 or not key.isprintable() or " " in key:
        raise ConfigError(
            "The header 'Idempotency-Key' is missing or unfit: it has 8 to 128 letters, and is the "
            "same when the same action is tried again."
        )
    return key


async def read_body(request: Request, kind: type[Any]) -> tuple[Any, bytes]:
    """Read the JSON of a request.

    Returns
    -------
    body, raw
        As an object, and as it came.

    Raises
    ------
    ConfigError
        If it is too long, is not JSON, or does not fit.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ConfigError("The content of this request must be application/json.")
    raw = b""
    async for piece in request.stream():
        raw += piece
        if len(raw) > LARGEST:
            raise ConfigError(f"The request is longer than {LARGEST} bytes.")
    try:
        return msgspec.json.decode(raw, type=kind), raw
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(f"The request does not fit: {error}.") from error


class Actions:
    """The three requests that change something.

    Parameters
    ----------
    desk
        Decides, and sends; None where the run cannot be steered.
    """

    def __init__(self, desk: Any) -> None:
        self._desk = desk
        # Threads of its own: what waits for the stager must not hold up those who only look.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="dashboard-desk")
        self._once = Once()

    async def approve(self, request: Request) -> Any:
        """Settle an approval."""
        key = read_key(request)
        body, raw = await read_body(request, ApprovalBody)
        command = request.path_params["command"]
        desk = self._need_desk()
        return await self._do(
            key, request, raw, desk.decide, command, body.verdict,
            author=body.by, reason=body.reason, key=key,
        )  # fmt: skip

    async def command(self, request: Request) -> Any:
        """Send a command."""
        key = read_key(request)
        body, raw = await read_body(request, CommandBody)
        desk = self._need_desk()
        fields = {
            "parameter": body.parameter,
            "value": body.value,
            "frame": body.frame and FrameReference(body.frame.simulation, body.frame.offset),
            "velocities": body.velocities,
            "author": body.by,
            "reason": body.reason,
            "key": key,
        }
        return await self._do(key, request, raw, desk.send, body.kind, body.simulation, **fields)

    async def all(self, request: Request) -> Any:
        """Send a command to all."""
        key = read_key(request)
        body, raw = await read_body(request, AllBody)
        if not body.confirm:
            raise CommandRefused(f'To {body.kind} all simulations, say "confirm": true.')
        desk = self._need_desk()
        return await self._do(
            key, request, raw, desk.all, body.kind, author=body.by, reason=body.reason, key=key
        )

    async def tick(self) -> None:
        """Let time pass for the desk: approvals that nobody settled take their default."""
        if self._desk is not None:
            await self._call(self._desk.tick, time.time())

    def close(self) -> None:
        """Let the threads end; waits a second at most."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._desk is not None:
            # A stager that is gone keeps the desk waiting, and what was recorded is saved after us.
            closing = threading.Thread(target=self._close_desk, name="desk-close", daemon=True)
            closing.start()
            closing.join(GOODBYE)

    def _close_desk(self) -> None:
        # What has begun may come to the desk only now, and would connect anew.
        self._threads.shutdown(wait=True)
        self._desk.close()

    async def _call(self, act: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, functools.partial(act, *arguments, **named)
        )

    def _need_desk(self) -> Any:
        if self._desk is None:
            raise SteeringError("The run is over, or is shown without a stager: nobody listens.")
        return self._desk

    async def _do(
        self,
        key: str,
        request: Request,
        raw: bytes,
        act: Callable[..., Any],
        /,
        *arguments: Any,
        **named: Any,
    ) -> Any:
        what = request.url.path.encode() + b"\n" + raw
        return await self._once.do(key, what, lambda: self._call(act, *arguments, **named))
