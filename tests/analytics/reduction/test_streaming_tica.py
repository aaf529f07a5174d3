"""Streaming TICA against deeptime: both estimators, all scalings, seams, restarts, forgetting."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from deeptime.decomposition import TICA, VAMP
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.reduction import StreamingTICA
from bridge.codec import decode_state, encode_state
from bridge.errors import ConfigError, PipelineError, SchemaError


def relaxing(rng: np.random.Generator, n: int, rates: list[float]) -> np.ndarray:
    """Independent autoregressive processes of variance 1, one a rate."""
    a = np.array(rates)
    noise = rng.normal(size=(n, len(a))) * np.sqrt(1 - a**2)
    out = np.empty_like(noise)
    out[0] = rng.normal(size=len(a))
    for i in range(1, n):
        out[i] = a * out[i - 1] + noise[i]
    return out


@pytest.fixture(scope="module")
def pieces() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 5))
    rates = [0.99, 0.95, 0.85, 0.5, 0.1]
    return [relaxing(rng, n, rates) @ mix + 3.0 for n in (1500, 900, 333, 1200)]


def learn(tica: StreamingTICA, pieces: list[np.ndarray], parts: int = 9) -> StreamingTICA:
    """Feed the pieces in turns, each as a simulation of its own."""
    cut = [np.array_split(piece, parts) for piece in pieces]
    for turn in range(parts):
        for number, piece in enumerate(cut):
            tica.partial_fit(piece[turn], simulation=f"s{number}")
    return tica


def aligned(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return theirs * np.sign(np.einsum("nd,nd->d", ours, theirs))


@pytest.mark.parametrize(("scaling", "theirs"), [("unit", None), ("kinetic_map", "kinetic_map")])
def test_the_reversible_answer_is_that_of_deeptime(
    pieces: list[np.ndarray], scaling: str, theirs: str | None
) -> None:
    reference = TICA(lagtime=4, dim=3, scaling=theirs).fit(pieces).fetch_model()
    tica = learn(StreamingTICA(4, 3, scaling=scaling), pieces)  # type: ignore[arg-type]
    np.testing.assert_allclose(tica.eigenvalues, reference.singular_values[:3], rtol=1e-8)
    np.testing.assert_allclose(tica.timescales, reference.timescales()[:3], rtol=1e-7)
    for piece in pieces:
        ours = tica.transform(piece)
        wanted = aligned(ours, reference.transform(piece))
        np.testing.assert_allclose(ours, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("scaling", "theirs"), [("unit", None), ("kinetic_map", "kinetic_map")])
def test_without_reversibility_the_answer_is_that_of_vamp(
    pieces: list[np.ndarray], scaling: str, theirs: str | None
) -> None:
    reference = VAMP(lagtime=4, dim=3, scaling=theirs).fit(pieces).fetch_model()
    tica = learn(StreamingTICA(4, 3, reversible=False, scaling=scaling), pieces)  # type: ignore[arg-type]
    np.testing.assert_allclose(tica.eigenvalues, reference.singular_values[:3], rtol=1e-8)
    ours = tica.transform(pieces[0])
    wanted = aligned(ours, reference.transform(pieces[0]))
    # deeptime divides by one pair less, which scales what has variance 1.
    np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-3)
    n = learn(StreamingTICA(4, 3), pieces).covariance.n_pairs
    ratio = np.linalg.norm(ours, axis=0) / np.linalg.norm(wanted, axis=0)
    assert ratio == pytest.approx(np.full(3, ratio[0]), rel=1e-8)
    assert ratio[0] == pytest.approx(1.0, abs=2.0 / n)


def test_scalings_differ_by_a_factor_each(pieces: list[np.ndarray]) -> None:
    models = {}
    for scaling in ("unit", "kinetic_map", "commute_map", "none"):
        tica = learn(StreamingTICA(4, 3, scaling=scaling), pieces)  # type: ignore[arg-type]
        models[scaling] = tica.fit()
    unit = models["unit"]
    factors = {name: (m.weights / unit.weights)[0] for name, m in models.items()}
    np.testing.assert_allclose(factors["kinetic_map"], unit.values)
    np.testing.assert_allclose(factors["commute_map"], np.sqrt(-4 / np.log(unit.values) / 2))
    np.testing.assert_allclose(np.linalg.norm(models["none"].weights, axis=0), 1.0)
    for model in models.values():
        np.testing.assert_array_equal(model.directions, unit.directions)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200), st.integers(1, 12))
def test_cuts_do_not_matter_to_the_last_bit(size: int, lag: int) -> None:
    data = relaxing(np.random.default_rng(3), 500, [0.9, 0.5, 0.2])
    whole = StreamingTICA(lag, 2, half_life=80.0).partial_fit(data)
    cut = StreamingTICA(lag, 2, half_life=80.0)
    for start in range(0, 500, size):
        cut.partial_fit(data[start : start + size])
    whole.fit()
    cut.fit()
    assert encode_state(cut.save()) == encode_state(whole.save())


def test_restarts_end_a_piece(pieces: list[np.ndarray]) -> None:
    reference = TICA(lagtime=6, dim=2).fit(pieces).fetch_model()
    tica = StreamingTICA(6, 2)
    joined = np.concatenate(pieces)
    epochs = np.repeat(np.arange(len(pieces)), [len(p) for p in pieces])
    for start in range(0, len(joined), 13):
        part = slice(start, start + 13)
        tica.partial_fit(joined[part], epochs=epochs[part])
    np.testing.assert_allclose(tica.eigenvalues, reference.singular_values[:2], rtol=1e-8)


@settings(deadline=None, max_examples=10)
@given(st.permutations(range(4)))
def test_the_order_of_merging_does_not_matter(pieces: list[np.ndarray], order: list[int]) -> None:
    whole = learn(StreamingTICA(5, 2), pieces)
    parts = [StreamingTICA(5, 2).partial_fit(pieces[i], simulation=f"s{i}") for i in order]
    merged = parts[0].merge(parts[1]).merge(parts[2].merge(parts[3]))
    np.testing.assert_allclose(merged.eigenvalues, whole.eigenvalues, rtol=1e-10)
    np.testing.assert_allclose(merged.fit().weights, whole.fit().weights, rtol=1e-6)  # type: ignore[union-attr]


def test_units_of_features_change_nothing(pieces: list[np.ndarray]) -> None:
    units = np.array([1e-6, 1.0, 1e6, 1e-3, 1e4])
    plain = learn(StreamingTICA(4, 2), pieces)
    scaled = learn(StreamingTICA(4, 2), [p * units for p in pieces])
    np.testing.assert_allclose(scaled.eigenvalues, plain.eigenvalues, rtol=1e-8)
    ours, theirs = scaled.transform(pieces[0] * units), plain.transform(pieces[0])
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


@pytest.mark.parametrize("reversible", [True, False])
def test_constant_and_dependent_features_are_left_out(
    pieces: list[np.ndarray], reversible: bool
) -> None:
    plain = learn(StreamingTICA(4, 2, reversible=reversible), pieces)
    more = [np.column_stack([p, np.full(len(p), 0.1), p[:, 0] * 2 - 1]) for p in pieces]
    tica = learn(StreamingTICA(4, 2, reversible=reversible), more)
    np.testing.assert_allclose(tica.eigenvalues, plain.eigenvalues, rtol=1e-8)
    assert not tica.fit().weights[5].any()  # type: ignore[union-attr]
    ours, theirs = tica.transform(more[0]), plain.transform(pieces[0])
    np.testing.assert_allclose(ours, aligned(ours, theirs), atol=1e-8)


def test_each_component_goes_on_where_it_was_when_timescales_cross() -> None:
    rng = np.random.default_rng(5)
    tica = StreamingTICA(1, 3, half_life=2000.0, scaling="unit")
    before = None
    for i in range(40):
        # The second process slows down past the first; the third is always fast.
        data = relaxing(rng, 500, [0.9, 0.7 + 0.0072 * i, 0.1])
        model = tica.partial_fit(data, simulation=str(i)).fit()
        assert model is not None
        if before is not None:
            overlap = np.corrcoef(before.project(data), model.project(data), rowvar=False)[:3, 3:]
            assert np.diag(overlap).min() > 0.0
            for places in itertools.permutations(range(3)):
                assert np.trace(overlap) > np.abs(overlap[range(3), places]).sum() - 0.05
        before = model


def test_fewer_directions_than_components_leave_zeros() -> None:
    line = np.outer(relaxing(np.random.default_rng(0), 100, [0.9])[:, 0], [1.0, 2.0])
    for scaling in ("unit", "kinetic_map", "commute_map", "none"):
        tica = StreamingTICA(1, 2, scaling=scaling).partial_fit(line)  # type: ignore[arg-type]
        out = tica.transform(line)
        assert out[:, 0].std() > 0
        assert not out[:, 1].any()
        assert tica.timescales[1] == 0.0


def test_no_pairs_or_constant_data_have_no_model() -> None:
    tica = StreamingTICA(5, 1).partial_fit(np.arange(5.0))
    assert tica.fit() is None
    with pytest.raises(PipelineError, match="no two frames came that are 5 apart"):
        tica.transform([[1.0]])
    assert StreamingTICA(1, 1).partial_fit(np.full((70, 2), 0.3)).fit() is None
    assert StreamingTICA(1, 1, reversible=False).partial_fit(np.full((70, 2), 0.3)).fit() is None


def test_a_state_goes_through_bytes(pieces: list[np.ndarray]) -> None:
    whole, half, again = (StreamingTICA(3, 2, half_life=500.0) for _ in range(3))
    for tica in (whole, half):
        learn(tica, pieces[:2]).fit()
    again.restore(decode_state(encode_state(half.save())))
    for tica in (whole, again):
        tica.partial_fit(pieces[2], simulation="s0")
        tica.fit()
    assert encode_state(whole.save()) == encode_state(again.save())


@pytest.mark.parametrize(
    ("action", "error", "says"),
    [
        (lambda: StreamingTICA(0, 1), ConfigError, "'lag'"),
        (lambda: StreamingTICA(1, 0), ConfigError, "'n_components'"),
        (lambda: StreamingTICA(1, 1, scaling="km"), ConfigError, "'scaling' is 'km'"),  # type: ignore[arg-type]
        (lambda: StreamingTICA(1, 1, regularisation=1.0), ConfigError, "'regularisation'"),
        (lambda: StreamingTICA(1, 1).partial_fit([[np.inf]]), SchemaError, "not finite"),
        (lambda: StreamingTICA(1, 1).merge(StreamingTICA(2, 1)), SchemaError, "lags 1 and 2"),
    ],
)
def test_what_does_not_fit_is_refused(
    action: Callable[[], object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        action()
