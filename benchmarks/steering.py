"""Simulated time over all walkers to the first event: steered, random restarts, and plain.

The pipelines are those of the examples, run by the same runner, in one process with the walkers:
a decision is applied before the next frame. Plain runs have the restarts taken out. A run that
reaches its limit without an event counts with its time and without an event; the mean is the
maximum likelihood estimate for exponential waiting times, total time / events, and its interval
the exact one for a Poisson count (Garwood 1936).
"""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import stats

from benchmarks.processes import spawn
from benchmarks.report import figure, result
from bridge import FrameBatch
from bridge.codec import decode_state
from bridge.commands import Command
from bridge.engines import pipeline_from_table
from bridge.engines.outcome import Outcome
from bridge.engines.runner import Runner
from sim_adapters.muller_brown import MINIMA, Walkers
from sim_adapters.openmm_system import SystemTable, build_simulation, read_structure

EXAMPLES = Path(__file__).parents[1] / "examples"
WALKERS = 8


def make_runner(example: str, arm: str, seed: int) -> Runner:
    """Return a runner of an example's pipeline, as ``--control`` would change it."""
    table = tomllib.loads((EXAMPLES / example / "run.toml").read_text(encoding="utf-8"))
    pipeline = dict(table["pipeline"])
    operators = [dict(o) for o in pipeline["operators"]]
    if arm != "steered":
        control = table["control"][{"random": "random", "plain": "none"}[arm]]
        operators = [o for o in operators if o["name"] not in control.get("remove", ())]
        for o in operators:
            o.update(control.get("set", {}).get(o["name"], {}))
    if arm == "plain":
        # Nothing but the target is looked at: plain runs are long.
        needed = {"phi_psi", "target"}
        operators = [o for o in operators if o["name"] in needed]
        pipeline.pop("outputs", None)
    for o in operators:
        if o["use"] == "restart_rare":
            o["seed"] = seed
    return Runner(pipeline_from_table({**pipeline, "operators": operators}))


class Processing(Protocol):
    """What answers batches as a `Runner` does."""

    def process(self, batch: FrameBatch, names: tuple[str, ...], /) -> Outcome:
        """Return what a batch came to."""


def explore(
    runner: Processing,
    advance: Callable[[], np.ndarray],
    place: Callable[[int, Mapping[str, np.ndarray]], None],
    limit: int,
) -> tuple[int, bool]:
    """Run walkers in rounds of one frame each; return frames over all walkers, and the event."""
    names = tuple(f"walker-{i}" for i in range(WALKERS))
    epochs = [0] * WALKERS
    for round_ in range(limit):
        positions = advance()
        commands: list[Command] = []
        for i, name in enumerate(names):
            batch = FrameBatch.from_arrays(
                name, {"positions": positions[i : i + 1]}, first_offset=round_, epochs=[epochs[i]]
            )
            outcome = runner.process(batch, names)
            if any(e.kind == "target_reached" for e in outcome.events):
                return round_ * WALKERS + i + 1, True
            commands += [n.command for n in outcome.commands]
        for command in commands:
            if command.kind == "restart":
                who = names.index(command.simulation)
                place(who, decode_state(command.state))
                epochs[who] += 1
    return limit * WALKERS, False


def muller_brown(job: tuple[str, int, int]) -> tuple[float, bool]:
    """Return steps over all walkers to the other minimum, and whether it was reached."""
    arm, seed, limit = job
    if arm == "plain":
        return _plain_muller_brown(seed, limit)
    walkers = Walkers(np.tile(MINIMA[0], (WALKERS, 1)), kT=10.0, seed=seed)

    def advance() -> np.ndarray:
        walkers.step(10)
        return walkers.positions.copy()

    def place(row: int, arrays: Mapping[str, np.ndarray]) -> None:
        walkers.place(row, arrays["positions"])

    frames, found = explore(
        make_runner("muller_brown", arm, seed), advance, place, limit // 10 // WALKERS
    )
    return frames * 10.0, found


def _plain_muller_brown(seed: int, limit: int) -> tuple[float, bool]:
    # Without restarts the walkers do not know of each other: many at once, and each passage is one
    # event. A walker that has passed begins again.
    walkers = Walkers(np.tile(MINIMA[0], (64, 1)), kT=10.0, seed=seed)
    while walkers.steps * len(walkers) < limit:
        walkers.step(10)
        if (walkers.positions[:, 0] >= 0.5).any():
            return float(walkers.steps * len(walkers)), True
    return float(walkers.steps * len(walkers)), False


def explore_alanine(runner: Processing, seed: int, limit: int) -> tuple[float, bool]:
    """Return picoseconds over all walkers to 20° < phi < 120°, and whether it was reached.

    Parameters
    ----------
    runner
        What steers.
    seed
        Of the walkers.
    limit
        Picoseconds over all walkers.
    """
    table = tomllib.loads(
        (EXAMPLES / "alanine_dipeptide" / "run.toml").read_text(encoding="utf-8")
    )["simulation"]
    keys = set(SystemTable.__struct_fields__)
    system = SystemTable(**{k: v for k, v in table.items() if k in keys})
    structure = read_structure(system, EXAMPLES / "alanine_dipeptide")
    from openmm import unit

    walkers = [build_simulation(structure, system, seed * 1000 + i + 1) for i in range(WALKERS)]
    every, picoseconds = int(table["every"]), table["every"] * system.timestep
    drawn = iter(range(seed * 10**6, 2**31))

    def advance() -> np.ndarray:
        for w in walkers:
            w.step(every)
        return np.stack(
            [w.context.getState(positions=True).getPositions(asNumpy=True)._value for w in walkers]
        )

    def place(row: int, arrays: Mapping[str, np.ndarray]) -> None:
        context = walkers[row].context
        context.setPositions(arrays["positions"])
        context.setVelocitiesToTemperature(system.temperature * unit.kelvin, next(drawn))

    rounds = int(limit / picoseconds / WALKERS)
    frames, found = explore(runner, advance, place, rounds)
    return frames * picoseconds, found


def alanine(job: tuple[str, int, int]) -> tuple[float, bool]:
    """Return picoseconds over all walkers to 20° < phi < 120°, and whether it was reached."""
    arm, seed, limit = job
    return explore_alanine(make_runner("alanine_dipeptide", arm, seed), seed, limit)


def estimate(runs: list[tuple[float, bool]]) -> tuple[float, float, float, int]:
    """Return the mean time to an event, its 95 % interval, and the number of events."""
    total, events = sum(t for t, _ in runs), sum(found for _, found in runs)
    low = 2 * total / stats.chi2.ppf(0.975, 2 * events + 2)
    high = 2 * total / stats.chi2.ppf(0.025, 2 * events) if events else float("inf")
    return (total / events if events else float("inf")), low, high, events


def _arm(name: str, unit: str, runs: list[tuple[float, bool]], scale: float) -> dict[str, Any]:
    mean, low, high, events = estimate(runs)
    values = [t / scale for t, _ in runs]
    # Without an event, the lower bound is all that can be said.
    return {
        **figure(name if events else f"{name} (no event: at least)", values, unit),
        "value": float(f"{(mean if events else low) / scale:.4g}"),
        "interval_95": [
            float(f"{low / scale:.3g}"),
            float(f"{high / scale:.3g}") if events else None,
        ],
        "events": events,
        "median": float(f"{statistics.median(values):.4g}"),
    }


def compare_arms(
    name: str, unit: str, scale: float, target: float, arms: dict[str, list[tuple[float, bool]]]
) -> list[dict[str, Any]]:
    """Return the figures of each arm, and what is gained over plain runs."""
    figures = [_arm(f"{name}: {arm}", unit, runs, scale) for arm, runs in arms.items() if runs]
    if arms.get("plain") and any(found for _, found in arms["steered"]):
        steered, plain = estimate(arms["steered"]), estimate(arms["plain"])
        # Without an event in the plain arm, its lower bound is all that can be said.
        value = plain[0] if plain[3] else plain[1]
        told = "plain to steered" if plain[3] else "plain to steered (no plain event: at least)"
        ratio = figure(
            f"{name}: {told}", [value / steered[0]], "×", target=target if plain[3] else None,
            worst=float(f"{plain[1] / steered[2]:.3g}"),
        )  # fmt: skip
        if plain[3]:
            # Of the ratio of two means of exponential times: F with twice the numbers of events.
            f = stats.f(2 * steered[3], 2 * plain[3])
            ends = value / steered[0] * f.ppf([0.025, 0.975])
            ratio["interval_95"] = [float(f"{end:.3g}") for end in ends]
        figures.append({**ratio, "runs": len(arms["steered"])})
    return figures


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text. In full it takes about 20 minutes on two cores."""
    seeds = range(1, 5) if quick else range(1, 13)
    few = range(1, 3) if quick else seeds
    plain = seeds if quick else range(1, 21)
    cap = 500 if quick else 6000
    jobs = {
        "steered": [("steered", s, 400_000) for s in seeds],
        "random": [("random", s, 100_000 if quick else 500_000) for s in seeds],
        "plain": [("plain", s, 30_000_000) for s in plain],
    }
    long_jobs = {
        "steered": [("steered", s, 3000) for s in few],
        "random": [] if quick else [("random", s, 1000) for s in seeds],
        "plain": [("plain", s, cap) for s in few],
    }
    with spawn.Pool(2) as pool:
        mb = {arm: pool.map_async(muller_brown, todo, 1) for arm, todo in jobs.items()}
        ala = {arm: pool.map_async(alanine, todo, 1) for arm, todo in long_jobs.items()}
        mb_runs = {arm: pending.get() for arm, pending in mb.items()}
        ala_runs = {arm: pending.get() for arm, pending in ala.items()}
    return result(
        "steering",
        [
            *compare_arms("Müller-Brown, kT = 10", "steps", 1.0, 50.0, mb_runs),
            *compare_arms("alanine dipeptide", "ns", 1000.0, 10.0, ala_runs),
        ],
    )
