"""Updates of a network from a buffer, deterministic and to be gone on with after a restart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analytics.learning.adam import Adam
from analytics.learning.buffers import Buffer
from analytics.learning.model import StreamModel
from analytics.learning.schedule import Schedule, check_choice
from analytics.learning.tensors import restore_model, save_model
from bridge.errors import ConfigError

__all__ = ["Reduce", "Trainer", "Update"]

Array = npt.NDArray[Any]

Reduce = Callable[[list[torch.nn.Parameter], float, float], float]
"""Averages gradients over workers, in place, and a loss, by weight; returns the average loss."""

_OPTIMISERS = ("adam", "adamw")


@dataclass(frozen=True, slots=True)
class Update:
    """What one update did.

    Attributes
    ----------
    loss
        Of the batch, before the update.
    parts
        The loss's parts by name.
    norm
        Norm of the gradient, before it was clipped.
    rate
        The learning rate.
    done
        False where loss or gradient was not finite: the parameters are as they were.
    """

    loss: float
    parts: dict[str, float]
    norm: float
    rate: float
    done: bool


class Trainer:
    """Trains one model from one buffer.

    The same samples and calls give the same parameters to the bit, on the same machine with the
    same number of threads; also where the trainer was saved and restored in between. One thread at
    a time may use it.

    Parameters
    ----------
    model
        What learns; moved to `device`.
    buffer
        Where batches come from: frames, or pairs of frames for a model that is `lagged`.
    optimiser
        ``adam`` (Kingma and Ba, 2015, arXiv 1412.6980) or ``adamw`` (Loshchilov and Hutter, 2019,
        arXiv 1711.05101).
    schedule
        Learning rate of each update.
    batch_size
        Samples in an update.
    weight_decay
        See the optimiser.
    clip
        Norm to which a larger gradient is cut; 0 for no limit.
    seed
        Of what is random in the loss.
    device
        Where to compute.
    reduce
        Called with the parameters, the loss and the weight 1 once the gradients are there, where
        several workers train together.

    Attributes
    ----------
    updates
        Updates done, those that were skipped not among them.
    skipped
        Updates whose loss or gradient was not finite.
    rate_from
        Update with which the schedule began.
    """

    def __init__(
        self,
        model: StreamModel,
        buffer: Buffer,
        *,
        optimiser: str = "adam",
        schedule: Schedule | None = None,
        batch_size: int = 64,
        weight_decay: float = 0.0,
        clip: float = 1.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
    ) -> None:
        check_choice(optimiser, _OPTIMISERS, "The parameter 'optimiser'")
        check_limits(batch_size, weight_decay, clip)
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.buffer = buffer
        self.schedule = schedule or Schedule(1e-3)
        self.batch_size = batch_size
        self.clip = clip
        self.reduce = reduce
        self.updates = self.skipped = 0
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = Adam(
            self._parameters, weight_decay=weight_decay, decoupled=optimiser == "adamw"
        )
        self._generator = torch.Generator(self.device).manual_seed(seed)
        # The rate begins anew after drift; moments of the optimiser go on.
        self.rate_from = 0

    @property
    def ready(self) -> bool:
        """Whether the buffer has enough for an update."""
        return self.buffer.can_sample(self.batch_size)

    def update(self) -> Update:
        """Draw a batch, and learn from it.

        Raises
        ------
        PipelineError
            If there are not enough samples; see `ready`.
        """
        arrays = self.buffer.sample(self.batch_size)
        return self.learn(*(torch.from_numpy(a).to(self.device) for a in arrays))

    def learn(self, x: Tensor, y: Tensor | None = None) -> Update:
        """Learn from a batch, shape (n, *input_shape) each."""
        model, optimiser = self.model, self._optimiser
        model.train()
        optimiser.zero_grad()
        # Layers that keep account of what they see, such as batch normalisation, would keep what is
        # not finite for good.
        kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
        loss, parts = model.loss(x, y, generator=self._generator)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        if self.reduce is not None:
            value = self.reduce(self._parameters, value, 1.0)
        named = {name: float(part.detach()) for name, part in parts.items()}
        update = self._apply(value, named)
        if not update.done:
            for buffer, before in kept:
                buffer.copy_(before)
        model.eval()
        return update

    def follow(self) -> Update:
        """Make the update that others make, without samples of one's own."""
        self._optimiser.zero_grad()
        value = math.nan
        if self.reduce is not None:
            value = self.reduce(self._parameters, 0.0, 0.0)
        return self._apply(value, {})

    def _apply(self, loss: float, parts: dict[str, float]) -> Update:
        """Make the step that follows from the gradients, unless something is not finite."""
        limit = self.clip or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
        rate = self.schedule(self.updates - self.rate_from)
        done = math.isfinite(loss) and math.isfinite(norm)
        if done:
            self._optimiser.step(rate)
            self.updates += 1
        else:
            self.skipped += 1
        return Update(loss, parts, norm, rate, done)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What is learned."""
        return self._parameters

    def refresh(self, fresh: StreamModel, keep: float) -> None:
        """Mix the weights with those of a model that has not learned: `keep` of the old ones."""
        with torch.no_grad():
            for mine, new in zip(self.model.parameters(), fresh.parameters(), strict=True):
                mine.mul_(keep).add_(new.to(mine), alpha=1.0 - keep)

    def restart_schedule(self) -> None:
        """Begin the schedule anew, warm-up and all, with the next update."""
        self.rate_from = self.updates

    # ---------------------------------------------------------------- together

    def shared_state(self) -> list[Tensor]:
        """Return copies of all that workers must have in common, always as many of them."""
        shared = [_plain(t) for t in self.model.state_dict().values()]
        return shared + self._optimiser.shared_state()

    def take_shared(
        self, shared: Sequence[Tensor], *, updates: int, rate_from: int, seed: int
    ) -> None:
        """Take up what `shared_state` returned of another worker's trainer.

        Parameters
        ----------
        shared, updates, rate_from
            The other's.
        seed
            From which, and the number of updates, this worker's noise begins.
        """
        rest = iter(shared)
        with torch.no_grad():
            for tensor in self.model.state_dict().values():
                tensor.copy_(next(rest))
        self._optimiser.take_shared(list(rest))
        self.updates, self.rate_from = updates, rate_from
        self._generator.manual_seed((seed << 32) + updates)

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return all that decides what is learned from now on, as arrays and plain data."""
        state: dict[str, Any] = {
            "updates": self.updates,
            "skipped": self.skipped,
            "rate_from": self.rate_from,
            "noise": np.array(self._generator.get_state().numpy()),
        }
        state |= {f"model {k}": v for k, v in save_model(self.model).items()}
        state |= {f"optimiser {k}": v for k, v in self._optimiser.save().items()}
        return state | {f"buffer {k}": v for k, v in self.buffer.save().items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned, in a trainer with the same parameters.

        Raises
        ------
        PipelineError
            If it belongs to another model or buffer.
        """

        def part(name: str) -> dict[str, Any]:
            head = f"{name} "
            return {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}

        restore_model(self.model, part("model"))
        self._optimiser.restore(part("optimiser"))
        self.buffer.restore(part("buffer"))
        self._generator.set_state(torch.from_numpy(np.array(state["noise"], np.uint8)))
        self.updates, self.skipped = int(state["updates"]), int(state["skipped"])
        self.rate_from = int(state["rate_from"])


def check_limits(batch_size: int, weight_decay: float, clip: float) -> None:
    """Raise a `ConfigError` where a `Trainer` cannot learn with these."""
    if batch_size < 1 or not 0.0 <= weight_decay < math.inf or not clip >= 0.0:
        raise ConfigError(
            "Of a trainer, 'batch_size' must be at least 1, and 'weight_decay' and 'clip' must "
            f"not be negative; they are {batch_size}, {weight_decay} and {clip}."
        )


def _plain(tensor: Tensor) -> Tensor:
    """Return a copy that every way between workers can bring."""
    return tensor.detach().clone() if tensor.dtype != torch.bool else tensor.to(torch.uint8)
