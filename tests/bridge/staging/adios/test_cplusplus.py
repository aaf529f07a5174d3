"""A C++ program built against the wheel's libraries, and the command line that reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.bridge.runs.commands import finish, start

COMPILER = shutil.which("g++")


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None:
        pytest.skip("There is no g++.")
    spec = find_spec("adios2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    if not (folder / "include" / "adios2.h").exists():
        pytest.skip("This ADIOS2 has no headers beside it.")
    out = tmp_path_factory.mktemp("cpp") / "simulation"
    command = [
        COMPILER, "-std=c++17", str(Path(__file__).with_name("writer.cpp")), "-o", str(out),
        f"-I{folder}/include", f"-L{folder}", "-ladios2_cxx", "-ladios2_core",
        f"-Wl,-rpath,{folder}", f"-Wl,-rpath,{folder}/../adios2.libs",
        "-Wl,--allow-shlib-undefined",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return out


@pytest.mark.parametrize("engine", ["SST", "BP5"])
def test_what_it_writes_is_read(simulation, program, stager, client, frames, tmp_path, engine):
    name = "run" if engine == "SST" else "run.bp"
    mapping = tmp_path / "map.toml"
    mapping.write_text(
        'step = "timestep"\ndt = 0.002\ntime_unit = "ps"\n'
        '[variables.positions]\nfrom = "x"\nto = "nm"\n'
        '[variables.energy]\nfrom = "pe"\nunit = "eV"\n'
    )
    reader = start(
        "ingest", tmp_path / name, "--simulation", "cpp", "--stager", stager.address,
        "--mapping", mapping, "--open-timeout", "30 s", "--patience", "20 s", "--json",
    )  # fmt: skip
    writer = program(simulation, engine, name, 12, 50)
    code, out, errors = finish(reader)
    assert code == 0, errors
    assert writer.wait(20) == 0
    assert json.loads(out) == {
        "simulation": "cpp", "address": stager.address, "frames": 12, "skipped": 0,
        "last_step": 110, "finished": True,
    }  # fmt: skip
    found = frames("cpp")
    assert found.steps.tolist() == list(range(0, 120, 10))
    assert found.times == pytest.approx(np.arange(12) * 0.02)
    values = np.arange(150.0).reshape(50, 3) * 0.25
    for step in range(12):
        assert found["positions"][step] == pytest.approx((values + step) * 0.1)
        assert found["energy"][step] == -0.5 * step
    schema = client.schema("cpp")
    assert (schema.variable("positions").unit, schema.variable("energy").unit) == ("nm", "eV")


def test_a_wrong_mapping_on_the_command_line(simulation, program, stager, tmp_path):
    mapping = tmp_path / "map.toml"
    mapping.write_text('[variables.positions]\nfrom = "X"\n')
    program(simulation, "BP5", "run.bp", 3, 5).wait(20)
    reader = start(
        "ingest", tmp_path / "run.bp", "--simulation", "cpp", "--stager", stager.address,
        "--mapping", mapping,
    )  # fmt: skip
    code, _, errors = finish(reader)
    assert code == 2
    assert "map.toml, [variables.positions] names the ADIOS2 variable 'X'" in errors
