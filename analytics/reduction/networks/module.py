"""Anybody's `torch.nn.Module`, used like the models that come with Headrace."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from analytics.learning.model import StreamModel
from analytics.reduction.networks.checks import (
    check_frames,
    check_pairs,
    check_positive,
    check_shape,
)
from analytics.reduction.networks.factories import load_weights, make_module
from analytics.reduction.networks.losses import call, find_loss, squares
from analytics.reduction.networks.program import digest_of, read_program
from analytics.reduction.networks.scaling import Standardise
from bridge.errors import ConfigError

__all__ = ["WrappedModule"]


class WrappedModule(StreamModel):
    """A user's module, from a factory or an exported program.

    It is called with float32 frames, shape (n, *input_shape), any n from 1, and returns their
    coordinates, shape (n, d); or a pair of these and the frames' reconstruction, in the shape of
    the frames.

    Parameters
    ----------
    input_shape
        Shape of one frame's input.
    factory
        ``package:callable`` that returns the module, a class for example.
    arguments
        What it is called with, by name; plain data.
    weights
        File of safetensors with the module's state dict, for one that was trained elsewhere. It
        is read once: the weights belong to the model's own state from then on.
    program
        Instead of a factory, a file that `torch.export.save` wrote, with a dynamic first
        dimension, exported in the mode ``eval()``. It must be there, the same, wherever the model
        is made again; its SHA-256 is kept among the hyper-parameters. See `read_program` for what
        is refused.
    sha256
        That of `program`; found out when empty.
    loss
        ``"reconstruction"``: mean squared error of the reconstruction; ``"vamp2"``: minus the
        VAMP-2 score of the coordinates; ``package:function``, called with the module, x, y (None
        unless `lagged`) and the generator, which returns a scalar, or a pair of a scalar and a
        map of scalars by name. Empty: the reconstruction if there is one, else the model serves,
        but does not learn.
    lagged
        A function in `loss` wants pairs of frames that lie a lag time apart.
    standardise
        Subtract the mean of each feature and divide by its standard deviation before the module
        is called, as found by `prepare`; the reconstruction is of such frames, then.
    regularisation
        For ``"vamp2"``: see `VAMPNet`.

    Raises
    ------
    ConfigError
        If a parameter is wrong, the module cannot be made, does not take such frames, or does not
        return what it must.
    """

    kind: ClassVar[str] = "module"

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        factory: str = "",
        arguments: Mapping[str, Any] | None = None,
        weights: str = "",
        program: str = "",
        sha256: str = "",
        loss: str = "",
        lagged: bool = False,
        standardise: bool = False,
        regularisation: float = 1e-6,
    ) -> None:
        if bool(factory) == bool(program):
            raise ConfigError("Either 'factory' or 'program' says what the module is; give one.")
        hyper: dict[str, Any] = {
            "factory": factory,
            "arguments": dict(arguments or {}),
            "weights": "",
            "program": program,
            "sha256": (sha256 or digest_of(Path(program))) if program else "",
            "loss": loss,
            "lagged": lagged or loss == "vamp2",
            "standardise": standardise,
            "regularisation": check_positive(regularisation, "regularisation", zero=True),
        }
        super().__init__(input_shape, hyper)
        self.lagged = bool(hyper["lagged"])
        self.module = (
            make_module(factory, hyper["arguments"])
            if factory
            else read_program(Path(program), hyper["sha256"])
        )
        self.exported = bool(program)
        if weights:
            load_weights(self.module, Path(weights))
        self.scaling = Standardise(math.prod(self.input_shape))
        self.latent, self.reconstructs = self._probe()
        self._loss = find_loss(
            loss, reconstructs=self.reconstructs, regularisation=self.hyper["regularisation"]
        )

    def train(self, mode: bool = True) -> WrappedModule:
        """Set the mode; a program stays in the one that it was exported in."""
        if not self.exported:
            super().train(mode)
        self.training = mode
        return self

    def prepare(self, x: Tensor) -> None:
        """Set the scaling of inputs, with `standardise`; raises as `VAE.prepare` does."""
        check_frames(x, self.input_shape, self.kind, 2)
        if self.hyper["standardise"]:
            self.scaling.fit(x)

    def encode(self, x: Tensor) -> Tensor:
        """Return the coordinates, shape (n, latent), float32."""
        return call(self.module, self._scaled(x))[0].float()

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Raises
        ------
        ConfigError
            If the model has no loss.
        SchemaError
            On a wrong shape, a value that is not finite, or without `y` where that is needed.
        """
        check_frames(x, self.input_shape, self.kind)
        if self.lagged:
            y = self._scaled(check_pairs(x, y, self.input_shape, self.kind))
        value = self._loss(self.module, self._scaled(x), y if self.lagged else None, generator)
        total, parts = value if isinstance(value, tuple) else (value, {"loss": value})
        if not isinstance(total, Tensor) or total.numel() != 1:
            what = (
                f"a tensor of shape {tuple(total.shape)}"
                if isinstance(total, Tensor)
                else f"a {type(total).__name__}"
            )
            raise ConfigError(
                f"The loss {self.hyper['loss']!r} returned {what}; it must return a tensor that is "
                "one number, such as a mean, or a pair of one and a map of such by name."
            )
        if torch.is_grad_enabled() and not total.requires_grad:
            raise ConfigError(
                f"The loss {self.hyper['loss']!r} does not depend on weights that can learn; leave "
                "out detach() and no_grad(), and let the module have parameters."
            )
        return total.reshape(()), {name: part.detach() for name, part in parts.items()}

    def errors(self, x: Tensor) -> Tensor | None:
        """Return the mean squared error of each frame, shape (n,); None if there is none."""
        if not self.reconstructs:
            return None
        scaled = self._scaled(x)
        return squares(scaled, call(self.module, scaled)[1]).float()

    def _scaled(self, x: Tensor) -> Tensor:
        check_shape(x, self.input_shape, self.kind)
        flat: Tensor = self.scaling(x)
        return flat.reshape(x.shape)

    @torch.no_grad()
    def _probe(self) -> tuple[int, bool]:
        """Return the number of coordinates, and whether there is a reconstruction."""
        frames = torch.linspace(-1, 1, 3 * math.prod(self.input_shape)).reshape(
            3, *self.input_shape
        )
        was = self.module.training
        self.eval()
        try:
            (z, back), (again, _), (one, _) = (
                call(self.module, x) for x in (frames, frames, frames[:1])
            )
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(
                f"The module does not take 3 frames of shape {self.input_shape}, or 1, of float32: "
                f"{str(error).strip().rstrip('.')}. A program must be exported with a dynamic "
                "first dimension."
            ) from error
        if z.ndim != 2 or len(z) != 3 or len(one) != 1:
            raise ConfigError(
                f"The module returned coordinates of shape {tuple(z.shape)} for 3 frames; it must "
                "be (3, d)."
            )
        if not torch.equal(z, again):
            raise ConfigError(
                "The module returns something else each time; export it in the mode eval()."
            )
        if back is not None and back.shape != frames.shape:
            raise ConfigError(
                f"The module's reconstruction of 3 frames has the shape {tuple(back.shape)}; it "
                f"must be {tuple(frames.shape)}."
            )
        self.train(was)
        return z.shape[1], back is not None
