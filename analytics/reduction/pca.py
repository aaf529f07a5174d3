"""Principal components that follow the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analytics.reduction.online import OnlineReduction
from analytics.reduction.streaming_pca import StreamingPCA
from analytics.statistics.moments import common_unit

__all__ = ["OnlinePCA"]


class OnlinePCA(OnlineReduction):
    """Add principal components, learned from the frames of all simulations as they come.

    The model is renewed whenever the number of frames seen, of all simulations, is a multiple of
    `update_every` and at least `min_frames`. A frame is projected with the model made of frames
    before it; until there is one, its components are 0. An event
    ``model_ready`` tells of the first. How order and signs stay as they are:
    `analytics.reduction.model.follow`.

    Parameters
    ----------
    input
        Column, or list of columns, of k features in all in each frame; at most 4,096
        (see `StreamingPCA` for the cost).
    n_components
        Number of components.
    update_every
        Frames between renewals.
    min_frames
        Frames before the first model; None for the first renewal.
    half_life
        Frames after which a frame counts half; None for no forgetting.
    output
        Column to add, float64 of shape (n, n_components). Beside it, ``<output>_version`` is
        int64 of shape (n,): how often the model had been renewed, 0 while there is none.
    publish_model
        Add ``<output>_model``, float64 of shape (n, k + 1, n_components): the affine map that the
        row was projected with, its constant in the last row. Operators that remember frames of a
        learned space need it. Name a pipeline's `outputs` then, or it is stored with the results.

    Raises
    ------
    ConfigError
        If a parameter is wrong, or there are fewer features than components.
    SchemaError
        On a batch without fitting columns, or with a value that is not finite.
    """

    def __init__(
        self,
        *,
        input: str | Sequence[str],
        n_components: int = 2,
        update_every: int = 100,
        min_frames: int | None = None,
        half_life: float | None = None,
        output: str = "pca",
        publish_model: bool = False,
    ) -> None:
        super().__init__(
            StreamingPCA(n_components, half_life=half_life),
            input=input,
            update_every=update_every,
            min_frames=min_frames,
            output=output,
            publish_model=publish_model,
        )

    def column_units(self, inputs: Mapping[str, str]) -> Mapping[str, str]:
        """Return the unit of the features, where all have the same: they are turned, not scaled."""
        return {self.output: common_unit(self.input, inputs)}
