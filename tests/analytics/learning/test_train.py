"""The operator `train`: what it learns follows from the frames alone."""

import itertools

import numpy as np
import pytest

from analytics.learning.train import Train
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from bridge.testing.operators import CHECKS, run_operator
from bridge.testing.streams import random_stream
from tests.analytics.learning.tiny import TinyAutoencoder

TINY = "tests.analytics.learning.tiny:TinyAutoencoder"
LAGGED = "tests.analytics.learning.tiny:TinyLagged"


def make(folder, **changes):
    table = {
        "kind": TINY,
        "input": "x",
        "registry": str(folder),
        "buffer": {"max_samples": 100},
        "batch_size": 8,
        "updates_per_frame": 0.3,
        "start_after": 40,
        "learning_rate": 0.01,
        "held_out": 0.25,
        "held_out_block": 12,
        "candidate_every": 10,
        "watch_every": 25,
        "gate": {"min_frames": 4, "blocks": 2, "window": 20, "confidence": 0.6},
        "drift": {"every": 2, "reference": 10},
        "seed": 3,
        "device": "cpu",
        "threads": 1,
    }
    return Train(**{**table, **changes})


def stream(n=600, k=6, seed=0, simulations=("a", "b"), size=20, scale=1.0, first=0):
    """Frames of low rank, of some simulations in turn."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(2, k))
    batches = []
    for start, name in itertools.product(range(0, n // len(simulations), size), simulations):
        x = (scale * rng.normal(size=(size, 2)) @ mix + 0.01 * rng.normal(size=(size, k))).astype(
            np.float32
        )
        batches.append(FrameBatch.from_arrays(name, {"x": x}, first_offset=first + start))
    return batches


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("lag", [0, 3])
def test_train_is_an_operator_like_any_other(check, lag, tmp_path):
    model = LAGGED if lag else TINY
    batches = random_stream({"x": (6,)}, seed=4)
    block = 0 if lag else 12

    def maker():
        return make(
            tmp_path, kind=model, lag=lag, held_out_block=block,
            start_after=20, held_out=0.0 if lag else 0.25,
        )  # fmt: skip

    check(maker, batches)


def test_it_learns_and_serves_what_is_better(tmp_path):
    answer = run_operator(make(tmp_path), stream())
    last = answer.batches[-1]
    kinds = [event.kind for event in answer.events]
    assert kinds.count("first_model") == 1
    assert kinds.count("promoted") > 2
    assert kinds.count("candidate") == kinds.count("promoted") + kinds.count("refused")
    assert last["updates"][-1] == int((600 - 40) * 0.3)
    first = next(b for b in answer.batches if b["updates"][-1])
    assert last["loss"][-1] < 0.5 * first["loss"][-1]
    assert last["version"][-1] > 2
    train = make(tmp_path)
    cards = train.judge.registry.cards("model")
    assert cards[-1].frames == 600
    assert sorted(cards[-1].trained_on) == ["a", "b"]
    assert cards[-1].aligned


def test_frames_held_out_are_never_learned_from(tmp_path):
    train = make(tmp_path)
    answer = run_operator(train, stream(1200))
    assert answer.batches[-1]["updates"][-1] > 100
    card = train.judge.registry.cards("model")[-1]
    for name, ranges in card.trained_on.items():
        learned = {o for first, stop in ranges for o in range(first, stop)}
        zones = train.intake._hold_out.zones(name, np.arange(600))
        assert learned == set(np.flatnonzero(zones == 0).tolist())
        held = np.flatnonzero(zones == 1)
        assert 0.1 < len(held) / 600 < 0.25
        # Not even as neighbours.
        assert not {*(held - 1), *(held + 1)} & learned


def test_a_second_run_over_the_same_frames_decides_the_same(tmp_path):
    train = make(tmp_path)
    first = run_operator(train, stream())
    history = train.judge.registry.history("model")
    second = run_operator(make(tmp_path), stream())
    assert [e.message for e in first.events] == [e.message for e in second.events]
    assert make(tmp_path).judge.registry.history("model") == history


def test_updates_that_are_not_finite_are_told_of(tmp_path):
    batches = stream()
    batches[6]["x"][3] *= 1e6
    answer = run_operator(
        make(tmp_path, kind="tests.analytics.learning.tiny:Fragile", held_out=0.0,
             buffer={"kind": "fifo", "max_samples": 50}),
        batches,
    )  # fmt: skip
    told = [event for event in answer.events if event.kind == "update_skipped"]
    assert len(told) == 1
    assert "were left out so far" in told[0].message


def test_drift_brings_retraining_and_says_why(tmp_path):
    before, after = stream(1200), stream(1200, scale=5.0, seed=1, first=600)
    answer = run_operator(make(tmp_path), [*before, *after])
    told = {event.kind: event for event in reversed(answer.events)}
    assert "rose from" in told["drift"].message
    assert told["drift"].data["frames"] > 1200
    assert told["retraining"].data["why"]
    due = int((2400 - 40) * 0.3)
    assert answer.batches[-1]["updates"][-1] > due


def test_what_people_promote_is_taken_up(tmp_path):
    gate = {"min_frames": 4, "blocks": 2, "window": 20, "confidence": 0.6, "tolerance": 10.0}
    train = make(tmp_path, candidate_every=1000, gate=gate)
    registry, batches = train.judge.registry, stream(1200)
    context = Context("training", "train", "a")
    for batch in batches[:40]:
        train.process(batch, context)
    train.consider(context)
    other = registry.add("model", TinyAutoencoder((6,)))
    registry.promote("model", other.version, reason="I like it better.", author="me")
    out = [train.process(batch, context) for batch in batches[40:]]
    assert out[-1]["version"][-1] == 2
    assert "version_changed" in {event.kind for event in context.events}


def test_a_model_that_does_badly_is_taken_back(tmp_path):
    gate = {"min_frames": 4, "blocks": 2, "window": 20, "confidence": 0.6, "patience": 2}
    train = make(tmp_path, candidate_every=1000, gate=gate)
    registry, batches = train.judge.registry, stream(1200)
    context = Context("training", "train", "a")
    for batch in batches[:40]:
        train.process(batch, context)
    train.consider(context)
    bad = registry.add("model", TinyAutoencoder((6,)))
    registry.promote("model", bad.version, reason="By mistake.", metrics={"score": -0.001})
    out = [train.process(batch, context) for batch in batches[40:]]
    assert out[-1]["version"][-1] == 3
    (told,) = [event for event in context.events if event.kind == "rolled_back"]
    assert "the one before it scores" in told.message
    assert registry.served("model").version == registry.at_number("model", 1).version


def test_wrong_parameters_and_frames_are_refused(tmp_path):
    for changes, said in (
        ({"updates_per_frame": 0.0}, "greater than 0"),
        ({"held_out": 1.0}, "less than 1"),
        ({"lag": 50, "held_out_block": 60}, "no pairs of frames 50 apart"),
        ({"device": "gpu"}, "did you mean"),
        ({"buffer": {"kind": "reservor"}}, "did you mean 'reservoir'"),
        ({"schedule": {"warm": 3}}, "unknown key 'warm'"),
        ({"clip": -1.0}, "must not be negative"),
        ({"weight_decay": np.nan}, "must not be negative"),
        ({"gate": {"window": 20.5}}, "must be a whole number"),
    ):
        with pytest.raises(ConfigError, match=said):
            make(tmp_path, **changes)
    with pytest.raises(SchemaError, match="parameter 'model' of train 'a/b' is not a valid name"):
        make(tmp_path, model="a/b")
    with pytest.raises(ConfigError, match="learns from pairs"):
        run_operator(make(tmp_path, kind=LAGGED), stream(40))
    with pytest.raises(ConfigError, match="learns from single frames"):
        run_operator(make(tmp_path, lag=2, held_out_block=0), stream(40))
    with pytest.raises(SchemaError, match="finds no column 'y'"):
        run_operator(make(tmp_path, input="y"), stream(40))
    with pytest.raises(SchemaError, match="must send the same"):
        run_operator(make(tmp_path), [*stream(40), *stream(40, k=5, first=100)])


def test_part_of_the_weights_is_drawn_anew(tmp_path):
    ended = []
    for part in (1.0, 0.5, 0.5):
        train = make(tmp_path / str(len(ended)), keep=part, candidate_every=10)
        context = Context("training", "train", "a")
        for batch in stream(n=240):
            train.process(batch, context)
        ended.append(np.concatenate([p.detach().ravel() for p in train.trainer.parameters]))
    assert not np.allclose(ended[0], ended[1])
    assert np.array_equal(ended[1], ended[2])
    with pytest.raises(ConfigError, match="'keep' is 2"):
        make(tmp_path, keep=2)


def test_a_stream_without_the_column_is_passed_over_once_others_are_learned_from(tmp_path):
    train, context = make(tmp_path), Context("p", "train", "odd")
    odd = FrameBatch.from_arrays("odd", {"y": np.zeros((20, 6), np.float32)})
    # A mistake in the file, as far as anybody can tell.
    with pytest.raises(SchemaError, match="no column 'x'"):
        train.process(odd, context)
    good = stream(100, simulations=("a",))
    for batch in good:
        train.process(batch, Context("p", "train", "a"))
    for _ in range(2):
        out = train.process(odd, context)
    assert len(out["updates"]) == len(odd)
    assert train.frames == 100
    (event,) = context.events
    assert event.kind == "stream_passed_over"
    assert "'odd': its frames lack 'x'; there are: y" in event.message


@pytest.mark.parametrize("lag", [0, 3])
def test_a_simulation_that_blew_up_does_not_end_what_is_learned_from_others(tmp_path, lag):
    def blown(value):
        batches = stream(400)
        batches[8]["x"][5, 2] = value
        batches[12]["x"][:] = value
        return batches

    def learn(name, value):
        train = make(tmp_path / name, kind=LAGGED if lag else TINY, lag=lag)
        context = Context("p", "train", "a")
        outs = [train.process(batch, context) for batch in blown(value)]
        return train, outs[-1]["updates"][-1], context.events

    train, updates, events = learn("nan", np.nan)
    assert updates == int((400 - 40) * 0.3)
    assert train.frames == 400
    # A pair of a good and a bad frame is a bad one.
    assert train.intake.left_out == (21 if not lag else 2 + 20 + lag)
    told = [event for event in events if event.kind == "samples_left_out"]
    assert "samples of 'a' between the offsets 80 and 99: numbers in 'x'" in told[0].message
    assert {event.level for event in told} == {"warning"}
    assert len(told) < 4
    # What comes to be infinite as float32 only counts as well.
    assert learn("huge", np.inf)[0].intake.left_out == train.intake.left_out


def test_numbers_beyond_float32_are_left_out(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 6))
    x[7] = 1e300
    train, context = make(tmp_path), Context("p", "train", "a")
    train.process(FrameBatch.from_arrays("a", {"x": x}, first_offset=0), context)
    assert train.intake.left_out == 1
    assert context.events[0].kind == "samples_left_out"


def test_a_buffer_that_can_never_hold_a_batch_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="has room for 5 samples, and an update needs 8"):
        make(tmp_path, buffer={"max_samples": 5})
    train = make(tmp_path, buffer={"kind": "fifo", "max_bytes": 100})
    with pytest.raises(ConfigError, match="has room for 4 samples, and an update needs 8"):
        run_operator(train, stream(100))
