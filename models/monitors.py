"""Numbers that fall when representations collapse; computed in float32 and left on the device."""

# B images, D channels

import torch
from jaxtyping import Float
from torch import Tensor


def feature_std(features: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Standard deviation over the images, averaged over the channels; 0 where every image has the same feature."""
    return features.float().std(0).mean()


def rankme(features: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Effective rank of the centred features, from 1 to min(B - 1, D): RankMe, Garrido et al., arXiv 2210.02885, equation 1."""
    centred = features.float() - features.float().mean(0)
    sizes = torch.linalg.svdvals(centred)
    shares = sizes / sizes.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(shares * shares.log()).sum())
