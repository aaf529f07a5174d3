"""The interface over HTTP: what answers each route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bridge.dashboard.actions import Actions
from bridge.dashboard.answers import (
    describe_error,
    json_response,
    packed_response,
    read_options,
)
from bridge.dashboard.channels import (
    EventsOptions,
    LedgerOptions,
    MoleculeOptions,
    Options,
    ask_histogram,
    ask_molecule,
    ask_points,
    ask_series,
)
from bridge.dashboard.files import (
    as_file,
    flat_columns,
    points_columns,
    read_atoms,
    read_frame,
    read_offset,
    series_columns,
    write_table,
)
from bridge.dashboard.hub import Hub
from bridge.dashboard.metrics import CONTENT_TYPE, write_metrics
from bridge.dashboard.routes import (
    ROUTES,
    ExportQuery,
    FrameQuery,
    HistogramQuery,
    PointsQuery,
    Route,
    SeriesQuery,
    TopologyQuery,
)

__all__ = ["Api"]


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
        atoms = read_atoms(options.atoms)
        return await self._tell(
            request, self._hub.feed.topology, simulation, atoms=atoms, limit=options.limit
        )

    async def series(self, request: Request, options: SeriesQuery) -> Response:
        """Answer ``/api/series``."""
        o = options

        def ask() -> tuple[bytes, str]:
            table = ask_series(self._hub.feed, o)
            return write_table(table, o.format, series_columns)

        return await self._send(request, ask, o.format, "series.csv")

    async def points(self, request: Request, options: PointsQuery) -> Response:
        """Answer ``/api/points``."""
        o = options

        def ask() -> tuple[bytes, str]:
            table = ask_points(self._hub.feed, o)
            return write_table(table, o.format, points_columns)

        return await self._send(request, ask, o.format, "points.csv")

    async def histogram(self, request: Request, options: HistogramQuery) -> Response:
        """Answer ``/api/histogram``."""

        def ask() -> tuple[bytes, str]:
            table = ask_histogram(self._hub.feed, options)
            return write_table(table, options.format, flat_columns)

        return await self._send(request, ask, options.format, "histogram.csv")

    async def frame(self, request: Request, options: FrameQuery) -> Response:
        """Answer ``/api/frames``."""
        simulation, offset = request.path_params["simulation"], request.path_params["offset"]
        place, atoms = read_offset(offset), read_atoms(options.atoms)
        if options.format == "pdb":

            def write() -> bytes:
                found = place
                if found == "latest":
                    meta, _ = self._hub.feed.frame(simulation, "latest", atoms=[0], at=options.at)
                    found = meta["offset"]
                # All atoms, where none are named: a file need not be thin.
                data: bytes = self._hub.feed.export_frames(
                    [(simulation, found)], "pdb", atoms or "all"
                )
                return data

            data = await self._hub.call_slow(write)
            return await self._hub.call(as_file, request, data, "pdb", f"{simulation}-{offset}.pdb")
        o = options
        wanted = MoleculeOptions(
            simulation=simulation, offset=place, atoms=atoms, limit=o.limit,
            at=o.at, field=o.field, axis=o.axis, index=o.index,
        )  # fmt: skip

        def ask() -> tuple[bytes, str]:
            return write_table(ask_molecule(self._hub.feed, wanted), "json", flat_columns)

        return await self._send(request, ask, "json", "frame.json")

    async def export(self, request: Request, options: ExportQuery) -> Response:
        """Answer ``/api/export``."""
        frames = [read_frame(text) for text in options.frames]
        data = await self._hub.call_slow(
            self._hub.feed.export_frames, frames, options.format, read_atoms(options.atoms) or "all"
        )
        return await self._hub.call(
            as_file, request, data, options.format, f"frames.{options.format}"
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
