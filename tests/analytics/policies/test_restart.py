"""Restarts: when, from which frames, how often, and with what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from analytics.novelty import neighbour_distances, project
from analytics.policies import RestartRare
from bridge.codec import decode_state
from bridge.commands import Command
from bridge.errors import ConfigError, PipelineError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import run_operator
from tests.analytics.novelty.learned import learned_stream

MODES = ("rare", "sparse", "novel", "random")


def frames(
    x: object, *, simulation: str = "w0", first: int = 0, epoch: int = 0, **more: object
) -> FrameBatch:
    values = np.asarray(x, float)
    columns = {"x": values, "positions": values[:, None, None] * np.ones((1, 3, 3)), **more}
    return FrameBatch.from_arrays(
        simulation, columns, first_offset=first, epochs=np.full(len(values), epoch)
    )


def give(operator: RestartRare, batch: FrameBatch) -> list[Command]:
    context = Context("p", "restart", batch.simulation, (batch.simulation,))
    assert operator.process(batch, context) is batch
    # The engine numbers a command by the frame that it was decided at.
    assert context.offsets == decided_at(context.commands)
    return context.commands


def decided_at(commands: list[Command]) -> list[int]:
    return [command.evidence["decided_at"] for command in commands]


@pytest.mark.parametrize("mode", MODES)
def test_a_walker_is_due_after_the_interval_of_each_epoch(mode) -> None:
    operator = RestartRare(input="x", mode=mode, interval=5, min_frames=8, neighbours=2)
    numbers = np.random.default_rng(0).random(40)
    assert decided_at(give(operator, frames(numbers[:8]))) == [7]
    # Until the epoch is raised, the command is on its way.
    assert give(operator, frames(numbers[8:20], first=8)) == []
    assert decided_at(give(operator, frames(numbers[20:26], first=20, epoch=1))) == [24]
    assert decided_at(give(operator, frames(numbers[26:40], first=26, epoch=2))) == [30]


def test_walkers_are_counted_apart_and_remembered_together() -> None:
    operator = RestartRare(input="x", mode="random", interval=4, min_frames=1)
    assert give(operator, frames([1, 2, 3])) == []
    assert give(operator, frames([4, 5, 6], simulation="w1")) == []
    (command,) = give(operator, frames([7], first=3))
    assert command.simulation == "w0"
    assert command.evidence["candidates"] == 7
    (command,) = give(operator, frames([8], simulation="w1", first=3))
    assert command.simulation == "w1"


def test_a_restart_that_does_not_show_is_decided_again() -> None:
    operator = RestartRare(input="x", mode="random", interval=5, patience=7, min_frames=1)
    commands = give(operator, frames(np.arange(30.0)))
    assert decided_at(commands) == [4, 11, 18, 25]
    assert "has not shown" not in commands[0].reason
    assert all("The restart before this one has not shown." in c.reason for c in commands[1:])


def test_a_command_says_what_and_why() -> None:
    operator = RestartRare(input="x", width=1.0, power=40.0, interval=7, min_frames=7)
    (command,) = give(operator, frames([0.1, 0.2, 0.3, 5.5, 0.4, 0.5, 0.6], first=100))
    assert command.kind == "restart"
    assert command.frame is not None
    assert (command.frame.simulation, command.frame.offset) == ("w0", 103)
    assert command.velocities == "redraw"
    assert command.at_step is None
    assert command.expires == 0.0
    assert command.author == "p/restart"
    assert command.evidence == {
        "mode": "rare",
        "decided_at": 106,
        "seen": 7,
        "version": 1,
        "count": 1,
        "bins": 2,
        "candidates": 7,
    }
    assert command.reason == (
        "w0 goes on from frame 103 of w0, whose bin holds 1 of 7 remembered frames."
    )
    state = decode_state(command.state)
    assert list(state) == ["positions"]
    assert np.array_equal(state["positions"], np.full((3, 3), 5.5))


def test_frames_are_drawn_by_the_inverse_power_of_visits() -> None:
    x = np.repeat([0.5, 1.5, 2.5], [1, 3, 6])
    drawn: Counter[int] = Counter()
    for seed in range(1500):
        operator = RestartRare(
            input="x", width=1.0, power=1.0, interval=10, min_frames=10, seed=seed
        )
        (command,) = give(operator, frames(x))
        assert command.frame is not None
        drawn[int(x[command.frame.offset])] += 1
    weights = np.array([1.0, 1 / 3, 1 / 6]) / 1.5
    assert np.allclose([drawn[i] / 1500 for i in range(3)], weights, atol=0.06)


def test_the_control_draws_uniformly() -> None:
    drawn = np.zeros(10)
    for seed in range(2000):
        operator = RestartRare(input="x", mode="random", interval=10, min_frames=10, seed=seed)
        (command,) = give(operator, frames(np.arange(10.0)))
        assert command.frame is not None
        drawn[command.frame.offset] += 1
    assert abs(drawn - 200).max() < 5 * 13.4


def collect(mode: str, **parameters: object) -> tuple[list[Command], dict[str, np.ndarray]]:
    """Run over a stream whose space changes; also return all frames in their order."""
    stream = learned_stream()
    operator = RestartRare(
        input="y", features="features", mode=mode, interval=4, patience=6, **parameters
    )
    commands = run_operator(operator, stream).commands
    assert len(commands) > 30
    rows = {
        name: np.concatenate([b[name] for b in stream])
        for name in ("features", "y_model", "y_version", "positions")
    }
    rows["name"] = np.concatenate([[b.simulation] * len(b) for b in stream])
    rows["offset"] = np.concatenate([b.offsets for b in stream])
    return commands, rows


def row_of(rows: dict[str, np.ndarray], simulation: str, offset: int) -> int:
    (row,) = np.flatnonzero((rows["name"] == simulation) & (rows["offset"] == offset))
    return int(row)


def test_counts_follow_the_model() -> None:
    commands, rows = collect("rare", width=1.5, min_frames=20)
    for command in commands:
        assert command.frame is not None
        now = row_of(rows, command.simulation, command.evidence["decided_at"])
        source = row_of(rows, command.frame.simulation, command.frame.offset)
        assert source <= now
        assert rows["y_version"][now] == command.evidence["version"] > 0
        cells = np.floor(project(rows["features"][: now + 1], rows["y_model"][now]) / 1.5)
        assert command.evidence["count"] == (cells == cells[source]).all(axis=1).sum()
        assert command.evidence["bins"] == len(np.unique(cells, axis=0))
        assert command.evidence["seen"] == command.evidence["candidates"] == now + 1
        state = decode_state(command.state)
        assert np.array_equal(state["positions"], rows["positions"][source])


def test_distances_are_those_to_the_neighbours() -> None:
    commands, rows = collect("sparse", neighbours=5, power=3.0, update_every=1, min_frames=20)
    for command in commands:
        assert command.frame is not None
        now = row_of(rows, command.simulation, command.evidence["decided_at"])
        source = row_of(rows, command.frame.simulation, command.frame.offset)
        if command.evidence["candidates"] != now + 1:
            continue  # the distances were taken a little earlier
        points = project(rows["features"][: now + 1], rows["y_model"][now])
        distances = neighbour_distances(points, 5)
        assert command.evidence["distance"] == pytest.approx(distances[source])
        assert command.evidence["rank"] == 1 + (distances > distances[source]).sum()


def test_far_neighbours_are_preferred_by_the_power() -> None:
    x = np.array([0.0, 1.0, 10.0])  # distances 1, 1, 9
    drawn = np.zeros(3)
    for seed in range(1500):
        operator = RestartRare(
            input="x", mode="sparse", neighbours=1, power=1.0, interval=3, min_frames=3, seed=seed
        )
        (command,) = give(operator, frames(x))
        assert command.frame is not None
        drawn[command.frame.offset] += 1
    assert np.allclose(drawn / 1500, [1 / 11, 1 / 11, 9 / 11], atol=0.05)


def test_distances_are_taken_again_after_enough_frames() -> None:
    operator = RestartRare(
        input="x", mode="sparse", interval=1, patience=1, min_frames=10, update_every=15, power=0.0
    )
    commands = give(operator, frames(np.random.default_rng(0).random(41)))
    assert [c.evidence["candidates"] for c in commands] == [10] * 15 + [25] * 15 + [40, 40]


def test_copies_of_one_frame_have_no_sparse_ones() -> None:
    operator = RestartRare(input="x", mode="sparse", interval=2, min_frames=4)
    assert give(operator, frames(np.ones(10))) == []


def test_the_highest_scores_are_novel() -> None:
    x = np.random.default_rng(1).permutation(60).astype(float)
    chosen = set()
    operator = RestartRare(
        input="x", mode="novel", top=3, interval=1, patience=1, min_frames=60, inline=[]
    )
    give(operator, frames(x))
    for offset in range(60, 160):
        (command,) = give(operator, frames([0.0], first=offset))
        assert command.frame is not None
        assert command.state == b""
        assert command.evidence["score"] == x[command.frame.offset]
        chosen.add(x[command.frame.offset])
    assert chosen == {57.0, 58.0, 59.0}


@pytest.mark.parametrize("mode", MODES)
def test_nobody_is_restarted_before_the_column_is_ready(mode) -> None:
    operator = RestartRare(input="x", mode=mode, features="f", interval=2, min_frames=2)
    if mode in ("novel", "random"):
        operator = RestartRare(input="x", mode=mode, interval=2, min_frames=2)
    x = np.random.default_rng(0).random(20)
    more = {
        "f": x,
        "x_version": np.repeat([0, 1], [12, 8]),
        "x_model": np.broadcast_to([[1.0], [0.0]], (20, 2, 1)),
    }
    commands = give(operator, frames(x, **more))
    assert decided_at(commands) == [12]
    assert commands[0].evidence["candidates"] == (1 if mode == "novel" else 13)


def test_frames_without_finite_positions_are_never_used() -> None:
    x = np.arange(60.0)
    batch = frames(x)
    batch.columns["positions"][x % 3 != 0, 1, 2] = np.nan
    operator = RestartRare(input="x", mode="rare", interval=1, patience=1, min_frames=1)
    commands = give(operator, batch)
    assert len(commands) == 60
    for command in commands:
        assert command.frame is not None
        assert command.frame.offset % 3 == 0
    assert commands[-1].evidence["candidates"] == 20


def test_the_latest_frames_alone_can_be_remembered() -> None:
    operator = RestartRare(
        input="x", mode="random", interval=1, patience=1, memory=10, retention="sliding"
    )
    operator.min_frames = 1
    for command in give(operator, frames(np.arange(100.0))):
        assert command.frame is not None
        now = command.evidence["decided_at"]
        assert now - 10 < command.frame.offset <= now


def test_some_walkers_may_go_on() -> None:
    numbers = np.random.default_rng(0).random(4000)
    operator = RestartRare(
        input="x", mode="random", interval=2, patience=1, min_frames=1, keep=0.75
    )
    epochs = np.arange(4000) // 2
    batch = FrameBatch.from_arrays(
        "w", {"x": numbers, "positions": numbers[:, None]}, epochs=epochs
    )
    commands = give(operator, batch)
    assert 0.2 < len(commands) / 2000 < 0.3


def test_velocities_and_expiry() -> None:
    operator = RestartRare(
        input="x",
        interval=1,
        min_frames=1,
        inline=["positions", "velocities"],
        velocities="keep",
        expires="1 h",
    )
    (command,) = give(operator, frames([1.0], velocities=np.ones((1, 3, 3))))
    assert command.velocities == "keep"
    assert sorted(decode_state(command.state)) == ["positions", "velocities"]
    assert command.expires > 3600.0


def test_other_seeds_choose_other_frames() -> None:
    def chosen(seed: int) -> list[int]:
        operator = RestartRare(input="x", interval=1, patience=1, min_frames=1, seed=seed)
        commands = give(operator, frames(np.random.default_rng(0).normal(size=60)))
        return [c.frame.offset for c in commands if c.frame]

    assert chosen(1) == chosen(1) != chosen(2)


def test_a_learned_space_must_be_declared() -> None:
    with pytest.raises(PipelineError, match="name the column that it is computed from"):
        run_operator(RestartRare(input="y"), learned_stream())


def test_the_bytes_of_the_memory_are_bounded() -> None:
    operator = RestartRare(input="x", memory_bytes="1 MB")
    with pytest.raises(PipelineError, match="more than its limit of 1000000"):
        give(operator, frames([1.0]))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"mode": "best"}, "The mode 'best' is unknown"),
        ({"interval": 0}, "'interval' must be at least 1"),
        ({"patience": 0}, "'patience' must be at least 1"),
        ({"keep": 1.0}, r"'keep' must be in \[0, 1\)"),
        ({"power": -1.0}, "'power' must not be negative"),
        ({"velocities": "reverse"}, "kept or redrawn"),
        ({"velocities": "keep"}, "'inline' must name 'velocities'"),
        ({"width": 0.0}, "must be a positive number"),
        ({"memory": 0}, "at least one frame"),
    ],
)
def test_bad_parameters_are_refused(parameters, says) -> None:
    with pytest.raises(ConfigError, match=says):
        RestartRare(**{"input": "x", **parameters})
