"""The surface and its walkers, against numbers and statistics that others give."""

from __future__ import annotations

import numpy as np

from sim_adapters.muller_brown import MINIMA, Walkers, energy, force


def test_the_minima_are_those_of_the_literature():
    # Müller and Brown 1979: energies of the three minima.
    np.testing.assert_allclose(energy(MINIMA), [-146.700, -108.167, -80.768], atol=1e-3)
    np.testing.assert_allclose(force(MINIMA), 0.0, atol=1e-2)


def test_the_force_is_the_slope():
    points = np.random.default_rng(0).uniform([-1.5, -0.5], [1.2, 2.0], (200, 2))
    for axis in range(2):
        h = np.zeros(2)
        h[axis] = 1e-6
        slope = (energy(points + h) - energy(points - h)) / 2e-6
        np.testing.assert_allclose(force(points)[:, axis], -slope, rtol=1e-5, atol=1e-4)


def test_cuts_of_the_steps_do_not_matter():
    one, other = (Walkers(np.tile(MINIMA[0], (3, 1)), kT=10.0, seed=5) for _ in range(2))
    one.step(5000)
    for count in (1, 999, 4000):
        other.step(count)
    np.testing.assert_array_equal(one.positions, other.positions)
    assert one.steps == other.steps == 5000


def test_walkers_in_a_well_follow_boltzmann():
    # Near a minimum the well is harmonic: <x x^T> = kT H^-1 for a small kT.
    kT, minimum = 0.5, MINIMA[1]
    walkers = Walkers(np.tile(minimum, (400, 1)), kT=kT, seed=1)
    h = 1e-4
    hessian = np.array(
        [-(force(minimum + h * e) - force(minimum - h * e)) / (2 * h) for e in np.eye(2)]
    )
    walkers.step(2000)
    samples = []
    for _ in range(60):
        walkers.step(200)
        samples.append(walkers.positions - minimum)
    found = np.cov(np.concatenate(samples).T)
    np.testing.assert_allclose(found, kT * np.linalg.inv(hessian), rtol=0.15, atol=2e-5)
