"""Chains of layers called without what torch puts around each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["shorten"]

Step = Callable[[Tensor], Tensor]


def shorten(model: nn.Module) -> None:
    """Let every `nn.Sequential` of a model that learns no more call its layers directly.

    Hooks, and what tracing needs, are looked for at each call of a module, 2 µs each: as much as
    the layer itself takes of a few rows. Layers with hooks are called as ever. The model gives the
    same bits; its weights must stay the tensors that they are.

    Parameters
    ----------
    model
        Changed in place. Its state dict stays as it is; compilers should see one that is whole.
    """
    for module in model.modules():
        if type(module) is nn.Sequential:
            module.forward = _Chain([_step(layer) for layer in module])  # type: ignore[method-assign]


class _Chain:
    __slots__ = ("_steps",)

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps

    def __call__(self, x: Tensor) -> Tensor:
        for step in self._steps:
            x = step(x)
        return x


def _step(layer: nn.Module) -> Step:
    if _is_hooked(layer):
        return layer
    if type(layer) is nn.Linear:
        weight, bias = layer.weight, layer.bias
        return lambda x: functional.linear(x, weight, bias)
    if type(layer) is nn.Sequential:
        # Its own chain, which it may be given only after this one.
        return lambda x: cast("Tensor", layer.forward(x))  # type: ignore[no-untyped-call]
    forward: Step = layer.forward
    return forward


def _is_hooked(layer: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(layer, kind) for kind in kinds)
