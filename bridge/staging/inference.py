"""Requests of simulations to models, and their replies, as records of the log.

A request is a record of the topic ``requests/<service>``, its reply one of
``replies/<asker>``; both are states as `bridge.codec.encode_state` writes them:

=========  =====================================================================================
request    ``id`` (text, unique), ``asker``, ``rows`` (n), ``stamp`` (Unix time in seconds),
           ``limit`` (seconds that the asker waits), and the inputs, each under ``x/<name>``,
           their first axis of n rows
reply      ``id``, ``version`` (int), ``reason`` (text), ``valid`` (n, bool), and the outputs,
           each under ``y/<name>``; without ``valid`` there is no answer, and ``reason`` says why
=========  =====================================================================================

Whatever waits when the service looks is answered in one call of the model, whichever ranks and
simulations it is from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from bridge.codec import decode_state, encode_state
from bridge.errors import CorruptData, HeadraceError, ProtocolError, SchemaError, StreamFull
from bridge.schema import check_name
from bridge.staging.client_like import ClientLike
from bridge.staging.messages import StreamOptions
from bridge.surrogate import Inferred, ServiceStatistics, Surrogate

__all__ = ["InferenceClient", "InferenceService", "Pending"]

Array = npt.NDArray[Any]

REQUESTS, REPLIES = "requests/", "replies/"
_OPTIONS = StreamOptions(when_full="block", capacity=1 << 30, keep=0)
_REPLY_OPTIONS = StreamOptions(when_full="drop_oldest", capacity=1 << 30, keep=0)
_OPEN = 1024  # requests of one client whose replies nobody has fetched
_POLL = 0.25  # seconds that a service waits at most, so that it hears when to end
_KINDS = "biufc"


class Pending:
    """A request on its way; the simulation may compute meanwhile."""

    def __init__(
        self, client: InferenceClient, request: str, rows: int, deadline: float, failed: str = ""
    ) -> None:
        self._client = client
        self._request = request
        self._deadline = deadline
        self._rows = rows
        self._result = Inferred.nothing(rows, failed) if failed else None

    def result(self) -> Inferred:
        """Wait for the reply, within the time limit; where there is none, no row is valid."""
        if self._result is None:
            self._result = self._client._await(self._request, self._rows, self._deadline)
        return self._result


class InferenceClient:
    """Asks models for one simulation, or one of its ranks; one thread uses it.

    Parameters
    ----------
    client
        To the stager; used by nobody else, and not closed.
    asker
        A name of its own: the simulation's, with the rank where there are several.
    timeout
        Seconds to wait for a reply.
    retry
        After a request without a reply, the next ones fail at once for this many seconds, so that
        a service that is away costs a simulation little.
    """

    def __init__(
        self, client: ClientLike, asker: str, *, timeout: float = 2.0, retry: float = 5.0
    ) -> None:
        self._client = client
        self._asker = check_name(asker, "asker")
        self._topic = REPLIES + asker
        self._timeout = timeout
        self._retry = retry
        self._life = uuid4().hex[:12]
        self._count = 0
        self._position = -1
        self._arrived: dict[str, dict[str, Any]] = {}
        self._open: dict[str, str] = {}
        self._away: dict[str, float] = {}
        self.unanswered = 0

    def infer(
        self, service: str, inputs: Mapping[str, Any], *, timeout: float | None = None
    ) -> Inferred:
        """Ask, and wait for the reply; see `submit`."""
        return self.submit(service, inputs, timeout=timeout).result()

    def submit(
        self, service: str, inputs: Mapping[str, Any], *, timeout: float | None = None
    ) -> Pending:
        """Send a request.

        Parameters
        ----------
        service
            Name of the service.
        inputs
            Name to an array; the first axis of all has the same n rows.
        timeout
            Seconds to wait for the reply; the client's by default.

        Raises
        ------
        SchemaError
            If arrays are missing, or have different numbers of rows, or no numbers.
        ConnectionLost
            If the stager is away.
        """
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        rows = _rows_of(arrays, service)
        limit = self._timeout if timeout is None else timeout
        if time.monotonic() < self._away.get(service, 0.0):
            why = f"The service {service!r} did not answer lately; it is asked again later."
            return Pending(self, "", rows, 0.0, why)
        self._begin()
        self._count += 1
        request = f"{self._life}-{self._count}"
        record = encode_state(
            {
                "id": request,
                "asker": self._asker,
                "rows": rows,
                "stamp": time.time(),
                "limit": limit,
                **{f"x/{name}": a for name, a in arrays.items()},
            }
        )
        try:
            self._client.append(
                REQUESTS + check_name(service, "service"), [record], options=_OPTIONS
            )
        except StreamFull as error:
            self._give_up(service)
            return Pending(self, "", rows, 0.0, f"The service {service!r} is behind: {error}")
        self._open[request] = service
        while len(self._open) > _OPEN:
            self._forget(next(iter(self._open)))
        return Pending(self, request, rows, time.monotonic() + limit)

    def _begin(self) -> None:
        """Read from the end of what earlier lives of the asker were told."""
        if self._position < 0:
            self._position = self._client.append(self._topic, [], options=_REPLY_OPTIONS).offset

    def _await(self, request: str, rows: int, deadline: float) -> Inferred:
        service = self._open.get(request)
        if service is None:
            return Inferred.nothing(rows, "Too many requests were sent since, without a reply.")
        while request not in self._arrived:
            left = deadline - time.monotonic()
            if left <= 0:
                self._give_up(service)
                self._forget(request)
                return Inferred.nothing(
                    rows, f"The service {service!r} did not answer in time; is it running?"
                )
            self._fetch(left)
        told = self._arrived[request]
        self._forget(request)
        self._away.pop(service, None)
        return _unpack(told, rows)

    def _fetch(self, wait: float) -> None:
        group = f"asker.{self._asker}"
        with self._client.fetch(
            {self._topic: self._position},
            group=group,
            commit={self._topic: self._position},
            wait=wait,
        ) as got:
            for record in got.records:
                reply = decode_state(record.data)
                if reply.get("id") in self._open:
                    self._arrived[reply["id"]] = reply
            self._position = got.positions.get(self._topic, self._position)

    def _give_up(self, service: str) -> None:
        self.unanswered += 1
        self._away[service] = time.monotonic() + self._retry

    def _forget(self, request: str) -> None:
        self._open.pop(request, None)
        self._arrived.pop(request, None)


def _rows_of(arrays: Mapping[str, Array], service: str) -> int:
    counts = {name: a.shape[0] if a.ndim else -1 for name, a in arrays.items()}
    if len(set(counts.values())) != 1 or min(counts.values()) < 1:
        raise SchemaError(
            f"A request to {service!r} needs arrays whose first axes have the same number of "
            f"rows, at least one; they have {counts or 'no arrays at all'}."
        )
    for name, a in arrays.items():
        if a.dtype.kind not in _KINDS:
            raise SchemaError(
                f"The array {name!r} of a request to {service!r} has dtype {a.dtype}; it must "
                "hold numbers."
            )
    return next(iter(counts.values()))


def _unpack(reply: Mapping[str, Any], rows: int) -> Inferred:
    valid, reason = reply.get("valid"), str(reply.get("reason", ""))
    if valid is None:
        return Inferred.nothing(rows, reason or "The service gave no answer, and no reason.")
    values = {k.removeprefix("y/"): v for k, v in reply.items() if k.startswith("y/")}
    shapes = [v.shape for v in (valid, *values.values()) if not v.ndim or v.shape[0] != rows]
    if shapes:
        raise ProtocolError(f"A reply has arrays of the shapes {shapes}, and not {rows} rows.")
    return Inferred(values, valid.astype(np.bool_), int(reply.get("version", 0)), reason)


@dataclass(slots=True)
class _Asked:
    id: str
    asker: str
    rows: int
    inputs: dict[str, Array]


class InferenceService:
    """Answers the requests to one service, together where they come together.

    Parameters
    ----------
    client
        To the stager.
    name
        Of the service.
    surrogate
        What answers.
    max_rows
        Of one call of the model; more are cut.
    """

    def __init__(
        self, client: ClientLike, name: str, surrogate: Surrogate, *, max_rows: int = 1 << 20
    ) -> None:
        self._client = client
        self.name = check_name(name, "service")
        self._topic = REQUESTS + name
        self._group = f"service.{name}"
        self._surrogate = surrogate
        self._max_rows = max_rows
        self._position = -1
        self.statistics = ServiceStatistics()

    def run(self, until: Callable[[], bool]) -> ServiceStatistics:
        """Answer until told to end."""
        while not until():
            self.step(_POLL)
        return self.statistics

    def step(self, wait: float) -> int:
        """Answer what is there, waiting up to `wait` seconds for it; return how many requests."""
        if self._position < 0:
            # What was asked before the service came may still be waited for.
            self._client.append(self._topic, [], options=_OPTIONS)
            self._position = self._client.status(self._topic).low
        with self._client.fetch(
            {self._topic: self._position},
            group=self._group,
            commit={self._topic: self._position},
            wait=wait,
        ) as got:
            asked = [a for r in got.records if (a := self._read(r.data)) is not None]
            self._position = got.positions.get(self._topic, self._position)
        replies: dict[str, list[bytes]] = {}
        for together in _alike(asked, self._max_rows):
            for one, reply in zip(together, self._answer(together), strict=True):
                replies.setdefault(one.asker, []).append(reply)
        for asker, records in replies.items():
            self._client.append(REPLIES + asker, records, options=_REPLY_OPTIONS)
        return len(asked)

    def _read(self, data: memoryview) -> _Asked | None:
        """Return a request; None if it is too late, or nobody can be answered."""
        try:
            told = decode_state(data)
            inputs = {k.removeprefix("x/"): v for k, v in told.items() if k.startswith("x/")}
            asked = _Asked(
                str(told["id"]), check_name(str(told["asker"]), "asker"), int(told["rows"]), inputs
            )
            if _rows_of(inputs, self.name) != asked.rows:
                raise SchemaError(f"A request tells of {asked.rows} rows and has others.")
            late = time.time() - float(told["stamp"]) > float(told["limit"])
        except (KeyError, TypeError, ValueError, CorruptData, ProtocolError, SchemaError):
            self.statistics.refused += 1
            return None
        if late:
            self.statistics.expired += 1
            return None
        return asked

    def _answer(self, together: Sequence[_Asked]) -> list[bytes]:
        """Return the replies, encoded."""
        first = together[0].inputs
        joined = (
            first
            if len(together) == 1
            else {k: np.concatenate([a.inputs[k] for a in together]) for k in first}
        )
        try:
            found = self._surrogate.answer(joined)
        except HeadraceError as error:
            if len(together) > 1:
                # One bad request must not spoil the others.
                return [reply for one in together for reply in self._answer([one])]
            self.statistics.refused += 1
            return [encode_state({"id": together[0].id, "reason": str(error)})]
        self._count(found, together)
        out, start = [], 0
        for one in together:
            part = slice(start, start + one.rows)
            start += one.rows
            valid = np.ascontiguousarray(found.valid[part])
            reply: dict[str, Any] = {"id": one.id, "reason": "" if valid.all() else found.reason}
            if found.values:
                reply |= {"version": found.version, "valid": valid}
                for name, values in found.values.items():
                    reply[f"y/{name}"] = np.ascontiguousarray(values[part])
            out.append(encode_state(reply))
        return out

    def _count(self, found: Inferred, together: Sequence[_Asked]) -> None:
        statistics = self.statistics
        statistics.batches += 1
        statistics.requests += len(together)
        statistics.rows += found.valid.size
        statistics.invalid += int(found.valid.size - np.count_nonzero(found.valid))
        if found.version:
            statistics.versions.add(found.version)


def _alike(asked: Sequence[_Asked], most: int) -> list[list[_Asked]]:
    """Return the requests whose inputs can be joined, together, up to so many rows."""
    groups: dict[tuple[Any, ...], list[list[_Asked]]] = {}
    for one in asked:
        key = tuple(sorted((k, a.dtype.str, a.shape[1:]) for k, a in one.inputs.items()))
        lots = groups.setdefault(key, [[]])
        if lots[-1] and sum(a.rows for a in lots[-1]) + one.rows > most:
            lots.append([])
        lots[-1].append(one)
    return [lot for lots in groups.values() for lot in lots if lot]
