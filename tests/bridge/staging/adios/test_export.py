"""Topics in ADIOS2 files and streams, read by others and by ourselves."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from bridge import FrameBatch, StreamSchema, Variable
from bridge.codec import encode_batch
from bridge.errors import ConfigError, NobodyListening, StreamFull, UnknownTopic
from bridge.staging import Producer, StagerClient
from bridge.staging.adios import Output, archive, publish
from bridge.transports.adios.stored import Archive
from tests.bridge.runs.commands import finish, headrace_json, start
from tests.bridge.staging.adios.conftest import lines_of

SCHEMA = StreamSchema(
    (
        Variable("positions", "<f4", (5, 3), "nm"),
        Variable("forces", "<f8", (5, 3), "kJ/mol/nm"),
        Variable("charge", "<f8", (5,), "e"),
        Variable("box", "<f8", (3, 3), "nm"),
        Variable("energy", "<f8", (), "kJ/mol"),
        Variable("frozen", "|b1", (5,)),
        Variable("half", "<f2", (2, 2)),
        Variable("label", "|S4", (3,)),
        Variable("phase", "<c16", (2,)),
        Variable("nothing", "<f4", (0, 3)),
    ),
    time_unit="ps",
    attributes={"code": "mine"},
)


def frame(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "positions": rng.random((5, 3), np.float32),
        "forces": rng.normal(size=(5, 3)) * np.array([1.0, np.nan, -np.inf]),
        "charge": rng.normal(size=5),
        "box": rng.random((3, 3)),
        "energy": np.float64(-step / 3),
        "frozen": rng.random(5) > 0.5,
        "half": rng.random((2, 2)).astype(np.float16),
        "label": np.array([b"a", b"bc", str(step).encode()], "S4"),
        "phase": rng.normal(size=2) + 1j * rng.normal(size=2),
        "nothing": np.zeros((0, 3), np.float32),
    }


def fill(stager, steps: range, *, finished: bool = True, epoch: int = 0) -> None:
    with Producer("sim", SCHEMA, address=stager.address) as producer:
        for step in steps:
            producer.put(step, step / 7, frame(step), epoch=epoch)
        producer.close(finished=finished)


def same(one: FrameBatch, other: FrameBatch) -> None:
    for a, b in [
        (one.offsets, other.offsets), (one.steps, other.steps), (one.times, other.times),
        (one.epochs, other.epochs),
    ]:  # fmt: skip
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()
    assert list(one.columns) == list(other.columns)
    for name, array in one.columns.items():
        assert array.dtype == other[name].dtype, name
        assert array.shape == other[name].shape, name
        assert array.tobytes() == other[name].tobytes(), name


def check(path: Path, frames) -> None:
    with Archive(path) as found:
        assert found.schema.variables == SCHEMA.variables
        assert (found.schema.time_unit, found.schema.attributes) == ("ps", {"code": "mine"})
        same(FrameBatch.concatenate(list(found)), frames())


@pytest.mark.parametrize("layout", ["plain", "openpmd"])
def test_frames_come_back_bit_for_bit(stager, client, frames, tmp_path: Path, layout: str):
    fill(stager, range(0, 60, 3))
    path = tmp_path / "sub" / "run.bp"
    done = archive(client, "sim", path, layout=layout)
    assert (done.frames, done.dropped, done.next_offset, done.finished) == (20, 0, 20, True)
    check(path, frames)
    again = archive(client, "sim", path, layout=layout)
    assert (again.frames, again.finished) == (0, True)
    check(path, frames)


def test_results_come_back_bit_for_bit(client, tmp_path: Path):
    topic, sent = "results/pca/sim", []
    rng = np.random.default_rng(0)
    for number, rows in enumerate([3, 1, 0, 7]):
        columns = {
            "mode": rng.normal(size=(rows, 2)).astype(np.float32), "n": np.arange(rows),
            "good": rng.random(rows) > 0.5, "name": np.array(["é"] * rows, "U2"),
        }  # fmt: skip
        batch = FrameBatch.from_arrays("sim", columns, first_offset=number * 10)
        meta = {"pipeline": "pca", "n": number}
        client.append(topic, [bytes(encode_batch(batch, meta=meta))])
        sent.append((batch, meta))
    done = archive(client, topic, tmp_path / "pca.bp", follow=False)
    assert done.frames == 4
    with Archive(tmp_path / "pca.bp") as found:
        assert found.topic == topic
        read = list(found.records())
    assert [meta for _, meta in read] == [meta for _, meta in sent]
    for (one, _), (other, _) in zip(sent, read, strict=True):
        same(one, other)


def test_it_goes_on_after_it_was_killed(stager, client, frames, tmp_path: Path):
    producer = Producer("sim", SCHEMA, address=stager.address)
    path, step = tmp_path / "run.bp", 0
    for _ in range(3):
        command = ("archive", "sim", path, "--stager", stager.address)
        process = start(*command)
        group, begin = "archive/run.bp", step
        while client.status("frames/sim").groups.get(group, 0) < begin + 10:
            producer.put(step, step / 7, frame(step))
            producer.flush()
            step += 1
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    producer.close()
    said = headrace_json("archive", "sim", path, "--stager", stager.address)
    assert (said["next_offset"], said["finished"], said["missed"]) == (step, True, 0)
    check(path, frames)


def test_an_archive_is_ingested_again(stager, client, ingest, frames, tmp_path: Path):
    fill(stager, range(10), finished=False)
    fill(stager, range(10, 20), epoch=1)
    archive(client, "sim", tmp_path / "run.bp")
    done = ingest("run.bp", simulation="again").wait()
    assert (done.frames, done.finished) == (20, True)
    one, other = frames("sim"), frames("again")
    assert other.epochs.tolist() == [0] * 10 + [1] * 10
    same(one, other)
    assert client.schema("again") == SCHEMA


def test_what_cannot_be_archived(stager, client, tmp_path: Path):
    fill(stager, range(10))
    with pytest.raises(ConfigError, match=r"ends in \.bp"):
        archive(client, "sim", tmp_path / "run.h5")
    with pytest.raises(ConfigError, match="neither frames nor results"):
        archive(client, "events/x", tmp_path / "run.bp")
    with pytest.raises(UnknownTopic, match=r"frames/sum.*there are: frames/sim"):
        archive(client, "sum", tmp_path / "run.bp")
    archive(client, "sim", tmp_path / "run.bp")
    with Producer("other", SCHEMA, address=stager.address) as producer:
        producer.put(0, 0.0, frame(0))
    with pytest.raises(ConfigError, match="an archive of frames/sim, not of frames/other"):
        archive(client, "other", tmp_path / "run.bp")
    (tmp_path / "text.bp").write_text("This is no archive.\n")
    with pytest.raises(ConfigError, match=r"text\.bp is there and cannot be read"):
        archive(client, "sim", tmp_path / "text.bp")
    with pytest.raises(ConfigError, match="not the archive of a topic"):
        _read_no_archive(tmp_path)


def _read_no_archive(folder: Path) -> None:
    with Output(str(folder / "o.bp"), SCHEMA) as output:
        output.put(0, 0.0, frame(0))
    Archive(folder / "o.bp")


def test_another_run_has_its_own_file(stager, client, tmp_path: Path):
    with Output(str(tmp_path / "run.bp"), SCHEMA, topic="frames/sim") as output:
        for step in range(20):
            output.put(step, 0.0, frame(step), offset=step)
    fill(stager, range(10))
    with pytest.raises(ConfigError, match=r"up to offset 19.*another run's"):
        archive(client, "sim", tmp_path / "run.bp")


@pytest.mark.parametrize("kind", ["adios", "openpmd"])
def test_a_stream_goes_on_to_other_tools(stager, reader, tmp_path: Path, kind: str):
    if kind == "openpmd":
        pytest.importorskip("openpmd_api")
    fill(stager, range(0, 40, 4))
    seen = reader(kind, "live")
    with StagerClient(stager.address) as client:
        done = publish(
            client, "sim", str(tmp_path / "live"), readers=1, when_full="block", from_start=True
        )
    assert (done.frames, done.dropped, done.finished) == (10, 0, True)
    opened, *steps = lines_of(seen)
    assert opened == {"opened": "live"}
    assert len(steps) == 10
    for number, found in enumerate(steps):
        wanted = frame(number * 4)
        if kind == "adios":
            assert (found["step"], found["time"]) == (number * 4, number * 4 / 7)
            assert found["energy"] == wanted["energy"]
            columns = [found[f"/data/particles/atoms/position/{c}"] for c in "xyz"]
            assert np.array_equal(np.column_stack(columns), wanted["positions"])
        else:
            assert found["iteration"] == number * 4
            assert found["seconds"] == pytest.approx(number * 4 / 7 * 1e-12)
            y = found["atoms/position/y"]
            assert (y["unit"], y["dimension"][0]) == (1e-9, 1.0)
            assert np.array_equal(np.float32(y["values"]), wanted["positions"][:, 1])
            assert found["atoms/force/x"]["unit"] == pytest.approx(1e12)


def test_nobody_reads_what_is_published(stager, client, tmp_path: Path):
    fill(stager, range(30))
    done = publish(client, "sim", str(tmp_path / "live"), from_start=True)
    assert (done.frames + done.dropped, done.finished) == (30, True)


def test_readers_come_late_and_go(stager, client, reader, tmp_path: Path):
    producer = Producer("sim", SCHEMA, address=stager.address)
    producer.put(0, 0.0, frame(0))
    producer.flush()
    process = start(
        "publish",
        "sim",
        tmp_path / "live",
        "--stager",
        stager.address,
        "--layout",
        "plain",
        "--json",
    )
    enough = threading.Event()

    def simulate() -> None:
        step = 1
        while not enough.wait(0.002):
            producer.put(step, step / 7, frame(step))
            step += 1
        producer.close()

    thread = threading.Thread(target=simulate)
    thread.start()
    try:
        first = reader("adios", "live")
        assert all(first.stdout.readline() for _ in range(5))
        first.kill()
        second = reader("adios", "live")
        seen = [json.loads(second.stdout.readline()) for _ in range(5)]
    finally:
        enough.set()
        thread.join()
    steps = [found["step"] for found in [*seen[1:], *lines_of(second)]]
    assert steps == sorted(set(steps))
    assert finish(process)[0] == 0


def test_no_reader_comes(tmp_path: Path):
    with pytest.raises(NobodyListening, match=r"Waited 1 s for a reader of the SST stream"):
        Output(str(tmp_path / "live"), SCHEMA, readers=1, open_timeout=1.0)


def test_a_reader_that_stands_still(reader, tmp_path: Path):
    seen = reader("adios", "live")
    schema = StreamSchema.from_arrays({"x": np.zeros((1000, 3))})
    output = Output(
        str(tmp_path / "live"), schema, readers=1, parameters={"QueueLimit": "1"}, patience=1.0
    )
    seen.stdout.readline()
    seen.send_signal(signal.SIGSTOP)

    def put_all() -> None:
        for step in range(1000):
            output.put(step, 0.0, {"x": np.ones((1000, 3))})

    with pytest.raises((NobodyListening, StreamFull), match="Waited 1 s for room in the queue"):
        put_all()
    with pytest.raises((NobodyListening, StreamFull), match="Waited 1 s"):
        output.close()


def test_two_tools_read_while_it_is_archived(stager, client, tmp_path: Path, ingest, frames):
    # The archive is a growing BP5 file: it can be tailed by ingest as it comes.
    producer = Producer("sim", SCHEMA, address=stager.address)
    producer.put(0, 0.0, frame(0))
    producer.flush()

    def write() -> None:
        with StagerClient(stager.address) as other:
            archive(other, "sim", tmp_path / "run.bp")

    thread = threading.Thread(target=write)
    thread.start()
    running = ingest("run.bp", simulation="copy")
    for step in range(1, 50):
        producer.put(step, step / 7, frame(step))
    producer.close()
    thread.join()
    assert running.wait().frames == 50
    same(frames("sim"), frames("copy"))
