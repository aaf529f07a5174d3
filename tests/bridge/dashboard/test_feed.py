"""The feed of a run, live: read from a real stager, which it takes nothing away from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge import StreamSchema
from bridge.commands import Command, FrameReference
from bridge.dashboard.feed import Feed, open_feed
from bridge.dashboard.stores.memory import Limits
from bridge.errors import ConfigError, OffsetOutOfRange, UnknownTopic
from bridge.staging import Stager, StagerClient
from bridge.staging.messages import StreamOptions
from tests.bridge.dashboard.feeding import (
    ATOMS,
    PIPELINE,
    Script,
    answer,
    decide,
    place,
    report,
    tell,
    wait_for,
)

HOSTILE = "</script><script>alert(1)</script>,\r\n=cmd|'x'!A1"


def results(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Results of n frames, the first five of which came before there was a model."""
    rng = np.random.default_rng(seed)
    return {
        "tica": rng.normal(size=(n, 2)),
        "tica_version": np.where(np.arange(n) < 5, 0, 1),
        "novelty": np.arange(n, dtype=np.float64),
    }


@pytest.fixture(scope="module")
def stager() -> Iterator[Stager]:
    """A stager in a thread."""
    with Stager() as service:
        yield service.start()


@pytest.fixture(scope="module")
def run(stager: Stager) -> Iterator[tuple[Feed, Script, Script]]:
    """A run of two simulations, that is looked at after it began."""
    a, b = Script(stager.address, "a"), Script(stager.address, "b")
    a.put(40)
    b.put(20)
    a.publish(results(40))
    b.publish(results(20, 1))
    tell(a.client, "dropped", HOSTILE, level="warning", data={"x": float("nan")})
    report(a.client, {"a": 40, "b": 15}, lag=5, stamp=time.time() - 4, uptime=6.0)
    report(a.client, {"a": 40, "b": 15}, lag=5, missed=3, seconds={"tica": 4.0})
    with open_feed(None, stager.address) as feed:
        assert feed.wait_until_read(60.0)
        wait_for(lambda: len(feed.overview()["simulations"]) == 2)
        wait_for(lambda: feed.overview()["simulations"][1]["lag"] == 5)
        yield feed, a, b
    a.close()
    b.close()


Run = tuple[Feed, Script, Script]


def test_what_was_there_before_is_read(run: Run) -> None:
    feed, _, _ = run
    about = feed.run()
    json.dumps(about, allow_nan=False)
    assert about["pipeline"] == PIPELINE
    assert about["state"] == "running"
    assert about["live"]
    assert about["simulations"] == ["a", "b"]
    assert about["time_unit"] == "ps"
    assert about["embedding"] == {"x": "tica[0]", "y": "tica[1]", "version": "tica_version"}
    columns = {c["name"]: (c["size"], c["source"]) for c in about["columns"]}
    assert columns["tica"] == (2, "results")
    assert columns["energy"] == (1, "frames")
    units = {c["name"]: c["unit"] for c in about["columns"]}
    assert (units["novelty"], units["tica"], units["energy"]) == ("nm", "", "kJ/mol")
    rows = {s["name"]: s for s in feed.overview()["simulations"]}
    assert rows["a"]["step"] >= 390
    assert rows["b"]["lag"] == 5
    assert rows["a"]["dropped_by"] == {"missed by the engine": 3}
    assert len(rows["a"]["spark"]) == 32
    meta, arrays = feed.points("tica[0]", "tica[1]", "novelty")
    a = arrays["simulation"] == meta["simulations"].index("a")
    wanted = results(40)
    assert arrays["x"][a][:35] == pytest.approx(wanted["tica"][5:, 0], abs=1e-6)
    assert arrays["colour"][a][:35].tolist() == list(range(5, 40))
    assert meta["left_out"] >= 10
    assert meta["versions"][0]["version"] == 1


def test_it_holds_nothing_back(run: Run, stager: Stager) -> None:
    feed, _, _ = run
    feed.frame("a", 3)
    with StagerClient(stager.address) as client:
        assert all(not t.groups for t in client.topics("", schemas=False))


def test_what_comes_is_added(run: Run) -> None:
    feed, a, _ = run
    meta, _ = feed.points("tica[0]", "tica[1]", simulations=["a"])
    lines, _ = feed.series(["novelty"], ["a"])
    last = feed.events()["last"]
    revision = feed.ledger()["revision"]
    first = a.frames
    a.put(10)
    a.publish(
        {"tica": np.ones((10, 2)), "tica_version": np.full(10, 2), "novelty": np.zeros(10)}, first
    )
    tell(a.client, "gap", "second")
    command = Command(
        "set", "a", id="test/op/a@3", parameter="temperature", value=310.0, reason=HOSTILE,
        evidence={"rmsd": float("inf"), "frames": list(range(2000))}, frame=FrameReference("a", 3),
    )  # fmt: skip
    decide(a.client, command, "sent", time.time())
    wait_for(lambda: feed.ledger(revision)["lines"])
    answer(a.client, command, "applied", time.time())
    wait_for(lambda: feed.ledger()["lines"][0]["outcome"] == "applied")
    wait_for(lambda: feed.events(after=last)["events"])
    fresh, arrays = feed.points("tica[0]", "tica[1]", simulations=["a"], since=meta["cursor"])
    assert not fresh["reset"]
    assert arrays["offset"].tolist() == list(range(first, first + 10))
    assert [v["version"] for v in fresh["versions"]] == [2]
    more, values = feed.series(["novelty"], ["a"], since=lines["cursor"])
    assert not more["reset"]
    assert values["y0"].tolist() == [0.0] * 10
    said = feed.ledger()["lines"][0]
    json.dumps(said, allow_nan=False)
    assert said["why"] == HOSTILE
    assert said["evidence"]["rmsd"] is None
    assert len(said["evidence"]["frames"]) < 1000
    assert feed.events(after=last)["events"][0]["message"] == "second"
    row = next(r for r in feed.overview()["simulations"] if r["name"] == "a")
    assert row["last_command"]["state"] == "applied"
    assert feed.capabilities()["a"][1]["maximum"] == 500.0


def test_the_molecule_is_where_the_atoms_are(run: Run) -> None:
    feed, _, b = run
    topology = feed.topology("b")
    assert topology["backbone"] == [1, 5]
    assert topology["n_atoms"] == ATOMS
    meta, arrays = feed.frame("b", 7)
    assert arrays["positions"] == pytest.approx(place(7) / 10, abs=1e-6)
    assert arrays["box"] == pytest.approx(np.eye(3) * 3)
    assert (meta["offset"], meta["step"], meta["unit"]) == (7, 70, "nm")
    assert meta["results"]["novelty"] == [7.0]
    assert feed.frame("b", 7, atoms="ca").arrays["positions"] == pytest.approx(
        place(7)[[1, 5]] / 10
    )
    solute = feed.topology("b", atoms="solute")
    assert solute["shown"] == 8
    assert solute["bonds"] == [[0, 1], [1, 2], [2, 3], [2, 4], [4, 5]]
    assert len(feed.frame("b", 7, atoms="solute").arrays["positions"]) == 8
    assert len(feed.frame("b", 7, limit=5).arrays["positions"]) == 4
    before = b.frames
    b.put(1)
    assert feed.frame("b", "latest").meta["offset"] == before, (
        "The newest, not that of a second ago."
    )
    with pytest.raises(OffsetOutOfRange, match="not written yet"):
        feed.frame("b", 10_000)
    with pytest.raises(UnknownTopic):
        feed.topology("nobody")
    with pytest.raises(ConfigError):
        feed.frame("b", 1, atoms="protein")
    with pytest.raises(ConfigError):
        feed.frame("b", 1, atoms=[0, 99])


def test_numbers_of_frames_are_sampled_once_somebody_asks(run: Run) -> None:
    feed, _, _ = run

    def shaded() -> bool:
        arrays = feed.points("tica[0]", "tica[1]", "energy", simulations=["b"]).arrays
        return bool(len(arrays["x"])) and np.array_equal(arrays["colour"], -arrays["offset"])

    wait_for(shaded)
    _meta, arrays = feed.series(["energy"], ["b"], x="step")
    assert arrays["y0"] == pytest.approx(-arrays["x0"] / 10)


def test_the_past_is_as_it_was(run: Run) -> None:
    feed, a, b = run
    tell(a.client, "old", "the past")
    wait_for(lambda: feed.events(limit=1)["events"][0]["kind"] == "old")
    wait_for(lambda: feed.overview(time.time())["simulations"])
    then = time.time()
    frames = feed.overview(then)["totals"]["frames"]
    points = len(feed.points("tica[0]", "tica[1]", at=then).arrays["x"])
    a.put(5)
    a.publish(results(5), a.frames - 5)
    b.put(5)
    b.publish(results(40), b.frames - 5)
    tell(a.client, "new", "the present", stamp=then + 1)
    wait_for(lambda: feed.events(limit=1)["events"][0]["kind"] == "new")
    wait_for(lambda: feed.overview()["totals"]["frames"] >= frames + 10)
    assert feed.overview(then)["totals"]["frames"] <= frames + 10
    assert feed.events(limit=1, at=then)["events"][0]["kind"] == "old"
    assert len(feed.points("tica[0]", "tica[1]", at=then).arrays["x"]) == points
    assert len(feed.points("tica[0]", "tica[1]").arrays["x"]) > points
    assert feed.overview(1.0)["simulations"] == []
    assert feed.ledger(at=1.0)["lines"] == []
    graph = feed.pipeline(then)
    assert graph["engine"]["rate"] == 12.5


def test_the_pipeline_is_a_graph(run: Run) -> None:
    feed, _, _ = run
    graph = feed.pipeline()
    json.dumps(graph, allow_nan=False)
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert {"simulations", "stager", "operator/tica", "guard"} <= nodes.keys()
    assert nodes["operator/tica"]["seconds"] == 4.0
    assert nodes["operator/tica"]["state_bytes"] == 1200
    assert all({e["from"], e["to"]} <= nodes.keys() for e in graph["edges"])
    assert graph["checkpoints"] == {"written": 0}
    _, a, _ = run
    source = "learn/train"
    data = {"version": "abc", "number": 3, "score": float("inf")}
    tell(a.client, "promoted", "The candidate abc is served.", source=source, data=data)
    tell(a.client, "drift", "The frames have drifted.", source=source)
    wait_for(lambda: feed.events(limit=1)["events"][0]["kind"] == "drift")
    model = feed.pipeline()["models"][0]
    assert (model["pipeline"], model["version"]) == ("learn", 3)
    assert model["drift"] == "The frames have drifted."
    assert [e["kind"] for e in model["events"]] == ["promoted", "drift"]
    # What is learned within an operator tells of its first model alone; its results have the rest.
    tell(a.client, "model_ready", "There is a first model.", source=f"{PIPELINE}/tica")
    wait_for(lambda: feed.events(limit=1)["events"][0]["kind"] == "model_ready")
    graph = feed.pipeline()
    models = {m["name"]: m["version"] for m in graph["models"]}
    assert models["tica"] == 2
    assert {n["id"]: n["version"] for n in graph["nodes"]}["operator/tica"] == 2
    # Of a time before all frames no rate is known, which is not the same as none a second.
    before = feed.pipeline(1.0)
    assert before["nodes"][0]["rate"] is None
    assert before["edges"][0]["rate"] is None
    assert {n["id"]: n["version"] for n in before["nodes"]}.get("operator/tica") is None
    into = next(e for e in graph["edges"] if e["from"] == "stager")
    assert into["latency"] == 0.02
    assert into["lag"] == 10


def test_a_page_may_ask_for_nonsense(run: Run) -> None:
    feed, _, _ = run
    with pytest.raises(ConfigError, match="no column 'nothing'"):
        feed.points("nothing", "tica[0]")
    with pytest.raises(ConfigError, match="axis of a series"):
        feed.series(["novelty"], x="phi")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bins"):
        feed.histogram("novelty", bins=0)
    with pytest.raises(ConfigError, match="range"):
        feed.histogram("novelty", range=[3.0, 1.0])
    with pytest.raises(ConfigError, match="pdb, xtc or csv"):
        feed.export_frames([("a", 1)], "exe")  # type: ignore[arg-type]
    assert feed.points("tica[0]", "tica[1]", since="nonsense:1:2").meta["reset"]
    assert feed.points("tica[0]", "tica[1]", simulations=["nobody"]).arrays["x"].size == 0


def test_a_field_is_shown_in_slices() -> None:
    schema = StreamSchema.from_arrays(
        {"u": np.zeros((6, 8)), "rho": np.zeros((4, 5, 6), np.float32), "n": np.zeros(())}
    )
    cube = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    plane = np.arange(48.0).reshape(6, 8)
    plane[0, 0] = np.nan
    with Stager() as stager:
        stager.start()
        script = Script(stager.address, "grid", schema)
        script.put(2, lambda i: {"u": plane + i, "rho": cube, "n": np.float64(i)})
        with open_feed(None, stager.address) as feed:
            wait_for(lambda: feed.run()["simulations"])
            fields = feed.topology("grid")["fields"]
            assert [f["name"] for f in fields] == ["u", "rho"]
            meta, arrays = feed.frame("grid", 1)
            assert arrays["field"][1:] == pytest.approx(plane[1:] + 1)
            assert (meta["min"], meta["max"]) == (2.0, 48.0)
            meta, arrays = feed.frame("grid", "latest", field="rho", axis=2, index=4)
            assert arrays["field"].tolist() == cube[:, :, 4].tolist()
            with pytest.raises(ConfigError, match="planes along axis 0"):
                feed.frame("grid", 0, field="rho", index=9)
            with pytest.raises(ConfigError, match="no field"):
                feed.frame("grid", 0, field="n")
        script.close()


def test_what_was_released_before_is_said_to_be_missing() -> None:
    with Stager() as stager:
        stager.start()
        script = Script(stager.address, "a")
        script.put(1)
        options = StreamOptions(when_full="drop_oldest", capacity=1 << 16, segment=1 << 14)
        topic = f"results/{PIPELINE}/a"
        script.client.append(topic, [], options=options)
        for i in range(400):
            script.publish({"phi": np.full(20, float(i))}, i * 20)
        low = script.client.status(topic).low
        assert low > 0
        with open_feed(None, stager.address) as feed:
            assert feed.wait_until_read(60.0)
            wait_for(lambda: feed.overview()["simulations"])
            by = feed.overview()["simulations"][0]["dropped_by"]
            assert by == {"missed by the dashboard": low}
            assert feed.run()["memory"]["rows"] == (400 - low) * 20
        with open_feed(None, stager.address, limits=Limits(backlog=100_000)) as feed:
            assert feed.wait_until_read(60.0)
            wait_for(lambda: feed.run()["memory"]["rows"])
            assert 0 < feed.run()["memory"]["rows"] <= (400 - low) * 20
        script.close()


def test_a_stager_may_go_and_come_back(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/stager"
    with Stager(address) as stager:
        stager.start()
        script = Script(address, "a")
        script.put(30)
        script.publish(results(30))
        feed = open_feed(None, address, patience=1.0)
        assert feed.wait_until_read(60.0)
        wait_for(lambda: feed.run()["state"] == "running")
        script.close(finished=False)
    with feed:
        wait_for(lambda: feed.run()["state"] == "lost")
        assert feed.run()["error"]
        meta, arrays = feed.points("tica[0]", "tica[1]")
        assert arrays["offset"].tolist() == list(range(5, 30))
        # Another one, which knows nothing of what the first one held.
        with Stager(address) as stager:
            stager.start()
            script = Script(address, "a")
            script.put(12)
            script.publish(results(12))
            wait_for(lambda: feed.run()["memory"]["rows"] == 42)
            fresh, arrays = feed.points("tica[0]", "tica[1]", since=meta["cursor"])
            assert fresh["reset"]
            assert (arrays["offset"] == -1).sum() == 25
            assert arrays["offset"].max() == 11
            assert feed.run()["state"] == "running"
            script.close()


def test_damaged_records_are_passed_over_counted_and_told_of(tmp_path: Path) -> None:
    topic = f"results/{PIPELINE}/a"
    with Stager("memory://damaged-a", directory=tmp_path, durable=True) as service:
        service.start()
        script = Script(service.address, "a")
        script.put(30)
        for first in (0, 10, 20):
            script.publish(results(10), first)
        report(script.client, {"a": 30})
        with script.client.fetch({topic: 1}, max_frames=1) as got:
            bad = bytes(got.records[0].data)
        script.close()
    for segment in (tmp_path / "segments").glob("*.segment"):
        segment.write_bytes(segment.read_bytes().replace(bad, bad[:-1] + bytes([bad[-1] ^ 1])))
    with Stager("memory://damaged-b", directory=tmp_path, durable=True) as service:
        service.start()
        with open_feed(None, service.address) as feed:
            assert feed.wait_until_read(60.0)
            _, arrays = feed.points("novelty", "tica[0]")
            assert sorted(arrays["offset"].tolist()) == [*range(10), *range(20, 30)]
            assert feed.run()["memory"]["missed"] == {topic: 1}
            wait_for(lambda: "damaged_record" in [e["kind"] for e in feed.events()["events"]])
            told = next(e for e in feed.events()["events"] if e["kind"] == "damaged_record")
            assert f"Record 1 of {topic} is damaged" in told["message"]
