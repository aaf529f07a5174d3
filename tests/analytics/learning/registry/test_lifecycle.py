"""Candidates at the gate, and a model in service that falls."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from analytics.learning.registry import Gate, HeldOut, Lifecycle, Registry, compare
from analytics.learning.registry.gate import _student, score
from bridge.errors import ConfigError
from tests.analytics.learning.registry.tiny import Tiny, trained

Array = npt.NDArray[Any]


def along(angle: float, n: int = 400, *, seed: int = 0) -> Array:
    """Frames that lie along a direction of the plane, with noise."""
    dice = np.random.default_rng(seed)
    unit = np.array([math.cos(angle), math.sin(angle)])
    flat = np.outer(dice.normal(size=n), unit) + 0.1 * dice.normal(size=(n, 2))
    return flat.astype(np.float32)


def knows(angle: float) -> Tiny:
    return trained((math.cos(angle), math.sin(angle)))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path, clock=lambda: 5.0)


def test_the_better_one_is_promoted_and_the_worse_is_not(registry: Registry) -> None:
    life = Lifecycle(registry, "tiny", author="train/here")
    held = HeldOut(along(0.0))
    first = life.consider(knows(0.5), held, frames=10)
    assert first.promoted
    assert first.reason.startswith("The first of its name; it scores -0.1")
    better = life.consider(knows(0.2), held, trained_on={"a": [(0, 10)]})
    assert better.promoted
    assert better.candidate is not None
    assert better.served is not None
    assert better.candidate > better.served
    assert "% better" in better.reason
    worse = life.consider(knows(0.4), held)
    assert not worse.promoted
    assert "% worse" in worse.reason
    assert worse.reason.endswith("1 % are wanted.")
    assert worse.entry is None
    history = registry.history("tiny")
    assert [one.version for one in history] == [first.card.version, better.card.version]
    assert history[1].author == "train/here"
    assert history[1].metrics == {"score": better.candidate, "score_before": better.served}
    assert better.card.trained_on == {"a": [(0, 10)]}
    # All three are stored, with what they showed.
    assert [c.metrics["held_out"] for c in registry.cards("tiny")] == [400.0] * 3


def test_what_is_not_sure_is_not_promoted(registry: Registry) -> None:
    life = Lifecycle(registry, "tiny", Gate(margin=0.0, min_frames=16))
    held = HeldOut(along(0.0, 16))
    life.consider(knows(0.02), held)
    verdict = life.consider(knows(-0.001), held)
    assert not verdict.promoted
    assert "not sure" in verdict.reason or "worse" in verdict.reason
    # The same difference, seen on many more frames, is.
    many = HeldOut(along(0.0, 40_000))
    assert Lifecycle(registry, "tiny", Gate(margin=0.0)).consider(knows(-0.001), many).promoted


def test_what_cannot_be_judged_is_not_promoted(registry: Registry) -> None:
    life = Lifecycle(registry, "tiny", Gate(floor=-0.05))
    held = HeldOut(along(0.0))
    few = life.consider(knows(0.0), HeldOut(along(0.0, 199)))
    assert not few.promoted
    assert "199 held-out frames are too few" in few.reason
    low = life.consider(knows(0.5), held)
    assert "the first must score -0.05" in low.reason
    odd = knows(0.0)
    with torch.no_grad():
        odd.weights[0] = math.nan
    assert "its score is nan" in life.consider(odd, held).reason
    assert not life.consider(knows(0.3), HeldOut(along(0.0, 0))).promoted
    assert registry.served("tiny") is None


def test_a_trainer_that_goes_on_after_a_kill_does_nothing_twice(registry: Registry) -> None:
    held = HeldOut(along(0.0))
    life = Lifecycle(registry, "tiny")
    first, second = knows(0.5), knows(0.1)
    life.consider(first, held)
    life.consider(second, held)
    again = Lifecycle(registry, "tiny")
    verdict = again.consider(first, held)
    assert not verdict.promoted
    assert "promoted before, as number 1" in verdict.reason
    verdict = again.consider(second, held)
    assert verdict.promoted
    assert verdict.entry is not None
    assert verdict.entry.number == 2
    assert len(registry.history("tiny")) == 2


def test_other_kinds_are_not_compared(registry: Registry) -> None:
    class Other(Tiny):
        kind = "tests.analytics.learning.registry.tiny:Other"

    held = HeldOut(along(0.0))
    Lifecycle(registry, "tiny").consider(knows(0.5), held)
    other = Other((2,))
    other.load_state_dict(knows(0.0).state_dict())
    verdict = Lifecycle(registry, "tiny").consider(other, held)
    assert not verdict.promoted
    assert "cannot be compared" in verdict.reason
    assert len(registry.cards("tiny")) == 2


def test_a_served_model_that_is_damaged_is_replaced(registry: Registry) -> None:
    held = HeldOut(along(0.0))
    card = Lifecycle(registry, "tiny").consider(knows(0.0), held).card
    (registry.folder / "versions" / f"{card.version}.safetensors").write_bytes(b"?")
    verdict = Lifecycle(registry, "tiny").consider(knows(0.3), held)
    assert verdict.promoted
    assert "What is served cannot be used" in verdict.reason


def serve_two(registry: Registry) -> tuple[Lifecycle, list[str]]:
    """Serve a model of the direction 0, then one of 0.6; both were the best of their time."""
    life = Lifecycle(registry, "tiny", Gate(window=100, patience=2))
    versions = [
        life.consider(knows(0.0), HeldOut(along(0.0))).card.version,
        life.consider(knows(0.6), HeldOut(along(0.6))).card.version,
    ]
    return life, versions


def test_one_that_falls_is_taken_back(registry: Registry) -> None:
    life, versions = serve_two(registry)
    assert life.watch(along(0.6, 100, seed=1)) is None
    assert "scores -0.00" in life.said
    # One bad window alone is no reason, nor are two with a good one between.
    for angle in (0.0, 0.6, 0.0):
        assert life.watch(along(angle, 100, seed=2)) is None
    assert "(1 of 2 windows)" in life.said
    back = life.watch(along(0.0, 100, seed=3))
    assert back is not None
    assert (back.version, back.number, back.kind) == (versions[0], 3, "rollback")
    assert "in 2 windows one after the other" in back.reason
    assert registry.served("tiny") == back
    # It is held to what it showed when it was taken back, and nothing lies behind it.
    for angle in (0.0, 0.9, 0.9, 0.9):
        assert life.watch(along(angle, 100)) is None
    assert "nothing to go back to" in life.said


def test_frames_that_changed_for_both_are_no_reason(registry: Registry) -> None:
    life, _ = serve_two(registry)
    for _ in range(6):
        assert life.watch(along(1.2, 100)) is None
    assert "does no better" in life.said
    assert "the frames changed" in life.said


def test_frames_that_nobody_can_score_are_no_reason(registry: Registry) -> None:
    life, versions = serve_two(registry)
    # Finite, and their squares are not, as of a simulation that blew up.
    for _ in range(4):
        assert life.watch(1e30 * along(0.6, 100)) is None
    assert "scores -inf" in life.said
    assert "the frames changed" in life.said
    served = registry.served("tiny")
    assert served is not None
    assert served.version == versions[1]


def test_a_window_is_the_same_however_it_was_cut_and_survives_a_checkpoint(
    registry: Registry,
) -> None:
    life, _ = serve_two(registry)
    frames = along(0.0, 250)
    life.watch(frames[:100])
    life.watch(frames[100:130])
    state = life.save()
    json.dumps({k: v for k, v in state.items() if not isinstance(v, np.ndarray)})
    other = Lifecycle(registry, "tiny", life.gate)
    other.restore(state)
    assert other.watch(frames[130:199]) is None
    back = other.watch(frames[199:200])
    assert back is not None
    # The first one finds that it was done.
    assert life.watch(frames[130:200]) is None
    assert len(registry.history("tiny")) == 3


def test_promoted_by_hand_it_is_held_to_what_it_shows_first(registry: Registry) -> None:
    life = Lifecycle(registry, "tiny", Gate(window=100, patience=1))
    for angle in (0.0, 0.6):
        card = registry.add("tiny", knows(angle))
        registry.promote("tiny", card.version, reason="I want it.", author="Ada")
    assert life.watch(along(0.6, 100)) is None
    assert life.watch(along(0.0, 100)) is not None


def test_a_registry_that_fails_does_not_end_the_watch(registry: Registry) -> None:
    life, versions = serve_two(registry)
    (registry.folder / "versions" / f"{versions[1]}.safetensors").write_bytes(b"?")
    assert life.watch(along(0.0, 100)) is None
    assert "cannot be looked at" in life.said


def test_pairs_are_asked_for_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "lagged", True)
    with pytest.raises(ConfigError, match="by pairs of frames"):
        score(knows(0.0), HeldOut(along(0.0)))
    assert score(knows(0.0), HeldOut(along(0.0), along(0.0))) < 0.0


def test_scoring_leaves_the_model_as_it_was() -> None:
    model = knows(0.0).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    compare(model, knows(0.1), HeldOut(along(0.0)), Gate())
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@given(st.floats(0.6, 0.99), st.integers(3, 30))
def test_quantiles_of_student(confidence: float, freedom: int) -> None:
    assert _student(confidence, freedom) == pytest.approx(
        student.ppf(confidence, freedom), rel=0.05
    )


def test_the_interval_holds_about_as_often_as_it_says() -> None:
    # Two models that are equally good: at 90 %, one of ten is taken for better.
    gate = Gate(confidence=0.9)
    taken = [
        compare(knows(0.1), knows(-0.1), HeldOut(along(0.0, 200, seed=seed)), gate).low > 0.0
        for seed in range(200)
    ]
    assert 0.04 < np.mean(taken) < 0.17


@pytest.mark.parametrize(
    "wrong", [{"margin": -1.0}, {"confidence": 1.0}, {"blocks": 1}, {"min_frames": 3},
              {"patience": 0}, {"window": 1}, {"tolerance": -0.1},
              {"floor": math.nan}],
)  # fmt: skip
def test_a_gate_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"parameter '{next(iter(wrong))}' of the gate"):
        Gate(**wrong)


def test_counts_of_a_gate_are_whole() -> None:
    with pytest.raises(ConfigError, match=r"'gate.blocks' is 2.5; it must be a whole number"):
        Gate(blocks=2.5)  # type: ignore[arg-type]
