"""The policies close the loop: walkers on the Müller-Brown surface find the other basin."""

from __future__ import annotations

import numpy as np
import pytest

from analytics.policies import RestartRare, StopAtTarget
from bridge.codec import decode_state
from bridge.frames import FrameBatch
from bridge.pipeline import Context

A = np.array([-200.0, -100.0, -170.0, 15.0])
a = np.array([-1.0, -1.0, -6.5, 0.7])
b = np.array([0.0, 0.0, 11.0, 0.6])
c = np.array([-10.0, -10.0, -6.5, 0.7])
X0 = np.array([1.0, 0.0, -0.5, -1.0])
Y0 = np.array([0.0, 0.5, 1.5, 1.0])
KT, DT = 10.0, 1e-4


def force(p: np.ndarray) -> np.ndarray:
    x, y = p[:, :1] - X0, p[:, 1:] - Y0
    e = A * np.exp(a * x * x + b * x * y + c * y * y)
    return -np.column_stack([(e * (2 * a * x + b * y)).sum(1), (e * (b * x + 2 * c * y)).sum(1)])


def first_passage(mode: str, seed: int, limit: int, **parameters: object) -> int:
    """Return the steps over all of 8 walkers until one is in the other basin, or `limit`."""
    rng = np.random.default_rng(seed)
    points = np.tile([-0.558, 1.442], (8, 1))
    epochs = np.zeros(8, np.int32)
    names = tuple(f"w{i}" for i in range(8))
    restart = RestartRare(
        input="point",
        mode=mode,
        interval=5,
        min_frames=80,
        inline=["point"],
        seed=seed,
        **parameters,
    )
    target = StopAtTarget(column="point", index=0, lower=0.45)
    for frame in range(limit // 80):
        for _ in range(10):
            noise = rng.standard_normal((8, 2))
            points = points + DT * force(points) + np.sqrt(2 * KT * DT) * noise
        commands = []
        for i, name in enumerate(names):
            batch = FrameBatch.from_arrays(
                name,
                {"point": points[i : i + 1]},
                first_offset=frame,
                times=[(frame + 1) * 10.0],
                epochs=epochs[i : i + 1],
            )
            context = Context("p", "o", name, names)
            target.process(restart.process(batch, context), context)
            for event in context.events:
                return int(event.data["total_time"])
            commands += context.commands
        for command in commands:
            i = names.index(command.simulation)
            points[i] = decode_state(command.state)["point"]
            epochs[i] += 1
    return limit


# Plain walkers need 2.3 million steps on average, and random restarts no fewer.
@pytest.mark.parametrize(
    ("mode", "parameters"),
    [("rare", {"width": 0.1}), ("sparse", {"power": 4.0, "update_every": 40})],
)
def test_restarts_find_the_other_basin(mode, parameters) -> None:
    steered = [first_passage(mode, seed, 60_000, **parameters) for seed in range(3)]
    control = [first_passage("random", seed, 60_000) for seed in range(3)]
    assert max(steered) < 60_000
    assert min(control) == 60_000
