"""The operators that the conformance suite runs over: one list a room, one case a line.

To add an operator, append to its room's list; `test_operators.py` takes up every list here.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from analytics.features import (
    RMSD,
    ContactMap,
    DensityMap,
    Dihedrals,
    Distances,
    RadialDistribution,
    RadiusOfGyration,
    Superpose,
)
from analytics.novelty import LocalOutlier, VisitCounts
from analytics.policies import RestartRare, StopAtTarget
from analytics.reduction import OnlinePCA, OnlineTICA, Projection
from analytics.statistics import Moments
from bridge.frames import FrameBatch
from bridge.pipeline import Operator
from bridge.testing.operators import Maker, random_stream
from tests.analytics.novelty.learned import learned_stream

__all__ = ["ALL", "Case"]


@dataclass(frozen=True)
class Case:
    """One operator with its parameters, and the stream to run it over.

    Attributes
    ----------
    rtol, atol
        How far floating-point columns may be apart where the stream is cut in another way.
    """

    name: str
    make: Maker
    stream: Sequence[FrameBatch]
    rtol: float = 1e-9
    atol: float = 1e-11


POSITIONS = random_stream({"positions": (7, 3)})
FEATURES_OF_FRAMES = random_stream({"features": (5,)}, frames=160, seed=4)

REFERENCE = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
TILTED = np.array([[2.0, 0.0, 0.0], [3.1, 1.5, 0.0], [-0.7, 2.2, 1.8]], np.float32)
BOXED = [b.with_columns({"box": np.repeat(TILTED[None], len(b), axis=0)}) for b in POSITIONS]
RECTANGULAR = [
    b.with_columns({"box": np.full((len(b), 3), np.array([3.0, 3.5, 4.0]))}) for b in POSITIONS
]

LEARNED = learned_stream()
FEW = {"neighbours": 5, "minimum": 20, "update_every": 35}
OFTEN = {"interval": 4, "patience": 6, "min_frames": 30, "memory": 70}

FEATURES: list[Case] = [
    Case("dihedrals", lambda: Dihedrals(atoms=[[0, 1, 2, 3], [3, 4, 5, 6]]), POSITIONS),
    Case("sincos", lambda: Dihedrals(atoms=[[0, 1, 2, 3]], encoding="sincos"), POSITIONS),
    Case("distances", lambda: Distances(atoms=[0, 2, 6]), POSITIONS),
    Case("periodic distances", lambda: Distances(pairs=[[0, 5], [1, 6]], box="box"), BOXED),
    Case("contact_map", lambda: ContactMap(atoms=[0, 2, 4, 6], cutoff=1.2), POSITIONS),
    Case("superpose", lambda: Superpose(reference=REFERENCE, atoms=[0, 1, 2, 5]), POSITIONS),
    Case("rmsd", lambda: RMSD(reference=REFERENCE, atoms=[0, 1, 2, 5]), POSITIONS),
    Case("density_map", lambda: DensityMap(bins=[3, 4, 2]), BOXED),
    Case("number density", lambda: DensityMap(bins=2, quantity="density"), BOXED),
    Case("rdf", lambda: RadialDistribution(cutoff=1.5, bins=6), RECTANGULAR),
    Case("radius_of_gyration", lambda: RadiusOfGyration(atoms=[0, 1, 3]), POSITIONS),
]
STATISTICS: list[Case] = [
    Case("moments", lambda: Moments(input="features", update_every=37), FEATURES_OF_FRAMES),
    Case(
        "forgetting moments",
        lambda: Moments(input="features", update_every=50, half_life=30.0),
        FEATURES_OF_FRAMES,
    ),
]
REDUCTION: list[Case] = [
    Case(
        "project",
        lambda: Projection(
            components=np.arange(10.0).reshape(2, 5) - 4, mean=np.ones(5), input="features"
        ),
        FEATURES_OF_FRAMES,
    ),
    Case("pca", lambda: OnlinePCA(input="features", update_every=45), FEATURES_OF_FRAMES),
    Case(
        "forgetting pca",
        lambda: OnlinePCA(input="features", n_components=3, update_every=70, half_life=50.0),
        FEATURES_OF_FRAMES,
    ),
    Case(
        "tica",
        lambda: OnlineTICA(input="features", lag=3, update_every=45, min_frames=100),
        FEATURES_OF_FRAMES,
    ),
    Case(
        "forgetting tica",
        lambda: OnlineTICA(
            input="features", lag=5, n_components=5, update_every=64, half_life=90.0
        ),
        FEATURES_OF_FRAMES,
    ),
    Case(
        "irreversible tica",
        lambda: OnlineTICA(
            input="features", lag=1, update_every=100, reversible=False, scaling="unit"
        ),
        FEATURES_OF_FRAMES,
    ),
]
NOVELTY: list[Case] = [
    Case(f"{name} {retention}", partial(make, retention=retention, memory=60), LEARNED)
    for retention in ("reservoir", "sliding")
    for name, make in {
        "local_outlier": partial(LocalOutlier, input="features", **FEW),
        "learned local_outlier": partial(LocalOutlier, input="y", features="features", **FEW),
        "visits": partial(VisitCounts, input="features"),
        "relative visits": partial(VisitCounts, input="features", relative=True),
        "learned visits": partial(VisitCounts, input="y", features="features"),
    }.items()
]
POLICIES: list[Case] = [
    *(
        Case(f"{name} {retention}", partial(make, retention=retention, **OFTEN), LEARNED)
        for retention in ("reservoir", "sliding")
        for name, make in {
            "restart rare": partial(RestartRare, input="y", features="features"),
            "restart some": partial(RestartRare, input="features", relative=True, keep=0.3),
            "restart sparse": partial(
                RestartRare, mode="sparse", input="y", features="features", update_every=30
            ),
            "restart novel": partial(RestartRare, mode="novel", input="score"),
            "restart random": partial(RestartRare, mode="random", input="y"),
        }.items()
    ),
    Case("stop_at_target", lambda: StopAtTarget(column="y", index=1, lower=3.0), LEARNED),
    Case("no target", lambda: StopAtTarget(column="y", index=1, lower=1e9), LEARNED),
]


@cache
def registry() -> str:
    """Return the folder of a registry with two small models, one of them with two versions."""
    from tests.analytics.inference.tiny import publish

    folder = tempfile.mkdtemp(prefix="headrace-registry-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, seed in (("tiny", 0), ("tiny", 1), ("other", 2)):
        publish(folder, name, seed)
    return folder


def infer(**parameters: Any) -> Operator:
    """Return the operator; float32, and rows are computed together."""
    from analytics.inference.operator import Infer

    return Infer(model="tiny", registry=registry(), input="features", **parameters)


def committee(**parameters: Any) -> Operator:
    """Return a committee of small models."""
    from analytics.inference.committee import Committee

    return Committee(registry=registry(), input="features", **parameters)


# Wherever torch is: an engine's environment need not have it.
INFERENCE: list[Case] = [
    Case(name, make, FEATURES_OF_FRAMES, rtol=1e-4, atol=1e-5)
    for name, make in {
        "infer": partial(infer, errors=True),
        "infer in small batches": partial(infer, batch_size=7, least=1),
        "committee": partial(committee, models=["tiny", "other"]),
        "committee of versions": partial(committee, models="tiny", last=2, compare="error"),
    }.items()
    if find_spec("torch")
]


def encoded(make: Any, **parameters: Any) -> Operator:
    """Return an operator whose memory a network encodes."""
    network = {"features": "features", "model": "tiny", "registry": registry()}
    operator: Operator = make(**{"input": "latent", **network, **parameters})
    return operator


ENCODED: list[Case] = []
if find_spec("torch"):
    from tests.analytics.novelty.encoded import encoded_stream

    answered = encoded_stream(registry())
    ENCODED = [
        Case("encoded local_outlier", partial(encoded, LocalOutlier, memory=60, **FEW), answered),
        Case("encoded visits", partial(encoded, VisitCounts, memory=60), answered),
        Case("restart rare encoded", partial(encoded, RestartRare, **OFTEN), answered),
        Case(
            "restart by errors",
            partial(encoded, RestartRare, input="latent_error", mode="novel", **OFTEN),
            answered,
        ),
    ]

ALL = [*FEATURES, *STATISTICS, *REDUCTION, *NOVELTY, *POLICIES, *INFERENCE, *ENCODED]
