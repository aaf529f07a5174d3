"""The routes of the interface over HTTP: one table, for the server and for its description."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from bridge.dashboard.actions import AllBody, ApprovalBody, CommandBody
from bridge.dashboard.channels import (
    EventsOptions,
    HistogramOptions,
    LedgerOptions,
    NowOptions,
    Options,
    PointsOptions,
    SeriesOptions,
)

__all__ = [
    "BINARY",
    "PDB",
    "ROUTES",
    "ExportQuery",
    "FrameQuery",
    "HistogramQuery",
    "PointsQuery",
    "Route",
    "SeriesQuery",
    "TopologyQuery",
]

Format = Literal["json", "csv"]


class SeriesQuery(SeriesOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See `SeriesOptions`; and how to answer."""

    format: Format = "json"


class PointsQuery(PointsOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See `PointsOptions`; and how to answer."""

    format: Format = "json"


class HistogramQuery(HistogramOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """See `HistogramOptions`; and how to answer."""

    format: Format = "json"


class FrameQuery(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which atoms or which plane of a field (see `MoleculeOptions`), and how to answer."""

    atoms: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5000
    field: Annotated[str, msgspec.Meta(max_length=200)] = ""
    axis: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    index: Annotated[int, msgspec.Meta(ge=0)] | None = None
    format: Literal["json", "pdb"] = "json"


class TopologyQuery(NowOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which atoms: ``all``, ``ca``, ``solute`` or indices."""

    atoms: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5000


class ExportQuery(NowOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which frames, as ``simulation:offset``, of which atoms, and as what."""

    frames: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]
    atoms: str = "all"
    format: Literal["pdb", "xtc", "csv"] = "pdb"


@dataclass(frozen=True, slots=True)
class Route:
    """One address.

    Attributes
    ----------
    method, path
        As Starlette has it.
    name
        Method of `Api` that answers.
    summary
        One sentence.
    query, body
        Classes of options and of the request's JSON; None for none.
    answers
        Content type to the keys that an answer in JSON always has; None for other content.
    errors
        Status codes beside 200, 401 and 421.
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    summary: str
    query: type[NowOptions] | None = None
    body: type[msgspec.Struct] | None = None
    answers: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    errors: tuple[int, ...] = ()


def _json(*keys: str) -> dict[str, tuple[str, ...] | None]:
    return {"application/json": keys}


_TABLE = ("meta", "arrays")
BINARY = "application/octet-stream"
PDB = "chemical/x-pdb"
"""Content types of files."""
_POSTED = (400, 403, 404, 409, 422, 503)

ROUTES: tuple[Route, ...] = (
    Route("GET", "/api/health", "health", "Whether the server is there; needs no token.",
          answers=_json("ok")),
    Route("GET", "/api/run", "run", "Name, state, columns, maps and simulations of the run.",
          answers=_json("name", "state", "columns", "simulations")),
    Route("GET", "/api/overview", "overview", "How each simulation stands, and the alarms.",
          Options, answers=_json("simulations", "totals", "alarms"), errors=(400,)),
    Route("GET", "/api/pipeline", "pipeline", "The operators as a graph, and the engine.",
          Options, answers=_json("nodes", "edges"), errors=(400,)),
    Route("GET", "/api/events", "events", "Events behind a number.",
          EventsOptions, answers=_json("last", "events"), errors=(400,)),
    Route("GET", "/api/ledger", "ledger", "Lines of the ledger that changed behind a revision.",
          LedgerOptions, answers=_json("revision", "lines"), errors=(400,)),
    Route("GET", "/api/capabilities", "capabilities",
          "What each simulation lets others do to it, with bounds.", answers=_json()),
    Route("GET", "/api/series", "series", "Time series of scalar columns.",
          SeriesQuery, answers={**_json(*_TABLE), "text/csv": None}, errors=(400, 404)),
    Route("GET", "/api/points", "points", "Points of the reduced space.",
          PointsQuery, answers={**_json(*_TABLE), "text/csv": None}, errors=(400, 404)),
    Route("GET", "/api/histogram", "histogram", "A histogram, or a free energy.",
          HistogramQuery, answers={**_json(*_TABLE), "text/csv": None}, errors=(400, 404)),
    Route("GET", "/api/topology/{simulation}", "topology", "What a simulation is made of.",
          TopologyQuery, answers=_json("n_atoms"), errors=(400, 404)),
    Route("GET", "/api/frames/{simulation}/{offset}", "frame",
          "A frame, by its offset or 'latest'; atoms are 'ca', 'solute', or indices.",
          FrameQuery, answers={**_json(*_TABLE), PDB: None}, errors=(400, 404, 503)),
    Route("GET", "/api/export", "export", "Chosen frames as a file.",
          ExportQuery, answers={PDB: None, BINARY: None, "text/csv": None},
          errors=(400, 404, 503)),
    Route("GET", "/api/report.html", "report",
          "The run as one page that needs no server.", answers={"text/html": None},
          errors=(404, 503)),
    Route("GET", "/api/openapi.json", "openapi", "This description.",
          answers=_json("openapi", "info", "paths")),
    Route("GET", "/metrics", "metrics", "Figures in the text format of Prometheus.",
          answers={"text/plain": None}),
    Route("POST", "/api/approvals/{command:path}", "approve",
          "Approve or deny a command that waits for it; the first word counts.",
          body=ApprovalBody, answers=_json("id", "state"), errors=_POSTED),
    Route("POST", "/api/commands", "command", "Send a command within the declared bounds.",
          body=CommandBody, answers=_json("id", "verdict"), errors=_POSTED),
    Route("POST", "/api/all", "all", "Pause, resume or stop all simulations.",
          body=AllBody, answers=_json("results"), errors=_POSTED),
)  # fmt: skip
"""Every address below ``/api``, and ``/metrics``."""
