"""Scores and modes of pairs, against deeptime."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from deeptime.decomposition import TICA, VAMP
from deeptime.decomposition.deep import vamp_score

from analytics.reduction.networks.vamp import joint_moments, modes_of, slow_score
from tests.analytics.reduction.networks.systems import relaxations


def pairs(lag: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    x = relaxations(3000)
    x = (x - x.mean(0)) / x.std(0)
    return torch.from_numpy(x[:-lag]), torch.from_numpy(x[lag:])


def test_score_and_gradient_are_those_of_deeptime() -> None:
    x, y = (side.requires_grad_() for side in pairs())
    ours = slow_score(x, y, 0.0, reversible=False)
    got = torch.autograd.grad(ours, (x, y))
    theirs = vamp_score(x, y, method="VAMP2", epsilon=1e-14, mode="regularize")
    wanted = torch.autograd.grad(theirs, (x, y))
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-9)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


def test_regularisation_is_relative_to_the_variance() -> None:
    x, y = pairs()
    score = slow_score(x, y, 1e-2, reversible=False)
    theirs = vamp_score(x, y, method="VAMP2", epsilon=1e-2, mode="regularize")
    assert float(score) == pytest.approx(float(theirs), rel=1e-4)
    torch.testing.assert_close(slow_score(1e4 * x, 1e4 * y, 1e-2, reversible=False), score)


def test_single_precision_gives_the_same_score_and_gradient() -> None:
    x, y = pairs()
    # A mean a hundred times the spread.
    x, y = x + 100.0, y + 100.0
    rough, later = x.float().requires_grad_(), y.float()
    score = slow_score(rough, later, 1e-6, reversible=False)
    (got,) = torch.autograd.grad(score, rough)
    x.requires_grad_()
    exact = slow_score(x, y, 1e-6, reversible=False)
    (wanted,) = torch.autograd.grad(exact, x)
    assert got.dtype == torch.float32
    assert float(score.detach()) == pytest.approx(float(exact.detach()), rel=1e-4)
    assert float((got - wanted).norm() / wanted.norm()) < 1e-3


@pytest.mark.parametrize("reversible", [False, True])
def test_score_does_not_change_with_the_basis(reversible: bool) -> None:
    x, y = pairs()
    mix = torch.randn(4, 4, dtype=torch.float64)
    score = slow_score(x, y, 0.0, reversible=reversible)
    torch.testing.assert_close(slow_score(x @ mix, y @ mix, 0.0, reversible=reversible), score)


@pytest.mark.parametrize("reversible", [False, True])
def test_constant_and_repeated_outputs_have_finite_gradients(reversible: bool) -> None:
    x, y = (side.float() for side in pairs())
    for columns in ([0, 0, 1], [2, 2, 2]):
        a, b = x[:, columns].clone(), y[:, columns].clone()
        a[:, 2], b[:, 2] = 5.0, 5.0
        a.requires_grad_()
        score = slow_score(a, b, 1e-6, reversible=reversible)
        (gradient,) = torch.autograd.grad(score, a)
        assert 1.0 <= float(score.detach()) <= 4.0
        assert bool(torch.isfinite(gradient).all())
    nothing = torch.full((50, 2), 3.0, requires_grad=True)
    score = slow_score(nothing, nothing, 1e-6, reversible=reversible)
    (gradient,) = torch.autograd.grad(score, nothing)
    assert float(score.detach()) == 1.0
    assert bool(torch.isfinite(gradient).all())


def test_what_is_not_finite_makes_the_score_so() -> None:
    x, y = pairs()
    x[7, 1] = torch.nan
    assert not bool(torch.isfinite(slow_score(x, y, 1e-6, reversible=False)))


def test_singular_values_and_modes_are_those_of_vamp() -> None:
    x, y = pairs()
    mean, weights, values = modes_of(joint_moments(x, y), 0.0, reversible=False)
    model = VAMP(epsilon=1e-14).fit((x.numpy(), y.numpy())).fetch_model()
    np.testing.assert_allclose(values, model.singular_values, rtol=1e-6)
    modes = ((x - mean) @ weights).numpy()
    theirs = model.transform(x.numpy())
    for i in range(4):
        assert abs(np.corrcoef(modes[:, i], theirs[:, i])[0, 1]) > 1 - 1e-9
    np.testing.assert_allclose(np.cov(modes.T), np.eye(4), atol=1e-9)


def test_eigenvalues_and_modes_are_those_of_tica() -> None:
    x, y = pairs()
    mean, weights, values = modes_of(joint_moments(x, y), 0.0, reversible=True)
    score = slow_score(x, y, 0.0, reversible=True)
    model = TICA(epsilon=1e-14, scaling=None).fit((x.numpy(), y.numpy())).fetch_model()
    np.testing.assert_allclose(values, model.singular_values, rtol=1e-6)
    assert float(score) == pytest.approx(1 + (model.singular_values**2).sum(), rel=1e-6)
    modes = ((x - mean) @ weights).numpy()
    theirs = model.transform(x.numpy())
    for i in range(4):
        assert abs(np.corrcoef(modes[:, i], theirs[:, i])[0, 1]) > 1 - 1e-9
