"""MDAnalysis's analyses over running streams: the same as over the file."""

from __future__ import annotations

import threading
from collections import UserDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MDAnalysis as mda  # noqa: N813 - as everybody does
import numpy as np
import pytest
from MDAnalysis.analysis import align, atomicdistances, contacts, diffusionmap, gnm, polymer
from MDAnalysis.analysis.base import AnalysisBase, AnalysisFromFunction
from MDAnalysis.analysis.bat import BAT
from MDAnalysis.analysis.dihedrals import Dihedral, Janin, Ramachandran
from MDAnalysis.analysis.helix_analysis import HELANAL
from MDAnalysis.analysis.hydrogenbonds import HydrogenBondAnalysis
from MDAnalysis.analysis.msd import EinsteinMSD
from MDAnalysis.analysis.pca import PCA
from MDAnalysis.analysis.rdf import InterRDF, InterRDF_s
from MDAnalysis.analysis.rms import RMSD, RMSF
from MDAnalysis.coordinates.base import StreamReaderBase
from MDAnalysisTests.datafiles import DCD, GRO, PSF, XTC

import sim_adapters.mdanalysis  # noqa: F401 - lets MDAnalysis know of streams
from bridge.errors import ConfigError
from bridge.staging import Stager
from bridge.staging.connection import Connection
from sim_adapters.mdanalysis_analysis import AnalysisRun, run_analysis
from sim_adapters.replay import Replay

N = 98


def replay(stager: Stager, **table: Any) -> None:
    keys = {"topology": str(PSF), "trajectory": str(DCD), "name": "adk", **table}
    connection = Connection(address=stager.address)
    Replay.from_table(keys, Path()).run("adk", connection, seed=0, resume=False)


def url(stager: Stager) -> str:
    return f"headrace://{stager.address.removeprefix('tcp://')}/adk"


@pytest.fixture(scope="module")
def finished() -> Iterator[Any]:
    """A Universe over adenylate kinase's 98 frames, whose stream has ended."""
    with Stager() as stager:
        stager.start()
        replay(stager)
        yield mda.Universe(PSF, url(stager))


@pytest.fixture
def running(stager: Stager) -> Iterator[Any]:
    """A Universe over the same file, of which the second half comes while it is read."""
    thread = threading.Thread(target=replay, args=(stager,), kwargs={"frames_per_second": 120.0})
    thread.start()
    universe = mda.Universe(PSF, url(stager))
    yield universe
    thread.join()


def make_main(u: Any) -> dict[str, Any]:
    ca = u.select_atoms("name CA")
    oxygens = u.select_atoms("name OD1 OD2")
    return {
        "RMSD": RMSD(u, select="backbone", groupselections=["name CA", "resid 1-20"]),
        "RMSF": RMSF(ca),
        "InterRDF": InterRDF(oxygens, u.select_atoms("name NZ"), nbins=40, norm="density"),
        "Dihedral": Dihedral([u.atoms[4:8], u.atoms[30:34]]),
        "Ramachandran": Ramachandran(u.select_atoms("resid 2-40")),
        "AnalysisFromFunction": AnalysisFromFunction(lambda a: a.radius_of_gyration(), ca),
    }


def assert_same(one: Any, other: Any, *, exactly: bool, where: str) -> None:
    if isinstance(one, dict | UserDict):
        assert set(one) == set(other), where
        for name in one:
            assert_same(one[name], other[name], exactly=exactly, where=f"{where}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, exactly=exactly, where=f"{where}[{i}]")
    elif isinstance(one, np.ndarray | float | int | np.generic):
        a, b = np.asarray(one), np.asarray(other)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), where
        if a.dtype.kind == "O":
            assert_same(list(a), list(b), exactly=exactly, where=where)
        elif exactly:
            np.testing.assert_array_equal(a, b, err_msg=where)
        else:
            # Positions went to nm and back in float32.
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-4, err_msg=where)


@pytest.mark.filterwarnings("ignore:.*(dihedral|Ramachandran|Cannot determine).*:UserWarning")
def test_results_over_a_running_stream_are_those_of_the_file(running: Any) -> None:
    with pytest.raises(RuntimeError, match="is unknown while it runs"):
        RMSD(running, select="name CA").run()
    analyses = make_main(running)
    lengths, rmsf = [], []

    def report(run: AnalysisRun) -> None:
        lengths.append(len(run.so_far(analyses["RMSD"]).results.rmsd))
        rmsf.append(run.so_far(analyses["RMSF"]).results.rmsf)

    run = run_analysis(*analyses.values(), every=20, report=report)
    assert run.n_frames == N
    assert lengths == [20, 40, 60, 80]
    file = mda.Universe(PSF, DCD)
    of_file, of_stream = make_main(file), make_main(running)
    for name, analysis in analyses.items():
        by_itself = of_stream[name].run()
        assert_same(by_itself.results, analysis.results, exactly=True, where=name)
        assert (analysis.n_frames, analysis.stop) == (by_itself.n_frames, by_itself.stop)
        np.testing.assert_array_equal(analysis.frames, by_itself.frames)
        np.testing.assert_array_equal(analysis.times, by_itself.times)
        assert_same(of_file[name].run().results, analysis.results, exactly=False, where=name)
    # Results so far were those of the frames so far.
    for n, found in zip(lengths, rmsf, strict=True):
        wanted = make_main(running)["RMSF"].run(stop=n).results.rmsf
        np.testing.assert_array_equal(found, wanted)


def make_more(u: Any) -> dict[str, Callable[[], Any]]:
    ca = u.select_atoms("name CA")
    part = u.select_atoms("protein and resid 1-12")
    acidic, basic = u.select_atoms("name OE* OD*"), u.select_atoms("name NH* NZ")
    return {
        "AtomicDistances": lambda: atomicdistances.AtomicDistances(ca[:20], ca[20:40]),
        "AverageStructure": lambda: align.AverageStructure(u, u, select="name CA", ref_frame=0),
        "BAT": lambda: BAT(part),
        "Contacts": lambda: contacts.Contacts(
            u, select=("name OE* OD*", "name NH* NZ"), refgroup=(acidic, basic), radius=6.0
        ),
        "DistanceMatrix": lambda: diffusionmap.DistanceMatrix(u, select="name CA"),
        "EinsteinMSD": lambda: EinsteinMSD(ca, msd_type="xyz", fft=False),
        "GNM": lambda: gnm.GNMAnalysis(u, select="name CA and resid 1-40"),
        "HELANAL": lambda: HELANAL(u, select="name CA and resid 161-187"),
        "HydrogenBonds": lambda: HydrogenBondAnalysis(
            u, donors_sel="name N", hydrogens_sel="name HN", acceptors_sel="name O",
        ),
        "InterRDF_s": lambda: InterRDF_s(
            u, [[acidic[:3], basic[:3]], [acidic[3:5], basic[3:5]]], norm="density"
        ),
        "Janin": lambda: Janin(u.select_atoms("protein and resid 2-12 and not resname ALA GLY")),
        "PersistenceLength": lambda: polymer.PersistenceLength([ca[:40], ca[40:80]]),
        "PCA": lambda: PCA(u, select="name CA and resid 1-10", mean=ca[:10].positions.copy()),
    }  # fmt: skip


MORE = (
    "AtomicDistances", "AverageStructure", "BAT", "Contacts", "DistanceMatrix", "EinsteinMSD",
    "GNM", "HELANAL", "HydrogenBonds", "InterRDF_s", "Janin", "PCA", "PersistenceLength",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", MORE)
def test_analyses_of_all_kinds(finished: Any, name: str) -> None:
    make = make_more(finished)[name]
    wanted, found = make().run(step=2), make()
    run_analysis(found, step=2)
    assert_same(wanted.results, found.results, exactly=True, where=name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_radial_distribution_in_a_box(stager: Stager) -> None:
    thread = threading.Thread(
        target=replay, args=(stager,),
        kwargs={
            "topology": str(GRO), "trajectory": str(XTC), "frames_per_second": 40.0,
            "select": "name OW and index 0-9000",
        },
    )  # fmt: skip
    thread.start()
    u = mda.Universe(url(stager))
    found = InterRDF(u.atoms[:300], u.atoms[300:1200], nbins=30, range=(2.0, 12.0))
    run_analysis(found)
    thread.join()
    wanted = InterRDF(u.atoms[:300], u.atoms[300:1200], nbins=30, range=(2.0, 12.0)).run()
    assert_same(wanted.results, found.results, exactly=True, where="stream")
    file = mda.Universe(GRO, XTC).select_atoms("name OW and index 0-9000")
    wanted = InterRDF(file[:300], file[300:1200], nbins=30, range=(2.0, 12.0)).run()
    np.testing.assert_allclose(found.results.rdf, wanted.results.rdf, rtol=1e-3)
    assert found.results.rdf.max() > 1.0


class Blocks(AnalysisBase):
    """Splits the frames into blocks before the first one."""

    def __init__(self, trajectory: Any, change: Callable[[Any], None]) -> None:
        super().__init__(trajectory)
        self.change = change

    def _prepare(self) -> None:
        self.change(self)

    def _single_frame(self) -> None:
        if hasattr(self, "each"):
            self.each()


def divide(a: Any) -> None:
    a.blocks = a.n_frames // 10


def count(a: Any) -> None:
    a.results.weight = 1.0 / float(a.n_frames)


def square(a: Any) -> None:
    a.results.matrix = np.zeros((a.n_frames, a.n_frames))


def shifted(a: Any) -> None:
    a.results.lags = np.zeros(int(a.n_frames) + 1)


def spread(a: Any) -> None:
    a.grid = np.linspace(0.0, int(a.n_frames), 5)


def twice(a: Any) -> None:
    a.mean = [ts.positions.mean() for ts in a._sliced_trajectory]


def at_each(a: Any) -> None:
    a.each = lambda: setattr(a, "sum", a._ts.positions / a.n_frames)


def look_ahead(a: Any) -> None:
    a.each = lambda: a._sliced_trajectory[a._frame_index + 1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (divide, "computes with the number of frames before"),
        (count, "its results\\['weight'\\] is 0.5 for 2 frames"),
        (square, "shape"),
        (shifted, "its results\\['lags'\\] has shape"),
        (spread, "its grid depends on it"),
        (twice, "goes through the frames more than once"),
        (at_each, "computes with the number of frames at each frame"),
        (look_ahead, "looks at other frames"),
    ],
)  # fmt: skip
def test_analyses_that_need_the_number_of_frames_are_named(
    finished: Any, change: Any, why: str
) -> None:
    with pytest.raises(ConfigError, match=f"Blocks cannot be run while .*{why}"):
        run_analysis(Blocks(finished.trajectory, change))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_those_of_mdanalysis_that_do_not_fit(finished: Any) -> None:
    with pytest.raises(ConfigError, match="PCA cannot be run while"):
        run_analysis(PCA(finished, select="name CA and resid 1-10"))


def fill(a: Any) -> None:
    a.rows = [None] * 3
    a.columns = np.full((2, a.n_frames), np.nan)
    a.notes = [[] for _ in range(a.n_frames)]
    a.noise = np.random.default_rng().normal(size=3)
    a.unset = np.empty(1000)
    a.alias = a.columns

    def each() -> None:
        a.columns[:, a._frame_index] = a._ts.frame
        a.notes[a._frame_index].append(a._ts.time)

    a.each = each


class Filled(Blocks):
    def _single_frame(self) -> None:
        self.columns[:, self._frame_index] = self._ts.frame
        self.notes[self._frame_index].append(self._ts.time)

    def _conclude(self) -> None:
        self.results.columns = self.columns
        self.results.notes = self.notes
        assert self.alias is self.columns or np.array_equal(self.alias, self.columns)


def test_arrays_and_lists_grow_along_any_axis(finished: Any) -> None:
    analysis = Filled(finished.trajectory, fill)
    run = AnalysisRun(analysis)
    for ts in run:
        if ts.frame in (0, 31, 32, 70):
            found = run.so_far(analysis)
            assert found is not analysis
            assert found.n_frames == ts.frame + 1
            assert found.results.columns.tolist() == [list(range(ts.frame + 1))] * 2
            assert finished.trajectory.frame == ts.frame
    assert analysis.results.columns.tolist() == [list(range(N))] * 2
    assert analysis.results.notes == [[t] for t in analysis.times]
    with pytest.raises(ConfigError, match="run already"):
        list(run)


def test_some_frames_and_an_early_end(finished: Any) -> None:
    analysis = AnalysisFromFunction(lambda a: a.positions[0, 0], finished.atoms[:1])
    run = AnalysisRun(analysis, start=3, stop=60, step=5)
    with pytest.raises(ConfigError, match="no frame has come"):
        run.so_far(analysis)
    for ts in run:
        if ts.frame == 23:
            break
    run.conclude()
    run.conclude()
    assert analysis.frames.tolist() == [3, 8, 13, 18, 23]
    assert run.so_far(analysis) is analysis
    assert len(analysis.results.timeseries) == 5
    for wrong in ({"start": -1}, {"step": 0}, {"stop": -5}):
        with pytest.raises(ConfigError, match="cannot be followed"):
            AnalysisRun(analysis, **wrong)
    with pytest.raises(ConfigError, match="name at least one"):
        AnalysisRun()
    with pytest.raises(ConfigError, match="is no AnalysisBase"):
        AnalysisRun(finished)
    other = mda.Universe(PSF, DCD)
    with pytest.raises(ConfigError, match="different trajectories"):
        AnalysisRun(RMSF(finished.atoms[:3]), RMSF(other.atoms[:3]))
    with pytest.raises(ConfigError, match="not among those"):
        run.so_far(RMSF(finished.atoms[:3]))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_writes_a_file_has_results_at_the_end_only(finished: Any, tmp_path: Path) -> None:
    file = tmp_path / "aligned.dcd"
    reference = mda.Universe(PSF, DCD)
    aligned = align.AlignTraj(finished, reference, select="name CA", filename=str(file))
    run = AnalysisRun(aligned, step=10)
    for _ in run:
        with pytest.raises(ConfigError, match="AlignTraj writes a file"):
            run.so_far(aligned)
    assert len(mda.Universe(PSF, str(file)).trajectory) == 10
    assert aligned.results.rmsd.shape == (10,)


class Forward(StreamReaderBase):  # type: ignore[misc]
    """A stream of somebody else's, which can be read once, from the first frame on."""

    def __init__(self, filename: str, n_atoms: int, n_frames: int, **kwargs: Any) -> None:
        super().__init__(filename, **kwargs)
        self.n_atoms = n_atoms
        self.end = n_frames
        self.ts = self._Timestep(n_atoms, **self._ts_kwargs)
        self._read_next_timestep()

    def _read_frame(self, frame: int) -> Any:
        if frame >= self.end:
            raise EOFError
        self._frame = self.ts.frame = frame
        self.ts.time = 0.5 * frame
        self.ts.positions = np.full((self.n_atoms, 3), float(frame))
        return self.ts

    def close(self) -> None:
        pass


def test_other_streams_can_be_followed_too() -> None:
    u = mda.Universe.empty(4, trajectory=False)
    u.trajectory = Forward("nowhere", 4, 71)
    mean = AnalysisFromFunction(lambda a: a.positions.mean(), u.trajectory, u.atoms)
    seen = []
    run_analysis(
        mean, start=1, step=3, every=10,
        report=lambda run: seen.append(run.so_far(mean).results.timeseries[-1]),
    )  # fmt: skip
    assert mean.results.timeseries.tolist() == list(range(1, 71, 3))
    assert mean.times.tolist() == [0.5 * n for n in range(1, 71, 3)]
    assert seen == [28.0, 58.0]
