"""Sizes of encoders, and the names they are known by: apart from the models, because settings need no torch and no timm."""

from collections.abc import Mapping
from dataclasses import dataclass


def check_heads(name: str, width: int, num_heads: int) -> None:
    """Refuses a width that the heads, or the sines and cosines of two axes, cannot share."""
    if width % num_heads or width % 4:
        raise ValueError(
            f"{name}.width={width} must divide by {name}.num_heads={num_heads}, and by 4 (sine and cosine of two axes)"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionTransformerSettings:
    """Sizes of an encoder; the defaults are ViT-B/16."""

    patch_size: int = 16
    """Side of a patch, in pixels."""
    width: int = 768
    """Channels of a token; divisible by num_heads and by 4."""
    depth: int = 12
    """Number of transformer blocks."""
    num_heads: int = 12
    """Attention heads in a block."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP, as a multiple of width."""

    def __post_init__(self) -> None:
        if min(self.patch_size, self.width, self.depth, self.num_heads) < 1 or self.mlp_ratio <= 0:
            raise ValueError(f"every size of an encoder must be above 0; got {self}")
        check_heads("encoder", self.width, self.num_heads)


# The last number of a name is tradition: nothing in the model depends on the image size.
NAMED_ENCODERS: Mapping[str, VisionTransformerSettings] = {
    f"vit_{name}_patch{patch}_224": VisionTransformerSettings(patch_size=patch, width=width, depth=depth, num_heads=heads)
    for name, width, depth, heads in (
        ("tiny", 192, 12, 3),
        ("small", 384, 12, 6),
        ("base", 768, 12, 12),
        ("large", 1024, 24, 16),
        ("huge", 1280, 32, 16),
    )
    for patch in (8, 14, 16)
}
