"""A trajectory file as a live stream, against MDAnalysis reading the same file."""

from __future__ import annotations

from pathlib import Path

import MDAnalysis
import numpy as np
import pytest
from MDAnalysisTests.datafiles import DCD, GRO, PSF, XTC

from bridge.errors import ConfigError
from bridge.staging import Stager, StagerClient
from bridge.staging.connection import Connection
from sim_adapters.replay import Replay
from tests.sim_adapters.common import read_stream


@pytest.mark.parametrize(
    ("files", "select", "every"),
    [((PSF, DCD), "name CA", 1), ((PSF, DCD), "all", 7), ((GRO, XTC), "protein", 2)],
)
def test_what_is_replayed_is_what_mdanalysis_reads(
    stager: Stager, client: StagerClient, files: tuple[str, str], select: str, every: int
):
    table = {
        "topology": str(files[0]), "trajectory": str(files[1]), "name": "adk",
        "select": select, "every": every,
    }  # fmt: skip
    replay = Replay.from_table(table, Path())
    replay.run("adk", Connection(address=stager.address), seed=0, resume=False)
    found = read_stream(client, "adk")
    universe = MDAnalysis.Universe(*files)
    atoms = universe.select_atoms(select)
    frames = [(ts.time, atoms.positions.copy()) for ts in universe.trajectory[::every]]
    assert len(found) == len(frames)
    np.testing.assert_allclose(found.times - found.times[0], [t - frames[0][0] for t, _ in frames])
    expected = np.array([x for _, x in frames]) / 10.0
    np.testing.assert_allclose(found["positions"], expected, atol=1e-5)
    schema = client.schema("adk")
    assert schema.variable("positions").unit == "nm"
    assert schema.topology is not None
    assert schema.topology.names == tuple(atoms.names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": "nowhere.dcd"}, "'trajectory' names does not exist"),
        ({"every": 0}, "must be at least 1"),
        ({"evry": 1}, "did you mean 'every'"),
        ({"speed": 1.0, "frames_per_second": 1.0}, "The pace is given by"),
    ],
)
def test_tables_that_cannot_be(change: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        Replay.from_table({"topology": str(PSF), "trajectory": str(DCD), **change}, Path())
