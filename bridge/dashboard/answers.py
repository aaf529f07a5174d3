"""Over HTTP: options from the query, answers as JSON, CSV or files, errors as sentences."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import types
import typing
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from bridge.dashboard.channels import NowOptions, convert_options
from bridge.dashboard.wire import Table
from bridge.errors import (
    CommandRefused,
    HeadraceError,
    MissingExtra,
    StagingError,
    SteeringError,
    TransportError,
)

__all__ = ["as_csv", "as_data", "describe_error", "json_response", "read_options", "refuse"]

log = logging.getLogger(__name__)

SMALL = 2048
"""Bytes below which an answer is not compressed."""


def json_response(request: Request, value: Any, status: int = 200) -> Response:
    """Answer with JSON; numbers that are not finite become null."""
    return packed_response(request, msgspec.json.encode(value), "application/json", status)


def packed_response(
    request: Request,
    body: bytes,
    kind: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer, compressed where that is worth it."""
    told = {"Vary": "Accept-Encoding", **(headers or {})}
    if len(body) > SMALL and "gzip" in request.headers.get("accept-encoding", ""):
        told["Content-Encoding"] = "gzip"
        body = gzip.compress(body, 1, mtime=0)
    return Response(body, status_code=status, headers=told, media_type=kind)


def refuse(status: int, sentence: str) -> Response:
    """Answer with an error."""
    body = msgspec.json.encode({"error": sentence})
    return Response(body, status_code=status, media_type="application/json")


def describe_error(error: Exception) -> Response:
    """Answer with what went wrong."""
    match error:
        case CommandRefused():
            return refuse(422, str(error))
        case LookupError() if isinstance(error, HeadraceError):
            return refuse(404, str(error))
        case SteeringError():
            return refuse(409, str(error))
        case ValueError() if isinstance(error, HeadraceError):
            return refuse(400, str(error))
        case MissingExtra() | TransportError() | StagingError():
            return refuse(503, str(error))
        case HeadraceError():
            return refuse(500, str(error))
    log.error("A request could not be answered.", exc_info=error)
    return refuse(500, "The server failed to answer; its log says more.")


def read_options(cls: type[NowOptions], query: Mapping[str, str]) -> Any:
    """Read options from the query of an address; lists are separated by commas.

    Raises
    ------
    ConfigError
        If one is unknown, missing, or has a wrong value.
    """
    hints = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for name, text in query.items():
        if text == "" and name != "atoms":
            # What is left empty is left out.
            continue
        given[name] = _split(text) if name in hints and _is_list(hints[name], text) else text
    return convert_options(cls, given, strict=False)


def _is_list(kind: Any, text: str) -> bool:
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        return True
    if origin in (typing.Union, types.UnionType):
        found = [_is_list(part, text) for part in typing.get_args(kind) if part is not type(None)]
        # Where one word will do as well, a comma or a number makes a list of it.
        return all(found) or (any(found) and ("," in text or text.isdigit()))
    return False


def _split(text: str) -> list[Any]:
    """Read ``a,b`` as a list, and ``0:1,2:3`` as a list of pairs; brackets hold commas together."""
    pieces, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            pieces.append(text[start:place])
            start = place + 1
    pieces.append(text[start:])
    return pieces


def as_data(table: Table) -> dict[str, Any]:
    """Return a table as plain data."""
    meta, arrays = table
    return {
        "meta": meta,
        "arrays": {name: np.asarray(array).tolist() for name, array in arrays.items()},
    }


def as_csv(header: list[str], columns: list[list[Any]]) -> bytes:
    """Return columns of the same length as CSV (RFC 4180), with a header.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_tame(name) for name in header])
    writer.writerows([_tame(value) for value in row] for row in zip(*columns, strict=True))
    return text.getvalue().encode()


def _tame(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
