"""Networks that learn few numbers from many features, on the stream; they need torch."""

from bridge.extras import needs

with needs("learning", "networks"):
    from analytics.reduction.networks.cvae import CVAE
    from analytics.reduction.networks.deeptica import DeepTICA
    from analytics.reduction.networks.module import WrappedModule
    from analytics.reduction.networks.pointcloud import PointCloudAutoencoder
    from analytics.reduction.networks.tae import TimeLaggedAutoencoder
    from analytics.reduction.networks.vae import VAE
    from analytics.reduction.networks.vampnet import VAMPNet

__all__ = [
    "CVAE",
    "VAE",
    "DeepTICA",
    "PointCloudAutoencoder",
    "TimeLaggedAutoencoder",
    "VAMPNet",
    "WrappedModule",
]
