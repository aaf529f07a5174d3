"""What a network must be to be trained on a stream, kept in a registry and served."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, ClassVar, Literal, cast

from bridge.config import build, find_entry_point
from bridge.errors import ConfigError
from bridge.extras import needs

with needs("learning", "models that learn on the stream"):
    import torch
    from torch import Tensor, nn

__all__ = ["MODELS", "AlignedBy", "StreamModel", "make_model"]

AlignedBy = Literal["rotation", "signs"]
"""How a new version's coordinates are laid on the old one's: `analytics.learning.alignment`."""

MODELS = "headrace.models"
"""Group of entry points: short name to a `StreamModel`, or a callable that returns one."""


class StreamModel(nn.Module, ABC):
    """A network that maps the features of a frame to a few coordinates.

    A model is made anew from `kind`, `input_shape` and `hyper` (plain data), and its state dict:
    nothing else of it is stored. Buffers such as the scaling of inputs are part of the state dict.

    Parameters
    ----------
    input_shape
        Shape of one frame's input.
    hyper
        Hyper-parameters as plain data (numbers, text, lists, maps), complete: defaults filled in.

    Attributes
    ----------
    kind
        Name in the group `MODELS`, or ``module:factory``.
    lagged
        The loss needs pairs of frames that lie a lag time apart.
    supervised
        The loss needs, beside frames, what is to be answered for them; `encode` returns answers.
    aligned_by
        ``"signs"`` if each coordinate has a meaning of its own, as slow modes have; ``"rotation"``
        if only the space as a whole has one.
    latent
        Number of coordinates that `encode` returns.
    """

    kind: ClassVar[str]
    lagged: bool = False
    supervised: ClassVar[bool] = False
    aligned_by: ClassVar[AlignedBy] = "rotation"
    latent: int

    def __init__(self, input_shape: tuple[int, ...], hyper: Mapping[str, Any]) -> None:
        super().__init__()
        self.input_shape = tuple(int(n) for n in input_shape)
        self.hyper: dict[str, Any] = dict(hyper)

    @property
    def least(self) -> int:
        """How many frames, or pairs of them, `loss`, `settle` and `score` need at once."""
        return 1

    @abstractmethod
    def prepare(self, x: Tensor) -> None:
        """Set the scaling of inputs from the first frames, shape (n, *input_shape); once."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the coordinates of frames, shape (n, latent), float32; the same every time."""

    @abstractmethod
    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss to be minimised, and its parts by name, all scalars.

        Parameters
        ----------
        x
            Frames, shape (n, *input_shape).
        y
            For a `lagged` model: the frames a lag time after those. For a `supervised` one: what is
            to be answered.
        generator
            Of what is random in the loss.
        """

    def settle(self, x: Tensor, y: Tensor | None = None) -> None:
        """Fit what follows from the weights, such as a basis of slow modes, on training frames.

        Called without gradients after updates, before the model is judged or stored. Arguments as
        those of `loss`, the more frames the better. Most models have nothing of the kind.
        """

    def errors(self, x: Tensor) -> Tensor | None:
        """Return the error of reconstruction of each frame, shape (n,); None without a decoder."""
        return None

    def score(self, x: Tensor, y: Tensor | None = None) -> float:
        """Return how good the model is on frames that it has not learned from; more is better."""
        with torch.no_grad():
            return -float(self.loss(x, y, generator=torch.Generator().manual_seed(0))[0])

    def forward(self, x: Tensor) -> Tensor:
        """Return `encode`."""
        return self.encode(x)


@cache
def _factory(kind: str) -> Callable[..., Any]:
    """Return what makes models of a kind; looked for once: it reads a file of each distribution."""
    factory: Callable[..., Any] = find_entry_point(MODELS, kind, f"The model {kind!r}")
    return factory


def make_model(kind: str, input_shape: tuple[int, ...], hyper: Mapping[str, Any]) -> StreamModel:
    """Make a model that has not learned yet, with random weights from torch's generator.

    Parameters
    ----------
    kind
        Short name among the entry points of `MODELS`, or ``module:factory``.
    input_shape, hyper
        What the factory is called with; see `StreamModel`.

    Raises
    ------
    ConfigError
        If there is no such model, or it refuses what it was given.
    """
    factory = _factory(kind)
    make = cast("type[Any]", partial(factory, tuple(input_shape)))
    model = build(make, hyper, f"The model {kind!r}")
    if not isinstance(model, StreamModel):
        raise ConfigError(
            f"The model {kind!r} gave a {type(model).__name__}; it must be derived from "
            "analytics.learning.model.StreamModel, or wrapped by the kind 'module'."
        )
    return model
