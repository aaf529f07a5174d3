"""Adam and AdamW, without what making an optimiser of `torch.optim` brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analytics.learning.tensors import to_array
from bridge.errors import PipelineError

__all__ = ["Adam"]

Array = npt.NDArray[Any]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_NAMES = ("exp_avg", "exp_avg_sq", "step")  # those of torch.optim


class Adam:
    """Steps of Adam, or of AdamW, by torch's own fused kernel.

    Adam: Kingma and Ba, ICLR (2015), arXiv 1412.6980. AdamW: Loshchilov and Hutter, ICLR (2019),
    arXiv 1711.05101. Same as ``torch.optim.Adam(..., fused=True)`` to the bit.

    Making an optimiser of `torch.optim` imports torch's compiler: 1.1 s of processor at each
    trainer's start. Its choice for CPUs, which is not the fused one, goes over the parameters
    several times: 0.72 ms for 311,111 of them, against 0.11 (AMD EPYC).

    Parameters
    ----------
    parameters
        What is learned: real numbers, with gradients that are dense.
    weight_decay
        Of Adam added to the gradient, of AdamW taken off the parameters.
    decoupled
        AdamW.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        *,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        self._parameters = list(parameters)
        self._weight_decay = weight_decay
        self._kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        # Means of gradients and of their squares, and steps; None before the first gradient.
        self._states: list[tuple[Tensor, Tensor, Tensor] | None] = [None] * len(self._parameters)
        self._alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for i, p in enumerate(self._parameters):
            self._alike.setdefault((p.device, p.dtype), []).append(i)

    def zero_grad(self) -> None:
        """Let go of the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the parameters that have a gradient, by a learning rate."""
        for numbers in self._alike.values():
            chosen = [(i, p) for i in numbers if (p := self._parameters[i]).grad is not None]
            if not chosen:
                continue
            states = [self._state(i) for i, _ in chosen]
            steps = [state[2] for state in states]
            # The kernel reads memory as it lies; nearly always these are the tensors themselves.
            values = [p.detach().contiguous() for _, p in chosen]
            gradients = [p.grad.contiguous() for _, p in chosen if p.grad is not None]
            torch._foreach_add_(steps, 1.0)
            self._kernel(
                values, gradients, [s[0] for s in states], [s[1] for s in states], [], steps,
                lr=rate, beta1=_BETAS[0], beta2=_BETAS[1], weight_decay=self._weight_decay,
                eps=_EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip
            for value, (_, parameter) in zip(values, chosen, strict=True):
                if not parameter.is_contiguous():
                    parameter.copy_(value)

    def _state(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        state = self._states[i]
        if state is None:
            p = self._parameters[i]
            mean, square = (torch.zeros(p.shape, dtype=p.dtype, device=p.device) for _ in range(2))
            state = self._states[i] = (mean, square, torch.zeros((), device=p.device))
        return state

    # ---------------------------------------------------------------- together

    def shared_state(self) -> list[Tensor]:
        """Return copies of the state, three tensors for each parameter in any case."""
        shared = []
        for p, state in zip(self._parameters, self._states, strict=True):
            zero = p.detach().new_zeros(p.shape)
            shared += [zero, zero.clone()] if state is None else [t.clone() for t in state[:2]]
            step = 0.0 if state is None else float(state[2])
            shared.append(torch.tensor([step], device=p.device))
        return shared

    def take_shared(self, shared: Sequence[Tensor]) -> None:
        """Take up what `shared_state` returned of an optimiser of the same parameters."""
        for i in range(len(self._parameters)):
            mean, square, step = shared[3 * i : 3 * i + 3]
            known = float(step) > 0.0
            state = (mean.clone(), square.clone(), step.reshape(()).clone())
            self._states[i] = state if known else None

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Array]:
        """Return the state, ``<number of parameter> <name>`` to array; names as in torch.optim."""
        return {
            f"{i} {name}": to_array(value)
            for i, state in enumerate(self._states)
            if state is not None
            for name, value in zip(_NAMES, state, strict=True)
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take up what `save` returned.

        Raises
        ------
        PipelineError
            If it belongs to other parameters.
        """
        self._states = [None] * len(self._parameters)
        for i in sorted({int(key.partition(" ")[0]) for key in arrays}):
            found = [arrays[key] for name in _NAMES if (key := f"{i} {name}") in arrays]
            fits = i < len(self._parameters) and len(found) == len(_NAMES)
            shape = tuple(self._parameters[i].shape) if fits else ()
            if not fits or any(a.shape != shape for a in found[:2]):
                raise PipelineError(
                    f"The saved state of the optimiser does not fit its parameter {i}: it was "
                    "saved for another model. Begin with a new folder, or restore the model's "
                    "hyper-parameters."
                )
            state = self._state(i)
            for mine, saved in zip(state, found, strict=True):
                mine.copy_(torch.from_numpy(np.array(saved)).reshape(mine.shape))
