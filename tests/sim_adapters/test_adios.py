"""A link that writes ADIOS2: read by others, by ourselves, and steered through a stager."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bridge import Capability, Command
from bridge.errors import FrameOrderError, SchemaError, SteeringError
from bridge.staging import Stager, StagerClient
from bridge.staging.adios import Ingest
from sim_adapters.link import link
from tests.sim_adapters.common import read_stream

pytest.importorskip("adios2", reason="ADIOS2 is not installed.")

READERS = Path(__file__).parents[1] / "bridge" / "staging" / "adios" / "readers.py"
UNITS = {"positions": "nm", "velocities": "nm/ps", "energy": "kJ/mol"}


def arrays(step: int) -> dict[str, np.ndarray]:
    x = np.arange(12, dtype=np.float32).reshape(4, 3) + step
    return {"positions": x, "velocities": x * 0.5, "energy": np.float64(step)}


def read(kind: str, path: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, READERS, kind, path],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()][1:]


def test_a_file_that_every_reader_reads(tmp_path: Path):
    path = tmp_path / "run.bp"
    with link("melt", transport="adios2", contact=path, units=UNITS, time_unit="ps") as stream:
        for step in range(0, 40, 2):
            stream.put(step, step * 0.5, **arrays(step))
            assert stream.service(step, step * 0.5)
        assert not stream.stopped
        assert list(stream.commands()) == []
        stream.close()
        stream.close()
    steps = read("adios", path)
    assert [s["step"] for s in steps] == list(range(0, 40, 2))
    assert steps[3]["/data/particles/atoms/velocity/z"] == [4.0, 5.5, 7.0, 8.5]


def test_openpmd_reads_it(tmp_path: Path):
    pytest.importorskip("openpmd_api")
    path = tmp_path / "run.bp"
    with link("melt", transport="adios2", contact=path, units=UNITS, time_unit="ps") as stream:
        for step in range(5):
            stream.put(step, step * 0.5, **arrays(step))
    steps = read("openpmd", path)
    assert [s["iteration"] for s in steps] == list(range(5))
    assert [s["seconds"] for s in steps] == pytest.approx([n * 0.5e-12 for n in range(5)])
    for step, found in enumerate(steps):
        velocity = found["atoms/velocity/y"]
        assert velocity["unit"] == pytest.approx(1e3)
        assert velocity["dimension"][:3] == [1.0, 0.0, -1.0]
        assert velocity["values"] == arrays(step)["velocities"][:, 1].tolist()
        assert found["atoms/position/x"]["unit"] == 1e-9


def test_the_next_life_goes_on_with_the_file(stager: Stager, client: StagerClient, tmp_path: Path):
    path = tmp_path / "run.bp"
    for begin in (0, 5):
        with link("melt", transport="adios2", contact=path, units=UNITS, every=1) as stream:
            for step in range(begin, begin + 6):
                # The second life repeats the last step of the first.
                assert stream.put(step, step * 0.5, **arrays(step)) is (step > 5 or begin == 0)
    done = Ingest([str(path)], "melt", address=stager.address, patience=20.0).run()
    assert done.frames == 11
    found = read_stream(client, "melt")
    assert found.epochs.tolist() == [0] * 6 + [1] * 5
    for row, step in zip(found["positions"], found.steps, strict=True):
        assert np.array_equal(row, arrays(step)["positions"])


def test_commands_are_not_carried():
    with pytest.raises(SteeringError, match=r"Commands are not carried over ADIOS2.*\(stop\)"):
        link("melt", transport="adios2", capabilities=[Capability("stop")])


def test_both_ways_with_a_stager(stager: Stager, client: StagerClient, send, tmp_path: Path):
    path = tmp_path / "run.bp"
    with link(
        "melt", transport="adios2", contact=path, stager=stager.address, units=UNITS,
        capabilities=[Capability("stop")], example=arrays(0),
    ) as stream:  # fmt: skip
        send(Command("stop", "melt", "end", at_step=20))
        stream.wait(60.0)
        step = 0
        while not stream.stopped and step < 10_000:
            if stream.put(step, step * 0.5, **arrays(step)):
                stream.service(step, step * 0.5)
            step += 1
    staged = read_stream(client, "melt")
    assert [s["step"] for s in read("adios", path)] == staged.steps.tolist()
    assert staged.steps[-1] == 20


def test_what_does_not_fit_is_told(tmp_path: Path):
    with link("melt", transport="adios2", contact=tmp_path / "run.bp") as stream:
        with pytest.raises(SteeringError, match="no schema yet"):
            _ = stream.output
        stream.put(0, 0.0, **arrays(0))
        with pytest.raises(SchemaError, match=r"shape \(2, 3\).*\(4, 3\)"):
            stream.put(1, 0.5, **{**arrays(1), "positions": np.zeros((2, 3), np.float32)})
        with pytest.raises(SchemaError, match="lacks the variable 'energy'"):
            stream.put(1, 0.5, positions=np.zeros((4, 3)), velocities=np.zeros((4, 3)))
        with pytest.raises(SchemaError, match="'more', which"):
            stream.put(1, 0.5, **arrays(1), more=1.0)
        with pytest.raises(FrameOrderError, match=r"Step 0 .* after step 0"):
            stream.put_many([0], [0.0], **{k: [v] for k, v in arrays(0).items()})
        stream.event("note", "This goes to the log.", number=1)
        stream.put_many([3, 4], [1.5, 2.0], **{k: [v, v] for k, v in arrays(3).items()})
        stream.wait(0.001)
    assert [s["step"] for s in read("adios", tmp_path / "run.bp")] == [0, 3, 4]


def test_frames_nobody_reads_cost_nothing(tmp_path: Path):
    contact = tmp_path / "live"
    with link("melt", transport="adios2", contact=contact, units=UNITS) as stream:
        for step in range(200):
            assert stream.put(step, step * 0.5, **arrays(step))
        stream.output.flush(20.0)
        assert stream.output.statistics().written == 200
        assert (tmp_path / "live.sst").exists()
    assert not (tmp_path / "live.sst").exists()
