"""Gray-Scott with stiff kinetics, whose reaction a network learns and takes over while it runs.

    python gray_scott.py --stager tcp://127.0.0.1:5555 --service reaction

In each cell the species react, u + 2v -> 3v, for the length of a time step; that is integrated in
many small steps, as the kinetics of a flame would be, and costs far more than the diffusion between
the cells. Each frame carries cells chosen at random, before and after their reaction: what a
network learns from. Once it is served, the simulation asks it for all cells at once, and integrates
those for itself that lie outside of what it has learned. The chosen cells are always integrated:
they tell by how much the network is wrong, and the newest of them keep it learning.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import numpy.typing as npt

from bridge.commands import Capability
from bridge.schema import StreamSchema, Variable
from sim_adapters.link import Link, link

Floats = npt.NDArray[np.float64]


def react(u: Floats, v: Floats, dt: float, substeps: int = 200) -> Floats:
    """Return how much of u has become v after `dt`, by the classical Runge-Kutta method."""
    h, total, gone = dt / substeps, u + v, np.zeros_like(u)

    def rate(x: Floats) -> Floats:
        rest = u - x
        return rest * np.square(total - rest)

    for _ in range(substeps):
        k1 = rate(gone)
        k2 = rate(gone + 0.5 * h * k1)
        k3 = rate(gone + 0.5 * h * k2)
        k4 = rate(gone + h * k3)
        gone = gone + (h / 6.0) * (k1 + 2.0 * (k2 + k3) + k4)
    return gone


class GrayScott:
    """The two species on a periodic cube, float64.

    Parameters
    ----------
    size
        Cells along each side.
    F, k
        Feed and kill rate.
    seed
        Of the noise that the reaction starts from.
    """

    def __init__(self, size: int, *, F: float, k: float, dt: float, seed: int) -> None:
        self.F, self.k, self.dt = F, k, dt
        self.Du, self.Dv = 0.16, 0.08
        noise = np.random.default_rng(seed)
        self.u, self.v = np.ones((size,) * 3), np.zeros((size,) * 3)
        middle = (slice(size // 2 - size // 8, size // 2 + size // 8),) * 3
        self.u[middle], self.v[middle] = 0.5, 0.25
        self.u -= 0.02 * noise.random(self.u.shape)
        self.v += 0.02 * noise.random(self.v.shape)

    def step(self, reacted: Floats) -> None:
        """Advance by one time step, with what the reaction turns over in it."""
        flow_u, flow_v = _laplacian(self.u), _laplacian(self.v)
        self.u += self.dt * (self.Du * flow_u + self.F * (1.0 - self.u)) - reacted
        self.v += self.dt * (self.Dv * flow_v - (self.F + self.k) * self.v) + reacted


def _laplacian(field: Floats) -> Floats:
    out = -6.0 * field
    for axis in range(3):
        out += np.roll(field, 1, axis) + np.roll(field, -1, axis)
    return out


class Reaction:
    """The reaction of all cells: by the network where it may be trusted, else integrated.

    Attributes
    ----------
    asked, answered
        Cells that the network was asked for, and those that it might be trusted with.
    seconds
        Spent in reactions that the network answered, and in those that were integrated whole.
    error
        Root mean square deviation of the network from the integration in the chosen cells of the
        newest answer, in parts of the most that has reacted so far (root mean square); 0 before
        there is one. What reacts at present would be no measure: where the reaction has died, no
        error is small beside it.
    """

    def __init__(self, stream: Link, service: str, dt: float, timeout: float) -> None:
        self.stream, self.service, self.dt, self.timeout = stream, service, dt, timeout
        self.asked = self.answered = 0
        self.seconds = {"network": [0, 0.0], "integrated": [0, 0.0]}
        self.version = 0
        self.error = self.scale = 0.0

    def __call__(self, u: Floats, v: Floats, chosen: npt.NDArray[np.intp], exact: Floats) -> Floats:
        """Return what reacts in each cell; `exact` is what does in the chosen ones."""
        began = time.perf_counter()
        flat_u, flat_v = u.ravel(), v.ravel()
        out = np.empty(flat_u.shape)
        rest = np.ones(flat_u.shape, np.bool_)
        self.scale = max(self.scale, float(np.sqrt(np.mean(np.square(exact)))))
        if self.service:
            found = self.stream.infer(self.service, timeout=self.timeout, u=flat_u, v=flat_v)
            self.version = found.version
            if found.version:
                self.asked += flat_u.size
                self.answered += int(found.valid.sum())
                told = found["reacted"]
                out[found.valid] = told[found.valid]
                rest = ~found.valid
                good = chosen[found.valid[chosen]]
                if len(good):
                    true = exact[found.valid[chosen]]
                    wrong = float(np.sqrt(np.mean(np.square(told[good] - true))))
                    self.error = wrong / self.scale if self.scale else 0.0
        out[rest] = react(flat_u[rest], flat_v[rest], self.dt)
        out[chosen] = exact
        count = self.seconds["network" if self.version else "integrated"]
        count[0] += 1
        count[1] += time.perf_counter() - began
        return out.reshape(u.shape)


def describe(samples: int) -> StreamSchema:
    """Return what a frame holds."""
    return StreamSchema(
        (
            Variable("before", "<f4", (samples, 2), description="u and v of chosen cells"),
            Variable("reacted", "<f4", (samples, 1), description="turned over in them in a step"),
            Variable("version", "<i8", description="of the network; 0 where none was asked"),
            Variable("error", "<f8", description="of the network in the chosen cells, relative"),
            Variable("trusted", "<f8", description="part of the cells that the network answered"),
            Variable("v_mean", "<f8"),
        )
    )


def run(options: argparse.Namespace) -> None:
    """Simulate, stream and ask."""
    field = GrayScott(options.size, F=options.F, k=options.k, dt=options.dt, seed=options.seed)
    choose = np.random.default_rng(options.seed + 1)
    with link(
        options.name,
        stager=options.stager,
        schema=describe(options.samples),
        capabilities=[Capability("stop"), Capability("set", "F", 0.01, 0.1)],
    ) as stream:
        stream.on("set", "F", lambda value: setattr(field, "F", value))
        reaction = Reaction(stream, options.service, options.dt, options.timeout)
        for step in range(options.steps):
            chosen = choose.integers(field.u.size, size=options.samples)
            u, v = field.u.ravel()[chosen], field.v.ravel()[chosen]
            exact = react(u, v, options.dt)
            reacted = reaction(field.u, field.v, chosen, exact)
            stream.put(
                step,
                step * options.dt,
                before=np.stack([u, v], axis=1).astype(np.float32),
                reacted=exact[:, None].astype(np.float32),
                version=reaction.version,
                error=reaction.error,
                trusted=reaction.answered / reaction.asked if reaction.asked else 0.0,
                v_mean=field.v.mean(),
            )
            field.step(reacted)
            stream.service(step, step * options.dt)
            if stream.stopped:
                break
        facts = {
            kind: {"steps": n, "ms_a_step": 1e3 * seconds / n}
            for kind, (n, seconds) in reaction.seconds.items()
            if n
        }
        stream.event(
            "reaction",
            f"Of {reaction.asked} cells the network was asked for, it might be trusted with "
            f"{reaction.answered}; it was wrong by {100 * reaction.error:.2g} % at the end.",
            error=reaction.error,
            **facts,
        )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stager", help="address; default: HEADRACE_STAGER")
    parser.add_argument("--name", default=os.environ.get("HEADRACE_SIMULATION", "gray-scott"))
    parser.add_argument("--service", default="", help="ask this service; none by default")
    parser.add_argument("--timeout", type=float, default=2.0, help="of an answer, in seconds")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=256, help="cells that a frame carries")
    parser.add_argument("--dt", type=float, default=1.0)
    parser.add_argument("--F", type=float, default=0.03)
    parser.add_argument("--k", type=float, default=0.06)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HEADRACE_SEED", "1")))
    run(parser.parse_args())


if __name__ == "__main__":
    main()
