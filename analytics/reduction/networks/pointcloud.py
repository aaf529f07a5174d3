"""An autoencoder of point clouds, such as a protein's C-alpha atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from analytics.learning.model import StreamModel
from analytics.reduction.networks.blocks import mlp
from analytics.reduction.networks.chamfer import chamfer, indexed
from analytics.reduction.networks.checks import (
    check_count,
    check_counts,
    check_frames,
    check_shape,
)
from bridge.errors import ConfigError, SchemaError

__all__ = ["PointCloudAutoencoder"]


class PointCloudAutoencoder(StreamModel):
    r"""PointNet encoder, and a perceptron that gives the points back.

    Each point goes through the same perceptron; the greatest value of each of its outputs over all
    points describes the cloud, whatever the points' order. The loss is the distance of the cloud
    to the decoded one, in units of the clouds' mean squared radius.

    Translations are taken out by moving each frame's centroid to the origin (`centre`). Rotations
    are not: superpose the frames on a reference first (operator `superpose`), or they will be
    what the coordinates mostly tell. Make molecules whole before.

    Parameters
    ----------
    input_shape
        (points, 3), coordinates in any unit. About 300 points at most, as the Chamfer distance
        compares each with each.
    latent
        Number of coordinates, in no order.
    points
        Units of the layers that each point goes through.
    hidden
        Units of the layers between the greatest values and the coordinates; the decoder has them
        in reverse.
    activation
        elu, gelu, relu, silu or tanh.
    distance
        ``"chamfer"``: clouds are sets. ``"indexed"``: points are compared with those of the same
        index, and a fourth input tells the encoder each point's place between −1 and 1, as of
        residues along a chain; the encoder can then tell a shape from the same traversed
        otherwise.
    centre
        See above; False where the place itself matters.

    Notes
    -----
    PointNet: Qi, Su, Mo and Guibas, CVPR (2017), doi:10.1109/CVPR.2017.16. DeepDriveMD's model of
    this kind trains the coordinates against a prior by a critic, besides: Zamorski, Zięba,
    Klukowski and others, Comput. Vis. Image Underst. 193, 102921 (2020),
    doi:10.1016/j.cviu.2020.102921; Casalino and others, Int. J. High Perform. Comput. Appl. 35,
    432 (2021), doi:10.1177/10943420211006452.

    Raises
    ------
    ConfigError
        If a hyper-parameter or the shape is wrong.
    """

    kind: ClassVar[str] = "pointcloud"
    scale: Tensor
    origin: Tensor
    index: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        latent: int = 3,
        points: Sequence[int] = (64, 128),
        hidden: Sequence[int] = (128,),
        activation: str = "relu",
        distance: str = "chamfer",
        centre: bool = True,
    ) -> None:
        hyper = {
            "latent": latent,
            "points": check_counts(points, "points"),
            "hidden": check_counts(hidden, "hidden"),
            "activation": activation,
            "distance": distance,
            "centre": centre,
        }
        super().__init__(input_shape, hyper)
        if len(self.input_shape) != 2 or self.input_shape[1] != 3 or self.input_shape[0] < 2:
            raise ConfigError(
                f"A point cloud has the shape (points, 3), with at least 2 points; this one has "
                f"{self.input_shape}."
            )
        if distance not in ("chamfer", "indexed"):
            raise ConfigError(f"'distance' is {distance!r}; it must be 'chamfer' or 'indexed'.")
        self.latent = check_count(latent, "latent")
        each, layers = self.hyper["points"], self.hyper["hidden"]
        if not each:
            raise ConfigError("'points' is empty; each point must go through at least one layer.")
        self.by_index = distance == "indexed"
        self.centre = centre
        size = self.input_shape[0]
        self.each = mlp([3 + self.by_index, *each], activation)
        self.encoder = mlp([each[-1], *layers, self.latent], activation)
        self.decoder = mlp([self.latent, *reversed(layers), size * 3], activation)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("origin", torch.zeros(3))
        self.register_buffer("index", torch.linspace(-1, 1, size)[:, None], persistent=False)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Set the one scale: the root of the mean squared radius of these clouds.

        Raises
        ------
        SchemaError
            On a wrong shape, no frame, a value that is not finite, or if all points are one.
        """
        check_frames(x, self.input_shape, self.kind, 1)
        wide = x.to(torch.float64)
        if not self.centre:
            self.origin.copy_(wide.mean((0, 1)))
        self.scale.fill_(1.0)
        radius = self._placed(wide).square().sum(2).mean().sqrt()
        if not bool(radius > 1e-6 * wide.abs().max()):
            raise SchemaError(
                f"All points of the first {len(x)} frames lie in one; there is no cloud to learn."
            )
        self.scale.copy_(radius)

    def encode(self, x: Tensor) -> Tensor:
        """Return the coordinates, shape (n, latent), float32."""
        check_shape(x, self.input_shape, self.kind)
        return self._encoded(self._placed(x)).float()

    def loss(
        self, x: Tensor, y: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean distance of frames to the decoded ones; its part is `reconstruction`.

        Safe with autocast: distances are in single precision. Nothing in it is random.

        Raises
        ------
        SchemaError
            On a wrong shape or a value that is not finite.
        """
        check_frames(x, self.input_shape, self.kind)
        distance = self._distances(self._placed(x)).mean()
        return distance, {"reconstruction": distance.detach()}

    def errors(self, x: Tensor) -> Tensor:
        """Return each frame's distance to the decoded one, in units of the radius, shape (n,)."""
        check_shape(x, self.input_shape, self.kind)
        return self._distances(self._placed(x)).float()

    def decode(self, z: Tensor) -> Tensor:
        """Return clouds of shape (n, points, 3), in the unit of the inputs, about `origin`."""
        return self._decoded(z) * self.scale + self.origin

    def _placed(self, x: Tensor) -> Tensor:
        centre = x.mean(1, keepdim=True) if self.centre else self.origin
        return ((x - centre) / self.scale).to(self.scale.dtype)

    def _encoded(self, cloud: Tensor) -> Tensor:
        if self.by_index:
            cloud = torch.cat([cloud, self.index.expand(cloud.shape[0], -1, 1)], dim=2)
        out: Tensor = self.encoder(self.each(cloud).amax(1))
        return out

    def _decoded(self, z: Tensor) -> Tensor:
        out: Tensor = self.decoder(z).to(self.scale.dtype)
        return out.reshape(-1, *self.input_shape)

    def _distances(self, cloud: Tensor) -> Tensor:
        measure = indexed if self.by_index else chamfer
        return measure(self._decoded(self._encoded(cloud)), cloud)
