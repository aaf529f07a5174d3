"""ADIOS2 writers in other processes, and what of them arrives in staging."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from bridge.errors import (
    ConfigError,
    ConnectionLost,
    FrameOrderError,
    NobodyListening,
    ProtocolError,
    SchemaError,
)
from bridge.staging import StreamOptions
from tests.bridge.staging.adios.writers import positions


def check(batch, steps, atoms=4):
    assert batch.steps.tolist() == list(steps)
    assert batch.times.tolist() == [s * 0.5 for s in steps]
    for row, step in zip(batch["positions"], steps, strict=True):
        assert np.array_equal(row, positions(step, atoms))


@pytest.mark.parametrize("engine", ["SST", "BP5"])
def test_a_stream_from_its_first_to_its_last_step(writer, ingest, frames, client, engine, events):
    name = "run" if engine == "SST" else "run.bp"
    running = ingest(name)
    writer(name, engine=engine, steps=20, every=5, atoms=7)
    done = running.wait()
    assert (done.frames, done.skipped, done.last_step, done.finished) == (20, 0, 95, True)
    check(frames(), range(0, 100, 5), 7)
    schema = client.schema("sim")
    assert [(v.name, v.dtype, v.shape, v.unit) for v in schema.variables] == [
        ("positions", "<f4", (7, 3), "nm")
    ]
    assert (schema.time_unit, schema.attributes["source"]) == ("ps", f"ADIOS2 {engine}")
    assert client.status("frames/sim").finished
    assert [e.kind for e in events()] == ["adios_opened"]


def test_a_reader_that_comes_late(writer, ingest, frames):
    process = writer("run", readers=0, steps=40, lockstep=1, queue=4)
    assert [process.stdout.readline() for _ in range(2)] == ["open\n", "ready\n"]
    for _ in range(10):
        process.stdin.write("\n")
    process.stdin.flush()
    running = ingest("run")
    # Steps come only once somebody asked for them, until the reader is there.
    while not running.opened.wait(0.05):
        process.stdin.write("\n")
        process.stdin.flush()
    process.stdin.write("\n" * 40)
    process.stdin.close()
    assert running.wait().finished
    steps = frames().steps
    assert steps[-1] == 39
    assert np.all(np.diff(steps) == 1)


@pytest.mark.parametrize("placed", [0, 1], ids=["local rows", "global rows"])
def test_ranks_are_joined_step_by_step(writer, ingest, frames, placed):
    for rank in range(3):
        writer(f"r{rank}", rank=rank, ranks=3, atoms=10, steps=12, placed=placed)
    done = ingest("r0", "r1", "r2").wait()
    assert (done.frames, done.skipped) == (12, 0)
    check(frames(), range(12), 10)


def test_a_rank_that_left_out_a_step(writer, ingest, frames, events):
    writer("r0", rank=0, ranks=2, steps=8, skip=3)
    writer("r1", rank=1, ranks=2, steps=8)
    done = ingest("r0", "r1").wait()
    assert (done.frames, done.skipped) == (7, 1)
    check(frames(), [0, 1, 2, 4, 5, 6, 7])
    assert [e.kind for e in events()] == ["adios_opened", "skipped"]


def test_a_rank_that_ends_before_the_others(writer, ingest):
    writer("r0", rank=0, ranks=2, steps=3)
    writer("r1", rank=1, ranks=2, steps=8)
    with pytest.raises(ConnectionLost, match="closed it after step 2, while other writers"):
        ingest("r0", "r1").wait()


def test_a_writer_that_is_killed_in_a_step(writer, ingest, frames, client, events):
    writer("run", steps=10, kill=6)
    with pytest.raises(ConnectionLost, match=r"went away without closing it.*step \d") as told:
        ingest("run").wait()
    # Steps that wait in the writer's queue, two at most, die with it.
    last = int(str(told.value).rstrip(".").rpartition(" ")[2])
    assert 3 <= last <= 5
    check(frames(), range(last + 1))
    status = client.status("frames/sim")
    assert (status.finished, status.connected) == (False, False)
    last = events()[-1]
    assert (last.kind, last.level, last.simulation) == ("adios_failed", "error", "sim")


def test_another_writer_takes_over(writer, ingest, frames, events):
    writer("run", steps=10, kill=6)
    running = ingest("run", reopen=60.0)
    while running.ingest.lives < 1 or any(e.kind == "adios_retry" for e in events()) is False:
        assert running.error is None
    writer("run", first=4, steps=6)
    done = running.wait()
    assert (done.frames, done.lives, done.finished) == (10, 2, True)
    # Steps that were on their way when the writer was killed come from the next one.
    assert 0 <= done.skipped <= 2
    whole = frames()
    check(whole, range(10))
    first = 4 + done.skipped
    assert whole.epochs.tolist() == [0] * first + [1] * (10 - first)


def test_a_step_that_never_ends(writer, ingest, events):
    process = writer("run", steps=10, hang=3)
    with pytest.raises(NobodyListening, match=r"Waited 2 s for the next step of .* after step 2"):
        ingest("run", patience=2.0).wait()
    assert process.poll() is None
    assert [e.kind for e in events()] == ["adios_opened", "waiting", "adios_failed"]


def test_a_writer_that_stands_still_while_its_data_are_fetched(writer, ingest, client):
    # Its metadata have arrived, its data have not: ADIOS2 would wait for ever. The ingest stands
    # still meanwhile, since its stream is full.
    atoms = 50_000
    size = atoms * 12
    options = StreamOptions(capacity=4 * size, segment=2 * size, keep=0)
    process = writer("run", steps=20, atoms=atoms, queue=8, stop=6, lockstep=1)
    running = ingest(
        "run", patience=1.0, options=options, parameters={"SpeculativePreloadMode": "OFF"}
    )
    process.stdin.write("\n")
    process.stdin.flush()
    assert running.opened.wait(60.0), running.error
    process.stdin.write("\n" * 19)
    process.stdin.flush()
    stat = Path(f"/proc/{process.pid}/stat")
    end = time.monotonic() + 60.0
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < end, "The writer did not get as far as it should."
    while running.error is None:
        client.commit("g", {"frames/sim": client.status("frames/sim").end})
        assert time.monotonic() < end + 20.0, "The ingest went on waiting."
    with pytest.raises(NobodyListening, match=r"Waited 6 s for the data of a step.*was ended"):
        running.wait()


def test_a_file_that_its_writer_left(writer, ingest, frames):
    writer("run.bp", engine="BP5", steps=10, kill=6).wait()
    running = ingest("run.bp", patience=1.0)
    with pytest.raises(NobodyListening, match=r"after step 5: the writer neither finished one"):
        running.wait()
    check(frames(), range(6))
    # Its next life appends; what is in the stream already is passed over.
    writer("run.bp", engine="BP5", steps=12).wait()
    done = ingest("run.bp").wait()
    assert (done.frames, done.skipped) == (6, 6)
    check(frames(), range(12))
    assert set(frames().epochs.tolist()) == {0}


def test_nobody_writes(ingest, tmp_path: Path):
    with pytest.raises(NobodyListening, match=r"Waited 0.5 s for a writer .*no.sst"):
        ingest("no", open_timeout=0.5).wait()
    with pytest.raises(NobodyListening, match=r"Waited 0.5 s for the file .*no.bp"):
        ingest("no.bp", open_timeout=0.5).wait()


def test_a_contact_that_was_left_behind(writer, ingest, tmp_path: Path):
    process = writer("run", readers=0, lockstep=1)
    assert [process.stdout.readline() for _ in range(2)] == ["open\n", "ready\n"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run.sst").exists()
    with pytest.raises(NobodyListening, match="an earlier one may have left it behind"):
        ingest("run", open_timeout=1.0).wait()


@pytest.mark.parametrize("damage", ["text", "index", "cut"])
def test_a_damaged_file(writer, ingest, tmp_path: Path, damage: str):
    path = tmp_path / "run.bp"
    if damage == "text":
        path.write_text("This is no ADIOS2 file.\n" * 10)
    else:
        writer("run.bp", engine="BP5").wait()
        index = path / "md.idx"
        data = index.read_bytes()
        index.write_bytes(b"\xff" * len(data) if damage == "index" else data[:17])
    with pytest.raises((ProtocolError, NobodyListening), match=r"run\.bp"):
        ingest("run.bp", open_timeout=4.0, patience=2.0).wait()


def test_a_wrong_name_in_the_mapping(writer, ingest, events):
    writer("run", steps=50)
    mapping = {"variables": {"positions": "positoins"}}
    with pytest.raises(ConfigError, match="did you mean 'positions'"):
        ingest("run", mapping=mapping).wait()
    assert "did you mean" in events()[-1].message


def test_steps_that_go_back(writer, ingest, frames):
    writer("run", steps=5, every=-1, first=-10)
    running = ingest("run", mapping={"variables": {"p": "positions"}})
    with pytest.raises((FrameOrderError, SchemaError), match="steps must increase"):
        running.wait()


def test_it_can_be_told_to_end(writer, ingest, client):
    process = writer("run", steps=100, lockstep=1)
    process.stdin.write("\n" * 5)
    process.stdin.flush()
    running = ingest("run")
    assert running.opened.wait(60.0), running.error
    running.ending.set()
    done = running.wait()
    assert not done.finished
    assert not client.status("frames/sim").finished


def test_a_full_stream_makes_the_writer_wait(writer, ingest, client):
    atoms = 20_000
    size = atoms * 12
    options = StreamOptions(capacity=8 * size, segment=2 * size, keep=0)
    process = writer("run", steps=40, atoms=atoms, queue=2)
    running = ingest("run", options=options)
    topic, seen = "frames/sim", 0
    assert running.opened.wait(60.0), running.error
    while seen < 40:
        with client.fetch({topic: seen}, group="g", commit={topic: seen}, wait=60.0) as got:
            assert got
            for batch in got.batches:
                assert batch.steps.tolist() == list(range(seen, seen + len(batch)))
                seen += len(batch)
    client.commit("g", {topic: seen})
    assert running.wait().frames == 40
    assert process.wait() == 0
