"""What is learned on the stream against what is fitted to the whole trajectory afterwards.

Alanine dipeptide in implicit solvent is simulated, a trajectory to learn from and another one to
judge by. Each model is trained by the operators of a pipeline, in one pass over batches of 50
frames, and offline: TICA and VAMPnet by deeptime, the autoencoder by as many updates on samples of
the whole trajectory. Slow modes are judged by the VAMP-2 score that deeptime finds for them on the
other trajectory, autoencoders by their error of reconstruction there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deeptime.decomposition import TICA, VAMP
from deeptime.decomposition.deep import VAMPNet
from deeptime.util.data import TrajectoryDataset

from analytics.learning.model import StreamModel, make_model
from analytics.learning.registry import Registry
from analytics.learning.train import Train
from analytics.reduction.tica import OnlineTICA
from benchmarks.report import figure, result
from benchmarks.steering import EXAMPLES
from bridge import FrameBatch
from bridge.pipeline import Context, Operator
from sim_adapters.openmm_system import SystemTable, build_simulation, read_structure

LAG = 10
EVERY = 25  # steps of 4 fs between frames
SLOW = 2
HEAVY = (1, 4, 5, 6, 8, 10, 14, 15, 16, 18)
UPDATES, BATCH, RATE = 1500, 512, 2e-3


def simulate(frames: int, seed: int) -> np.ndarray[Any, Any]:
    """Return positions in nm, float32 of shape (frames, 22, 3)."""
    import tomllib

    folder = EXAMPLES / "alanine_dipeptide"
    table = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))["simulation"]
    keys = set(SystemTable.__struct_fields__)
    system = SystemTable(**{k: v for k, v in table.items() if k in keys})
    walker = build_simulation(read_structure(system, folder), system, seed)
    out = np.empty((frames, 22, 3), np.float32)
    for row in out:
        walker.step(EVERY)
        row[:] = walker.context.getState(positions=True).getPositions(asNumpy=True)._value
    return out


def distances(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the distances of heavy atoms, shape (n, 45)."""
    heavy = positions[:, HEAVY]
    i, j = np.triu_indices(len(HEAVY), 1)
    out: np.ndarray[Any, Any] = np.linalg.norm(heavy[:, i] - heavy[:, j], axis=-1)
    return out.astype(np.float32)


def contacts(positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return maps of the atoms that are closer than 0.4 nm, shape (n, 22, 22)."""
    apart = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    return (apart < 0.4).astype(np.float32)


def batches(x: np.ndarray[Any, Any], size: int = 50) -> Iterator[FrameBatch]:
    """Yield a trajectory as the engine would."""
    for first in range(0, len(x), size):
        yield FrameBatch.from_arrays("sim", {"x": x[first : first + size]}, first_offset=first)


def _stream(operator: Operator, x: np.ndarray[Any, Any]) -> None:
    context = Context("benchmark", "train", "sim")
    for batch in batches(x):
        operator.process(batch, context)
    operator.finish(context)


def train_online(
    kind: str, hyper: Mapping[str, Any], x: np.ndarray[Any, Any], folder: Path, *, lag: int = 0
) -> StreamModel:
    """Return the model that is in service after one pass over the stream."""
    train = Train(
        kind=kind, input="x", hyper=hyper, registry=str(folder), lag=lag, batch_size=BATCH,
        buffer={"kind": "reservoir", "max_samples": len(x)}, learning_rate=RATE, start_after=1000,
        updates_per_frame=UPDATES / (len(x) - 1000), candidate_every=UPDATES // 5,
        keep=0.4 if lag else 1.0, watch_drift=False, seed=1, device="cpu", threads=1,
    )  # fmt: skip
    _stream(train, x)
    registry = Registry(folder)
    served = registry.served("model")
    assert served is not None
    return registry.load(served.version).model.eval()


def encode(model: StreamModel, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the coordinates of frames."""
    with torch.inference_mode():
        return model.encode(torch.from_numpy(x)).numpy()


def vamp2(z: np.ndarray[Any, Any]) -> float:
    """Return the VAMP-2 score of coordinates, by deeptime, without the constant's 1."""
    covariances = VAMP(lagtime=LAG).fit_from_timeseries(z.astype(np.float64))
    return float(covariances.fetch_model().score(2)) - 1.0


def _tica(x: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    online = OnlineTICA(input="x", lag=LAG, n_components=SLOW, update_every=1000)
    _stream(online, x)
    model = online.estimator.model
    assert model is not None
    offline = TICA(lagtime=LAG, dim=SLOW).fit_fetch(x.astype(np.float64))
    return vamp2(model.project(other.astype(np.float64))) / vamp2(
        offline.transform(other.astype(np.float64))
    )


def _vampnet(x: np.ndarray[Any, Any], other: np.ndarray[Any, Any], folder: Path) -> float:
    online = train_online(
        "vampnet", {"latent": SLOW, "hidden": [64, 64], "activation": "elu"}, x, folder, lag=LAG
    )
    torch.manual_seed(1)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    lobe = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 64), torch.nn.ELU(), torch.nn.Linear(64, 64), torch.nn.ELU(),
        torch.nn.Linear(64, SLOW),
    )  # fmt: skip
    offline = VAMPNet(lobe=lobe, learning_rate=RATE, device="cpu")
    data = TrajectoryDataset(LAG, ((x - mean) / deviation).astype(np.float32))
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)
    epochs = max(1, round(UPDATES * BATCH / len(data)))
    offline.fit(loader, n_epochs=epochs)
    theirs = offline.transform(((other - mean) / deviation).astype(np.float32))
    return vamp2(encode(online, other)) / vamp2(theirs)


def _cvae(x: np.ndarray[Any, Any], other: np.ndarray[Any, Any], folder: Path) -> float:
    hyper = {"latent": 3}
    online = train_online("cvae", hyper, x, folder)
    torch.manual_seed(1)
    offline = make_model("cvae", x.shape[1:], hyper)
    frames = torch.from_numpy(x)
    with torch.no_grad():
        offline.prepare(frames[:1000])
    offline.train()
    optimiser = torch.optim.Adam(offline.parameters(), RATE)
    generator = torch.Generator().manual_seed(2)
    for _ in range(UPDATES):
        rows = torch.randint(len(frames), (BATCH,), generator=generator)
        loss, _ = offline.loss(frames[rows], generator=generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(offline.parameters(), 1.0)
        optimiser.step()
    offline.eval()

    def error(model: StreamModel) -> float:
        with torch.inference_mode():
            found = model.errors(torch.from_numpy(other))
        assert found is not None
        return float(found.mean())

    return error(online) / error(offline)


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    torch.set_num_threads(2)
    frames = 10_000 if quick else 40_000
    trajectory, judge = simulate(frames, 1), simulate(frames // 2, 2)
    x, other = distances(trajectory), distances(judge)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maps, more = contacts(trajectory)[:: frames // 5000], contacts(judge)[::10]
        figures = [
            figure("TICA, online to deeptime's, VAMP-2", [_tica(x, other)], "×", target=0.95),
            figure("VAMPnet, online to deeptime's, VAMP-2", [_vampnet(x, other, folder / "v")],
                   "×", target=0.95),
            figure("CVAE, online to offline, error of reconstruction",
                   [_cvae(maps, more, folder / "c")], "×", target=1.1, better="lower"),
        ]  # fmt: skip
    return result("online", figures)
