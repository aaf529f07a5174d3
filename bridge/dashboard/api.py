"""The interface over HTTP: one table of routes, for the server and for its description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from bridge.dashboard.actions import Actions, AllBody, ApprovalBody, CommandBody
from bridge.dashboard.answers import (
    as_csv,
    as_data,
    describe_error,
    json_response,
    packed_response,
    read_options,
)
from bridge.dashboard.channels import (
    EventsOptions,
    HistogramOptions,
    LedgerOptions,
    MoleculeOptions,
    NowOptions,
    Options,
    PointsOptions,
    SeriesOptions,
    ask_histogram,
    ask_molecule,
    ask_points,
    ask_series,
)
from bridge.dashboard.hub import Hub
from bridge.dashboard.metrics import CONTENT_TYPE, write_metrics
from bridge.errors import ConfigError

__all__ = ["ROUTES", "Api", "Route"]

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
    """Which frames, as ``simulation:offset``, and as what."""

    frames: Annotated[list[str], msgspec.Meta(min_length=1, max_length=1000)]
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
_BINARY = "application/octet-stream"
_PDB = "chemical/x-pdb"
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
          FrameQuery, answers={**_json(*_TABLE), _PDB: None}, errors=(400, 404, 503)),
    Route("GET", "/api/export", "export", "Chosen frames as a file.",
          ExportQuery, answers={_PDB: None, _BINARY: None, "text/csv": None},
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


class Api:
    """Answers.

    Parameters
    ----------
    hub
        With the feed, and threads to ask it in.
    actions
        What changes something.
    base_path
        For the description.
    """

    def __init__(self, hub: Hub, actions: Actions, base_path: str = "") -> None:
        self._hub = hub
        self._actions = actions
        self._base_path = base_path

    def endpoint(self, route: Route) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers a route; errors become sentences with a status."""
        answer: Callable[[Request, Any], Awaitable[Response]] = getattr(self, route.name)

        async def serve(request: Request) -> Response:
            try:
                options = None
                if route.query is not None:
                    options = read_options(route.query, request.query_params)
                return await answer(request, options)
            except Exception as error:
                return describe_error(error)

        return serve

    # ------------------------------------------------------------- questions

    async def health(self, request: Request, options: None) -> Response:
        """Answer ``/api/health``."""
        return json_response(request, {"ok": True})

    async def run(self, request: Request, options: None) -> Response:
        """Answer ``/api/run``."""
        return await self._tell(request, self._hub.feed.run)

    async def overview(self, request: Request, options: Options) -> Response:
        """Answer ``/api/overview``."""
        return await self._tell(request, self._hub.feed.overview, options.at)

    async def pipeline(self, request: Request, options: Options) -> Response:
        """Answer ``/api/pipeline``."""
        return await self._tell(request, self._hub.feed.pipeline, options.at)

    async def capabilities(self, request: Request, options: None) -> Response:
        """Answer ``/api/capabilities``."""
        return await self._tell(request, self._hub.feed.capabilities)

    async def events(self, request: Request, options: EventsOptions) -> Response:
        """Answer ``/api/events``."""
        o = options
        return await self._tell(
            request, self._hub.feed.events, after=o.after, limit=o.limit, at=o.at
        )

    async def ledger(self, request: Request, options: LedgerOptions) -> Response:
        """Answer ``/api/ledger``."""
        o = options
        return await self._tell(
            request, self._hub.feed.ledger, after_revision=o.after, limit=o.limit, at=o.at
        )

    async def topology(self, request: Request, options: TopologyQuery) -> Response:
        """Answer ``/api/topology``."""
        simulation = request.path_params["simulation"]
        atoms = _read_atoms(options.atoms)
        return await self._tell(
            request, self._hub.feed.topology, simulation, atoms=atoms, limit=options.limit
        )

    async def series(self, request: Request, options: SeriesQuery) -> Response:
        """Answer ``/api/series``."""
        o = options

        def ask() -> tuple[bytes, str]:
            table = ask_series(self._hub.feed, o)
            return _write_table(table, o.format, _series_columns)

        return await self._send(request, ask, o.format, "series.csv")

    async def points(self, request: Request, options: PointsQuery) -> Response:
        """Answer ``/api/points``."""
        o = options

        def ask() -> tuple[bytes, str]:
            table = ask_points(self._hub.feed, o)
            return _write_table(table, o.format, _points_columns)

        return await self._send(request, ask, o.format, "points.csv")

    async def histogram(self, request: Request, options: HistogramQuery) -> Response:
        """Answer ``/api/histogram``."""

        def ask() -> tuple[bytes, str]:
            table = ask_histogram(self._hub.feed, options)
            return _write_table(table, options.format, _flat_columns)

        return await self._send(request, ask, options.format, "histogram.csv")

    async def frame(self, request: Request, options: FrameQuery) -> Response:
        """Answer ``/api/frames``."""
        simulation, offset = request.path_params["simulation"], request.path_params["offset"]
        if offset != "latest" and not (offset.isascii() and offset.isdigit()):
            raise ConfigError(f"The offset is {offset!r}; it is a number or 'latest'.")
        place: Any = offset if offset == "latest" else int(offset)
        if options.format == "pdb":

            def write() -> bytes:
                found = place
                if found == "latest":
                    meta, _ = self._hub.feed.frame(simulation, "latest", atoms=[0], at=options.at)
                    found = meta["offset"]
                data: bytes = self._hub.feed.export_frames([(simulation, found)], "pdb")
                return data

            data = await self._hub.call_slow(write)
            return await self._hub.call(_file, request, data, "pdb", f"{simulation}-{offset}.pdb")
        o = options
        wanted = MoleculeOptions(
            simulation=simulation, offset=place, atoms=_read_atoms(o.atoms), limit=o.limit,
            at=o.at, field=o.field, axis=o.axis, index=o.index,
        )  # fmt: skip

        def ask() -> tuple[bytes, str]:
            return _write_table(ask_molecule(self._hub.feed, wanted), "json", _flat_columns)

        return await self._send(request, ask, "json", "frame.json")

    async def export(self, request: Request, options: ExportQuery) -> Response:
        """Answer ``/api/export``."""
        frames = [_read_frame(text) for text in options.frames]
        data = await self._hub.call_slow(self._hub.feed.export_frames, frames, options.format)
        return await self._hub.call(
            _file, request, data, options.format, f"frames.{options.format}"
        )

    async def report(self, request: Request, options: None) -> Response:
        """Answer ``/api/report.html``."""
        from bridge.dashboard.report import make_static_report

        data = await self._hub.call_slow(make_static_report, self._hub.feed)
        headers = {"Content-Disposition": 'attachment; filename="report.html"'}
        kind = "text/html; charset=utf-8"
        return await self._hub.call(packed_response, request, data, kind, headers=headers)

    async def openapi(self, request: Request, options: None) -> Response:
        """Answer ``/api/openapi.json``."""
        from bridge.dashboard.openapi import describe

        return json_response(request, describe(ROUTES, self._base_path))

    async def metrics(self, request: Request, options: None) -> Response:
        """Answer ``/metrics``."""
        text = await self._hub.call(write_metrics, self._hub.feed, self._hub.statistics)
        return packed_response(request, text.encode(), CONTENT_TYPE)

    # ------------------------------------------------------------- actions

    async def approve(self, request: Request, options: None) -> Response:
        """Answer ``/api/approvals``."""
        return json_response(request, await self._actions.approve(request))

    async def command(self, request: Request, options: None) -> Response:
        """Answer ``/api/commands``."""
        return json_response(request, await self._actions.command(request))

    async def all(self, request: Request, options: None) -> Response:
        """Answer ``/api/all``."""
        return json_response(request, {"results": await self._actions.all(request)})

    # ------------------------------------------------------------- helpers

    async def _tell(
        self, request: Request, function: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Response:
        def ask() -> bytes:
            return msgspec.json.encode(function(*arguments, **named))

        body = await self._hub.call(ask)
        return await self._hub.call(packed_response, request, body, "application/json")

    async def _send(
        self, request: Request, ask: Callable[[], tuple[bytes, str]], format: str, name: str
    ) -> Response:
        body, kind = await self._hub.call(ask)
        headers = {}
        if format == "csv":
            headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return await self._hub.call(packed_response, request, body, kind, headers=headers)


def _write_table(table: Any, format: str, columns: Callable[[Any], Any]) -> tuple[bytes, str]:
    if format == "json":
        return msgspec.json.encode(as_data(table)), "application/json"
    return as_csv(*columns(table)), "text/csv; charset=utf-8"


def _points_columns(table: Any) -> tuple[list[str], list[list[Any]]]:
    meta, arrays = table
    names = meta.get("simulations", [])
    columns = {
        name: array.tolist()
        for name, array in arrays.items()
        if array.ndim == 1 and not name.startswith("head_")
    }
    if "simulation" in columns and names:
        columns["simulation"] = [names[number] for number in columns["simulation"]]
    length = len(arrays["x"])
    kept = {name: values for name, values in columns.items() if len(values) == length}
    return list(kept), list(kept.values())


def _series_columns(table: Any) -> tuple[list[str], list[list[Any]]]:
    """One line a value: a series need not share its times with another."""
    meta, arrays = table
    rows: list[list[Any]] = [[], [], [], []]
    for number, one in enumerate(meta["series"]):
        x = arrays[one.get("x", f"x{number}")].tolist()
        y = arrays[one.get("y", f"y{number}")].tolist()
        rows[0] += [one["simulation"]] * len(x)
        rows[1] += [one["column"]] * len(x)
        rows[2] += x
        rows[3] += y
    return ["simulation", "column", "x", "y"], rows


def _flat_columns(table: Any) -> tuple[list[str], list[list[Any]]]:
    """Edges and counts, one bin a line."""
    _, arrays = table
    values = arrays.get("values", arrays.get("counts"))
    edges = [arrays[name] for name in ("x", "y", "x_edges", "y_edges") if name in arrays]
    middles = [
        (e[1:] + e[:-1]) / 2 if len(e) == n + 1 else e
        for e, n in zip(edges, values.shape, strict=False)
    ]
    grids = np.meshgrid(*middles, indexing="ij")
    names = ["x", "y"][: len(grids)]
    return [*names, "value"], [g.ravel().tolist() for g in grids] + [values.ravel().tolist()]


def _file(request: Request, data: bytes, format: str, name: str) -> Response:
    kinds = {"pdb": _PDB, "xtc": _BINARY, "csv": "text/csv; charset=utf-8"}
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return packed_response(request, data, kinds[format], headers=headers)


def _read_atoms(text: str) -> Any:
    if text in ("", "all", "ca", "solute"):
        return text or None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"The atoms are {text[:50]!r}; say 'all', 'ca', 'solute' or indices."
        ) from None


def _read_frame(text: str) -> tuple[str, int]:
    simulation, colon, offset = text.rpartition(":")
    if not colon or not simulation or not (offset.isascii() and offset.isdigit()):
        raise ConfigError(f"The frame is {text[:50]!r}; write it as simulation:offset.")
    return simulation, int(offset)
