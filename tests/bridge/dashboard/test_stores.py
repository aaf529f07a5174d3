"""The stores of the feed: thinned against full data, as they stood at a time, bounded."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.codec import encode_batch
from bridge.commands import Acknowledgement, Command, Decision, Event
from bridge.dashboard.stores import results
from bridge.dashboard.stores.columns import Columns
from bridge.dashboard.stores.events import EventStore
from bridge.dashboard.stores.histograms import BOLTZMANN, free_energy, histogram
from bridge.dashboard.stores.history import History
from bridge.dashboard.stores.ledger import LedgerStore
from bridge.dashboard.stores.plain import plain
from bridge.dashboard.stores.points import points
from bridge.dashboard.stores.results import ResultStore
from bridge.dashboard.stores.series import series
from bridge.dashboard.stores.simulations import SimulationStore
from bridge.errors import ConfigError, HeadraceError
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema
from bridge.staging.messages import TopicStatus


def fill(
    store: ResultStore, name: str, first: int, count: int, stamp: float | None = None
) -> dict[str, np.ndarray]:
    """Add results whose numbers tell which frames they are of."""
    offsets = np.arange(first, first + count)
    columns = {
        "tica": np.stack([np.sin(offsets * 0.1), offsets * 1.0], axis=1),
        "tica_version": np.where(offsets < 10, 0, 1 + offsets // 1000),
        "energy": -offsets.astype(np.float64),
        "wide": np.zeros((count, 500)),
        "word": np.full(count, b"x", "S4"),
    }
    batch = FrameBatch.from_arrays(
        name, columns, first_offset=first, steps=offsets * 5, times=offsets * 0.5
    )
    store.add(batch, float(first) if stamp is None else stamp)
    store.flush()
    return columns


def test_the_sample_is_even_and_bounded_whatever_the_batches() -> None:
    a, b = ResultStore(limit=500, recent=100), ResultStore(limit=500, recent=100)
    for first in range(0, 6000, 100):
        fill(a, "w", first, 100)
    rng = np.random.default_rng(1)
    first = 0
    while first < 6000:
        count = min(int(rng.integers(1, 300)), 6000 - first)
        fill(b, "w", first, count)
        first += count
    for store in (a, b):
        offsets = store.sample.key("offset")
        assert store.stride == 16
        assert offsets.tolist() == list(range(0, 6000, 16))
        assert store.sample.column("energy")[:, 0].tolist() == (-offsets).tolist()
        assert len(store.recent) <= 200 + 300
        assert store.recent.key("offset")[-1] == 5999
    assert store.columns.keys() == {"tica", "tica_version", "energy"}
    assert store.sizes["wide"] == 500
    assert store.nbytes < 200_000


@pytest.mark.parametrize("remembered", [1000, 2])
def test_records_are_rows_in_the_order_in_which_they_came_and_none_comes_twice(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their lengths and columns are, how many of these are remembered, and whether one
    by one or all at once.
    """
    monkeypatch.setattr(results, "LAYOUTS", remembered)
    rng = np.random.default_rng(3)
    records: list[tuple[str, memoryview]] = []
    ends = {"a": 0, "b": 0}
    for i in range(120):
        name = "ab"[int(rng.integers(2))]
        count = int(rng.integers(0, 4))
        offsets = np.arange(ends[name], ends[name] + count)
        columns: dict[str, np.ndarray] = {"x": offsets * 2.0, "word": np.full(count, b"w", "S3")}
        if i > 60:
            columns["y"] = np.stack([offsets, -offsets], axis=1)
        batch = FrameBatch.from_arrays(name, columns, first_offset=ends[name])
        records.append((name, memoryview(bytes(encode_batch(batch, meta={"first": i})))))
        ends[name] += count
    stores = []
    for step in (1, 7, 200):
        store = ResultStore()
        for first in range(0, len(records), step):
            # The one before comes once more.
            for i in range(max(0, first - 1), min(first + step, len(records))):
                store.add_record(records[i][1], float(i), records[i][0])
            store.flush()
        stores.append(store)
    for store in stores:
        table = store.recent
        assert table.n == sum(ends.values()) == store.seq
        for name, end in ends.items():
            mine = table.key("simulation") == store.number(name)
            assert table.key("offset")[mine].tolist() == list(range(end))
            assert table.column("x")[mine, 0].tolist() == [2.0 * i for i in range(end)]
            y = table.column("y")[mine, 1]
            known = np.isfinite(y)
            assert known[-1]
            assert not known[0]
            assert y[known].tolist() == (-np.arange(end)[known]).tolist()
            assert (np.diff(table.key("stamp")[mine]) >= 0).all()
    with pytest.raises(HeadraceError):
        stores[0].add_record(memoryview(b"nothing"), 0.0, "a")


def test_a_model_may_be_learned_anew_any_number_of_times() -> None:
    store = ResultStore()
    wanted = [65_535, 65_536, 200_000]
    columns = {"tica": np.zeros((3, 2)), "tica_version": np.array(wanted)}
    store.add(FrameBatch.from_arrays("w", columns), 1.0)
    store.flush()
    meta, arrays = points(store, Columns(store), "tica[0]", "tica[1]")
    assert arrays["version"].tolist() == wanted
    assert [v["version"] for v in meta["versions"]] == wanted


def test_points_come_once_each_and_are_replaced_when_thinned() -> None:
    store = ResultStore(limit=400, recent=100)
    columns = Columns(store)
    got: list[int] = []
    told: dict[int, Any] = {}
    cursor: str | None = None
    resets = 0
    for first in range(0, 3000, 50):
        fill(store, "w", first, 50)
        meta, arrays = points(store, columns, "tica[0]", "tica[1]", "energy", since=cursor)
        cursor = meta["cursor"]
        if meta["reset"]:
            got, told, resets = [], {}, resets + 1
        got += arrays["offset"].tolist()
        told |= {v["version"]: v for v in meta["versions"]}
        assert arrays["colour"].tolist() == (-arrays["offset"]).tolist()
        assert arrays["x"] == pytest.approx(np.sin(arrays["offset"] * 0.1), abs=1e-6)
    wanted = [o for o in range(3000) if o % store.stride == 0 and o >= 10]
    assert got == wanted
    assert 2 <= resets <= 6
    assert meta["sampled"]
    assert meta["stride"] == store.stride
    # Of what came since, the versions alone that have more points now.
    assert [v["version"] for v in meta["versions"]] == [3]
    assert sorted(told) == [1, 2, 3]
    assert sum(v["count"] for v in told.values()) == len(wanted)
    assert told[2]["stamp"] == pytest.approx(1000, abs=50)
    assert arrays["head_offset"].tolist() == [2999]
    again = points(store, columns, "tica[0]", "tica[1]", "energy", since=cursor)[1]
    assert all(len(v) == 0 for v in again.values())


def test_fewer_points_are_an_even_sample_and_say_so() -> None:
    store = ResultStore(limit=10_000)
    for name in ("a", "b"):
        fill(store, name, 0, 3000)
    meta, arrays = points(store, Columns(store), "tica[0]", "energy", limit=1000)
    assert meta["stride"] == 8
    assert meta["total"] == 2 * 2990
    assert meta["of"] == 6000
    assert np.unique(arrays["offset"] % 8).tolist() == [0]
    assert len(arrays["x"]) <= 1000
    one = points(store, Columns(store), "tica[0]", "energy", simulations=["b"])[1]
    assert set(one["simulation"].tolist()) == {1}


def test_points_at_a_time_are_those_that_were_known() -> None:
    store = ResultStore()
    for first in range(0, 1000, 100):
        fill(store, "w", first, 100)
    meta, arrays = points(store, Columns(store), "tica[0]", "energy", at=350.0)
    assert arrays["offset"].max() == 399
    later, more = points(store, Columns(store), "tica[0]", "energy", at=600.0, since=meta["cursor"])
    assert not later["reset"]
    assert more["offset"].tolist() == list(range(400, 700))
    back = points(store, Columns(store), "tica[0]", "energy", at=90.0, since=later["cursor"])
    assert back[0]["reset"]
    assert back[1]["offset"].max() == 99
    now = points(store, Columns(store), "tica[0]", "energy", since=later["cursor"])
    assert now[0]["reset"]
    assert now[1]["offset"].max() == 999


def test_series_have_all_of_the_newest_rows_and_a_sample_of_the_others() -> None:
    store = ResultStore(limit=300, recent=60)
    columns = Columns(store)
    fill(store, "a", 0, 1)
    meta, arrays = series(store, columns, ["energy"], limit=10_000)
    got = arrays["y0"].tolist()
    for first in range(1, 2001, 20):
        fill(store, "a", first, 20)
        meta, arrays = series(store, columns, ["energy"], limit=10_000, since=meta["cursor"])
        assert not meta["reset"]
        got += arrays["y0"].tolist()
    assert got == [-float(i) for i in range(2001)], "Who listens all the time misses nothing."
    meta, arrays = series(store, columns, ["energy", "tica[0]"], x="step", limit=10_000)
    offsets = -arrays["y0"]
    assert [s["column"] for s in meta["series"]] == ["energy", "tica[0]"]
    assert arrays["x0"].tolist() == (offsets * 5).tolist()
    assert offsets[-60:].tolist() == list(range(1941, 2001))
    assert set(offsets[:-130] % store.stride) == {0.0}
    part = series(store, columns, ["energy"], x="step", between=(9800, 9850), simulations=["a"])
    assert part[1]["y0"].tolist() == [-float(i) for i in range(1960, 1971)]
    thin = series(store, columns, ["energy"], limit=50)[1]["y0"]
    assert len(thin) <= 50
    assert thin[-1] == -2000


def test_a_column_that_is_not_there_is_told() -> None:
    store = ResultStore()
    fill(store, "w", 0, 5)
    with pytest.raises(ConfigError, match="too many to be kept"):
        points(store, Columns(store), "wide[3]", "energy")
    for text, said in (("phi", "There is no column 'phi'"), ("tica", "say which"),
                       ("tica[2]", "there is no tica"), ("a[b]", "is no column")):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            points(store, Columns(store), text, "energy")
    assert Columns(store, {"pressure": 1}).of_frames("pressure")


def test_histograms_are_those_of_numpy() -> None:
    store = ResultStore()
    fill(store, "w", 0, 5000)
    offsets = np.arange(10, 5000)
    x, y = np.sin(offsets * 0.1).astype(np.float32), -offsets.astype(np.float32)
    meta, arrays = histogram(store, Columns(store), "tica[0]", "energy", bins=[20, 30])
    counts, xs, ys = np.histogram2d(x.astype(np.float64), y, bins=[20, 30])
    assert arrays["values"].tolist() == counts.tolist()
    assert arrays["x_edges"] == pytest.approx(xs)
    assert arrays["y_edges"] == pytest.approx(ys)
    assert meta["total"] == len(offsets), "Rows of version 0 do not count."
    meta, arrays = histogram(
        store, Columns(store), "tica[0]", bins=12, bounds=[(-0.5, 0.5)], kind="free_energy",
        temperature=300.0,
    )  # fmt: skip
    counts = np.histogram(x.astype(np.float64), bins=12, range=(-0.5, 0.5))[0]
    # F = -RT ln p with R = 8.31446261815324 J/mol/K, p the share of the frames in each bin.
    wanted = -0.00831446261815324 * 300.0 * np.log(counts / counts.sum())
    assert arrays["values"] == pytest.approx(wanted - wanted.min(), abs=1e-5)
    assert meta["unit"] == "kJ/mol"
    assert meta["outside"] == len(offsets) - counts.sum()
    assert np.isnan(free_energy(np.array([0.0, 4.0]), None)).tolist() == [True, False]
    two = free_energy(np.array([1.0, 4.0]), None)
    assert two.tolist() == pytest.approx([math.log(4), 0.0])
    assert BOLTZMANN < 0.0084


def test_frames_of_a_stager_that_lost_them_have_no_offset_any_more() -> None:
    store = ResultStore(limit=100)
    fill(store, "w", 0, 80)
    meta, _ = points(store, Columns(store), "tica[0]", "energy")
    store.forget_frames("w")
    fill(store, "w", 0, 30)
    meta, arrays = points(store, Columns(store), "tica[0]", "energy", since=meta["cursor"])
    assert meta["reset"]
    assert (arrays["offset"] == -1).sum() > 20
    assert arrays["offset"].max() >= 28


def test_events_are_numbered_and_the_oldest_forgotten() -> None:
    store = EventStore(keep=10)
    for i in range(25):
        store.add(Event("dropped" if i % 2 else "gap", f"{i}", stamp=float(i)))
    newest = store.read(limit=3)
    assert [e["number"] for e in newest["events"]] == [23, 24, 25]
    assert newest["last"] == 25
    assert store.read(after=20, limit=2)["last"] == 22
    assert store.read(after=25) == {**newest, "last": 25, "events": []}
    assert newest["forgotten"] == 15
    assert newest["counts"] == {"gap": 13, "dropped": 12}
    assert [e["message"] for e in store.read(at=17.5)["events"]] == ["15", "16", "17"]


def decision(number: int, verdict: Any, stamp: float, **more: Any) -> Decision:
    """A word of the guard."""
    command = Command("pause", "w", id=f"p/op/w@{number}", reason="=1+1", evidence={})
    return Decision(command, verdict, stamp=stamp, **more)


def test_the_ledger_tells_what_changed_and_how_it_stood() -> None:
    store = LedgerStore(keep=50)
    store.add_decision(decision(1, "sent", 10.0))
    store.add_decision(decision(2, "awaiting_approval", 20.0, until=60.0))
    revision, lines = store.changes()
    assert [line.id for line in lines] == ["p/op/w@1", "p/op/w@2"]
    store.add_acknowledgement(Acknowledgement("p/op/w@1", "w", "applied", step=3, stamp=30.0))
    revision, lines = store.changes(revision)
    assert [(line.id, line.outcome) for line in lines] == [("p/op/w@1", "applied")]
    assert store.changes(revision) == (revision, [])
    assert store.paused("w")
    assert not store.paused("w", at=25.0)
    word = {"command": "p/op/w@2", "word": "approve", "by": "ada", "stamp": 40.0}
    store.add_record("approvals", msgspec.msgpack.encode(word), 40.0)
    store.add_decision(decision(2, "sent", 40.0, by="ada", until=60.0))
    assert store.changes(revision)[1][0].verdict == "sent"
    then = {line.id: line for line in store.changes(at=35.0)[1]}
    assert then["p/op/w@2"].verdict == "awaiting_approval"
    assert then["p/op/w@2"].approval is not None
    assert then["p/op/w@2"].approval.state == "awaiting"
    assert then["p/op/w@1"].outcome == "applied"
    before = store.changes(at=15.0)[1]
    assert [(line.id, line.outcome, line.verdict) for line in before] == [
        ("p/op/w@1", None, "sent")
    ]
    assert store.last_commands()["w"]["id"] == "p/op/w@2"
    assert store.last_commands(at=15.0)["w"]["id"] == "p/op/w@1"
    assert store.last_commands(at=5.0) == {}
    assert store.last_commands()["w"]["state"] == "sent"
    assert store.last_commands(over=True)["w"]["state"] == "unanswered"
    for i in range(3, 200):
        said = decision(i, "sent", 100.0 + i)
        said.command.evidence["frames"] = list(range(50_000 if i == 199 else 3))
        store.add_decision(said)
    kept = [len(line.evidence["frames"]) for line in store.changes(limit=2)[1]]
    assert kept == [3, 32]
    assert len(store) == 50
    assert store.forgotten == 149


def test_a_history_is_thinned_evenly_and_knows_the_past() -> None:
    history: History[int] = History(limit=100)
    for i in range(10_000):
        history.add(float(i), i)
    assert 45 <= len(history) <= 101
    stamps = np.array([s for s, _ in history])
    assert np.diff(stamps).max() <= 4 * np.diff(stamps).min()
    assert history.at(None) is not None
    assert stamps[-1] > 9_700
    assert history.at(5000.0) == pytest.approx(5000, abs=300)
    assert history.at(-1.0) is None


def test_rates_of_a_run_that_is_over_are_means() -> None:
    store = SimulationStore()
    store.declare("a", StreamSchema((), time_unit="ps"))
    # Two seconds of nothing, then 10 frames and 1 ps a second with a restart at 6, then rest.
    for second in range(40):
        frames = min(100, max(0, second - 2) * 10)
        moment = (frames / 10) % 6
        status = TopicStatus(
            "frames/a", "frames", end=frames, last_time=moment, last_epoch=frames // 60,
            connected=True, finished=second > 20,
        )  # fmt: skip
        store.look([status], {}, set(), 1000.0 + second)
    assert store.rows()[0]["rate"] == 0.0
    row = store.rows(mean=True)[0]
    assert row["rate"] == pytest.approx(10.0)
    assert row["ns_per_day"] == pytest.approx(86.4 * 8 / 9)
    json.dumps(row, allow_nan=False)
    assert store.spark("a", whole=True) == pytest.approx([10.0] * 32)
    quick = SimulationStore()
    for second, frames in ((0.0, 0), (1.0, 10), (1.5, 15)):
        status = TopicStatus("frames/a", "frames", end=frames, connected=True)
        quick.look([status], {}, set(), 1000.0 + second)
    assert quick.rows(mean=True)[0]["rate"] == pytest.approx(10.0)
    store.expect("never came")
    store.look([status], {}, set(), 2000.0)
    assert store.rows(mean=True)[1]["rate"] is None


def test_whatever_comes_becomes_json() -> None:
    value = {
        "nan": math.nan, "inf": [np.inf, 1.0], "array": np.array([1.0, np.nan]), 3: b"\xff",
        "deep": None, "text": "<script>" + "x" * 10_000, "word": np.array([b"\xff"]),
        "complex": np.array([1j]), "odd": {1, 2},
    }  # fmt: skip
    deep: Any = value
    for _ in range(20):
        deep["deep"] = {"more": None}
        deep = deep["deep"]
    shown = plain(value)
    text = json.dumps(shown, allow_nan=False)
    assert shown["nan"] is None
    assert shown["inf"] == [None, 1.0]
    assert shown["array"] == [1.0, None]
    assert len(text) < 10_000


def test_whoever_has_read_so_far_stands_at_the_same_place_whenever_he_began() -> None:
    store = ResultStore()
    fill(store, "w", 0, 100)

    def ask(since: str | None, limit: int = 1000) -> tuple[str, str, bool]:
        one = points(store, Columns(store), "tica[0]", "energy", since=since, limit=limit)[0]
        other = series(store, Columns(store), ["energy"], since=since, limit=limit)[0]
        return one["cursor"], other["cursor"], one["reset"] and other["reset"]

    early = ask(None)
    fill(store, "w", 100, 100)
    late = ask(None)
    early = (ask(early[0])[0], ask(early[1])[1], False)
    assert early[:2] == late[:2]


@pytest.mark.parametrize("limit", [16, 100])
def test_no_reader_is_sent_much_more_than_is_shown(limit: int) -> None:
    store = ResultStore()
    cursors: list[str | None] = [None, None]
    held = [0, 0]
    for first in range(0, 6000, 50):
        fill(store, "w", first, 50)
        answers = (
            points(store, Columns(store), "tica[0]", "energy", since=cursors[0], limit=limit),
            series(store, Columns(store), ["energy"], since=cursors[1], limit=limit),
        )
        for i, (meta, arrays) in enumerate(answers):
            cursors[i] = meta["cursor"]
            count = len(arrays["x"]) if i == 0 else sum(s["points"] for s in meta["series"])
            held[i] = count + (0 if meta["reset"] else held[i])
        assert held[0] <= 2 * limit + 50
        assert held[1] <= 5 * limit + 50
