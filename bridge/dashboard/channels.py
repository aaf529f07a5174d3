"""What can be asked of a run: the channels of the WebSocket, and the same questions over HTTP.

Each question has a `msgspec.Struct` for its options: they are checked in one place, whether they
come as a message, as the query of an address, or from the description of the interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import xxhash

from bridge.dashboard.wire import Body, pack
from bridge.errors import ConfigError

__all__ = [
    "CHANNELS",
    "Answer",
    "Channel",
    "EventsOptions",
    "HistogramOptions",
    "LedgerOptions",
    "MoleculeOptions",
    "NowOptions",
    "Options",
    "PointsOptions",
    "SeriesOptions",
    "ask_histogram",
    "ask_molecule",
    "ask_points",
    "ask_series",
    "convert_options",
]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Names = Annotated[list[Name], msgspec.Meta(max_length=1000)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class NowOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question without options."""


class Options(NowOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question about a moment.

    Attributes
    ----------
    at
        Unix time in seconds; None for now.
    """

    at: float | None = None


class EventsOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events.

    Attributes
    ----------
    after
        Number of the last one that is known already.
    limit
        At most so many.
    """

    after: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 500


class LedgerOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which lines of the ledger.

    Attributes
    ----------
    after
        Revision up to which lines are known already.
    limit
        At most so many.
    """

    after: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 500


class PointsOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which points of the reduced space.

    Attributes
    ----------
    x, y
        Columns, such as ``embedding[0]``.
    colour
        Another column, ``time`` or ``simulation``.
    limit
        Points at most; of more, an even sample.
    simulations
        Of these alone; None for all.
    version
        Column with the version of the model; found by its name where it is left out.
    run
        Of another run, by the name that ``compare`` of ``/api/run`` has; None for this one.
    """

    x: Name
    y: Name
    colour: Name = "time"
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100_000
    simulations: Names | None = None
    run: Name | None = None
    version: Annotated[str, msgspec.Meta(max_length=200)] = ""


class SeriesOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which time series.

    Attributes
    ----------
    columns
        Scalar columns, such as ``rmsd`` or ``embedding[0]``.
    x
        Simulated time, Unix time, or step.
    limit
        Points of each series at most; longer ones are thinned out.
    between
        Least and greatest value of `x`: of these rows alone, so that fewer are left out. Unix
        times are seconds since ``stamp0`` here, too.
    simulations
        Of these alone; None for all.
    run
        Of another run, by the name that ``compare`` of ``/api/run`` has; None for this one.
    """

    columns: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=64)]
    x: Literal["time", "wall", "step"] = "time"
    limit: Annotated[int, msgspec.Meta(ge=2, le=200_000)] = 2000
    between: Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)] | None = None
    simulations: Names | None = None
    run: Name | None = None


class HistogramOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which histogram.

    Attributes
    ----------
    x, y
        Columns; one for a curve, two for a map.
    bins
        Along each axis.
    range
        Lowest and highest value of each axis, ``[x0, x1]`` or ``[x0, x1, y0, y1]`` or a list of
        pairs; None, also for one of them, for those of the data.
    kind
        Counts, or free energy.
    temperature
        In K, for the free energy; None for that of the run.
    simulations
        Of these alone; None for all.
    run
        Of another run, by the name that ``compare`` of ``/api/run`` has; None for this one.
    """

    x: Name
    y: Name | None = None
    bins: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 60
    range: Annotated[list[float | list[float] | None], msgspec.Meta(max_length=4)] | None = None
    kind: Literal["counts", "free_energy"] = "counts"
    temperature: Annotated[float, msgspec.Meta(gt=0)] | None = None
    simulations: Names | None = None
    run: Name | None = None


class MoleculeOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which frame of which simulation.

    Attributes
    ----------
    simulation
        Whose.
    offset
        Position in its stream, or ``latest``.
    atoms
        Indices, ``all``, ``ca`` or ``solute``; None for what suits.
    limit
        Atoms at most.
    field, axis, index
        Name of a field instead, and which plane of its three axes.
    """

    simulation: Name
    offset: Number | Literal["latest"] = "latest"
    atoms: (
        Literal["all", "ca", "solute"]
        | Annotated[list[Number], msgspec.Meta(max_length=20_000)]
        | None
    ) = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5000
    field: Annotated[str, msgspec.Meta(max_length=200)] = ""
    axis: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    index: Number | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the run answered.

    Attributes
    ----------
    body
        For the wire.
    cursor
        Where the next answer goes on, for a channel that sends what is new; else None.
    empty
        There is nothing new in it.
    mark
        The same for two answers that say the same.
    more
        There is more at once.
    """

    body: Body
    cursor: Any = None
    empty: bool = False
    mark: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """One of the questions that a page stays subscribed to.

    Attributes
    ----------
    name
        Its name.
    options
        Class of its options.
    binary
        Whether tables come, in binary messages.
    ask
        Called with the feed, the options and the cursor; may block.
    of
        Kinds of what was read of the run that the answer changes with; empty if it changes with
        time or files, too.
    brief
        Whether it takes less to answer than to wake a thread for it, from the first time on.
    """

    name: str
    options: type[NowOptions]
    binary: bool
    ask: Callable[[Any, Any, Any], Answer]
    of: tuple[str, ...] = ()
    brief: bool = False


def convert_options(cls: type[NowOptions], given: Mapping[str, Any], *, strict: bool = True) -> Any:
    """Check options.

    Parameters
    ----------
    strict
        False for the query of an address, where numbers are text.

    Raises
    ------
    ConfigError
        If one is unknown, missing, or has a wrong value.
    """
    try:
        return msgspec.convert(given, cls, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The options are wrong: {error}.") from error


def _snapshot(value: Any) -> Answer:
    body = pack(value)
    said = body.data
    if isinstance(value, dict) and ("now" in value or "stamp" in value):
        # The time of day alone is no news.
        said = msgspec.json.encode({k: v for k, v in value.items() if k not in ("now", "stamp")})
    mark = xxhash.xxh3_64_intdigest(said + (body.payload or b""))
    return Answer(body, mark=mark)


def _growing(value: Any, cursor: Any) -> Answer:
    """Make the answer of a table of which only what is new comes."""
    meta, arrays = value
    reset = bool(meta.get("reset", cursor is None)) or cursor is None
    empty = not reset and all(array.size == 0 for array in arrays.values())
    return Answer(pack(({**meta, "reset": reset}, arrays)), meta.get("cursor"), empty)


def _numbered(
    value: dict[str, Any], cursor: int | None, last: str, rows: str, limit: int, at: float | None
) -> Answer:
    if at is not None:
        # The past does not grow; what it was is sent as a whole.
        return _snapshot({**value, "reset": True})
    reset = cursor is None or value[last] < cursor
    found = value[rows]
    return Answer(
        pack({**value, "reset": reset}),
        value[last],
        not found and not reset,
        more=len(found) >= limit and not reset,
    )


def _pick(feed: Any, o: PointsOptions | SeriesOptions | HistogramOptions) -> tuple[Any, Any]:
    """Return whom to ask, and of what time: the clock of a replay is that of this run alone."""
    return (feed, o.at) if o.run is None else (feed.of_run(o.run), None)


def ask_points(feed: Any, o: PointsOptions, cursor: Any = None) -> Any:
    """Return the table of points."""
    asked, at = _pick(feed, o)
    return asked.points(
        o.x, o.y, o.colour, since=cursor, limit=o.limit, at=at,
        simulations=o.simulations, version=o.version,
    )  # fmt: skip


def _ask_points(feed: Any, o: PointsOptions, cursor: Any) -> Answer:
    return _growing(ask_points(feed, o, cursor), cursor)


def ask_series(feed: Any, o: SeriesOptions, cursor: Any = None) -> Any:
    """Return the table of series."""
    asked, at = _pick(feed, o)
    return asked.series(
        o.columns, o.simulations, x=o.x, limit=o.limit, since=cursor, at=at, between=o.between
    )


def _ask_series(feed: Any, o: SeriesOptions, cursor: Any) -> Answer:
    return _growing(ask_series(feed, o, cursor), cursor)


def _ask_events(feed: Any, o: EventsOptions, cursor: Any) -> Answer:
    after = o.after if cursor is None else cursor
    value = feed.events(after=after, limit=o.limit, at=o.at)
    return _numbered(value, cursor, "last", "events", o.limit, o.at)


def _ask_ledger(feed: Any, o: LedgerOptions, cursor: Any) -> Answer:
    after = o.after if cursor is None else cursor
    value = feed.ledger(after_revision=after, limit=o.limit, at=o.at)
    return _numbered(value, cursor, "revision", "lines", o.limit, o.at)


def ask_histogram(feed: Any, o: HistogramOptions) -> Any:
    """Return the table of a histogram."""
    asked, at = _pick(feed, o)
    return asked.histogram(
        o.x,
        o.y,
        bins=o.bins,
        range=o.range,
        kind=o.kind,
        temperature=o.temperature,
        at=at,
        simulations=o.simulations,
    )


def ask_molecule(feed: Any, o: MoleculeOptions) -> Any:
    """Return the table of a frame."""
    return feed.frame(
        o.simulation, o.offset, atoms=o.atoms, limit=o.limit, at=o.at,
        field=o.field, axis=o.axis, index=o.index,
    )  # fmt: skip


CHANNELS: dict[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("run", Options, False, lambda feed, o, cursor: _snapshot(feed.run())),
        Channel(
            "overview",
            Options,
            False,
            lambda feed, o, cursor: _snapshot(feed.overview(o.at)),
            brief=True,
        ),
        Channel(
            "pipeline",
            Options,
            False,
            lambda feed, o, cursor: _snapshot(feed.pipeline(o.at)),
        ),
        Channel(
            "capabilities",
            Options,
            False,
            lambda feed, o, cursor: _snapshot(feed.capabilities()),
            ("frames",),
        ),
        Channel("events", EventsOptions, False, _ask_events, ("events",)),
        Channel("ledger", LedgerOptions, False, _ask_ledger, ("ledger",)),
        Channel("points", PointsOptions, True, _ask_points, ("results", "frames")),
        Channel("series", SeriesOptions, True, _ask_series, ("results", "frames")),
        Channel(
            "histogram",
            HistogramOptions,
            True,
            lambda feed, o, cursor: _snapshot(ask_histogram(feed, o)),
            ("results", "frames"),
        ),
        Channel(
            "molecule",
            MoleculeOptions,
            True,
            lambda feed, o, cursor: _snapshot(ask_molecule(feed, o)),
            ("results", "frames"),
        ),
    )
}
"""Name to channel."""
