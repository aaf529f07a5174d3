"""A million particles from four ranks; where they are, and how far apart: python density_map.py

The ranks are processes that write a block of each frame. The pipeline of pipeline.toml counts the
particles in the cells of a grid and the pairs in shells, and stores the means over windows of
simulated time in a Parquet dataset, which is read back with pandas at the end.

Needs the extras ``analysis`` and ``parquet``, and pandas.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bridge.config import read_toml
from bridge.engines import LocalEngine, load_engine
from bridge.engines.configure import pipeline_from_table
from bridge.engines.job import Job
from bridge.engines.options import JobOptions
from bridge.pipeline import Pipeline
from bridge.schema import StreamSchema, Variable
from bridge.staging import Stager, StagerClient
from bridge.staging.producer import Producer

HERE = Path(__file__).parent
SPACING = 0.3
RANKS = 4


def describe(side: int) -> StreamSchema:
    """Return what frames of ``side ** 3`` particles are made of."""
    return StreamSchema(
        (
            Variable("positions", "<f4", (side**3, 3), "nm", decomposed=True),
            Variable("box", "<f8", (3,), "nm"),
        ),
        time_unit="ps",
        n_ranks=RANKS,
    )


def simulate(rank: int, address: str, side: int, frames: int) -> None:
    """Write one rank's block of each frame: a hot cubic crystal with a wave running through it."""
    rng = np.random.default_rng(rank)
    length = side * SPACING
    start, stop = rank * side**3 // RANKS, (rank + 1) * side**3 // RANKS
    places = np.stack(np.unravel_index(np.arange(start, stop), (side,) * 3), axis=1)
    lattice = ((places + 0.5) * SPACING).astype(np.float32)
    box = np.full(3, length)
    with Producer("crystal", describe(side), address=address, rank=rank) as producer:
        for step in range(frames):
            positions = lattice + rng.normal(0.0, 0.02, lattice.shape).astype(np.float32)
            phase = 2 * np.pi * (lattice[:, 0] / length - step / 100)
            positions[:, 0] += 0.05 * length * np.sin(phase)
            producer.put_block(step, float(step), start, {"positions": positions, "box": box})


def make_pipeline(folder: Path, analysis: str) -> Pipeline:
    """Return the pipeline of pipeline.toml, or what is left of it with one analysis alone."""
    table = read_toml(HERE / "pipeline.toml")["pipeline"]
    other = {"density": "rdf", "rdf": "density"}.get(analysis)
    operators = [operator for operator in table["operators"] if operator["name"] != other]
    table["operators"] = operators
    for names in (table["outputs"], operators[-2]["input"], operators[-1]["columns"]):
        names[:] = [name for name in names if name not in (other, f"mean_{other}")]
    operators[-1]["folder"] = str(folder)
    return pipeline_from_table(table)


def analyse(engine: str, pipeline: Pipeline, address: str, groups: int) -> int:
    """Run the pipeline until the simulation has finished; return the number of frames."""
    if engine == "local":
        with StagerClient(address) as client:
            return LocalEngine(pipeline, client).run().frames
    options = JobOptions(block_groups=groups)
    job = Job(pipeline, address, options=options, expected=("crystal",))
    return int(load_engine(engine)(job).run().frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atoms", type=int, default=1_000_000, help="about so many")
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--folder", type=Path, default=HERE / "density_map.parquet")
    parser.add_argument("--analysis", choices=["both", "density", "rdf"], default="both")
    parser.add_argument("--engine", choices=["local", "flink", "spark"], default="local")
    parser.add_argument(
        "--groups", type=int, default=1, help="share out each frame's rows; with one analysis"
    )
    chosen = parser.parse_args()
    if chosen.groups > 1 and chosen.analysis == "both":
        parser.error("the rows of frames are shared out for one analysis: give --analysis, too")
    side = max(4, round(chosen.atoms ** (1 / 3)))
    pipeline = make_pipeline(chosen.folder.resolve(), chosen.analysis)
    began = time.perf_counter()
    with Stager("tcp://127.0.0.1:0").start() as stager:
        spawn = multiprocessing.get_context("spawn")
        ranks = [
            spawn.Process(target=simulate, args=(rank, stager.address, side, chosen.frames))
            for rank in range(RANKS)
        ]
        for process in ranks:
            process.start()
        frames = analyse(chosen.engine, pipeline, stager.address, chosen.groups)
        for process in ranks:
            process.join()
    seconds = time.perf_counter() - began
    print(f"{frames} frames of {side**3:,} particles from {RANKS} ranks in {seconds:.1f} s")
    report(pd.read_parquet(chosen.folder))


def report(windows: pd.DataFrame) -> None:
    """Say what the dataset holds."""
    for _, row in windows.sort_values("offset").iterrows():
        said = f"{row.window_start:g} to {row.window_end:g} ps, {row.window_count} frames"
        if "mean_density" in row:
            cells = round(len(row.mean_density) ** (1 / 3))
            planes = np.reshape(row.mean_density, (cells, -1)).mean(axis=1)
            said += f"; densest plane {planes.argmax()} of {cells}, {planes.max():.1f} per nm³"
        if "mean_rdf" in row:
            peak = int(np.argmax(row.mean_rdf))
            said += f"; g(r) is {row.mean_rdf[peak]:.2f} in shell {peak}"
        print(said)


if __name__ == "__main__":
    main()
