"""The vision transformer that reads only the patches it is given: hidden patches are dropped, never zeroed.

There is no class token, and positions are computed for the grid of each crop, so images of any size that divides into patches
can be read: 224 pixels or 96, whole or in part. Sources: ViT, arXiv 2010.11929; dropped tokens and fixed positions: MAE,
arXiv 2111.06377, and I-JEPA, arXiv 2301.08243. The halves of `forward`, `embed` and `encode`, serve callers that read
several parts of one image: it is embedded once.
"""

# B images, N patches of an image, K tokens kept, R rows of tokens, H x W pixels, D channels

import torch
from jaxtyping import Bool, Float, Int
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from hjepa.kernels.token_gather import gather_visible
from hjepa.models.block import Block, LayerNorm, attention_mask, initialise
from hjepa.models.positions import grid_positions
from hjepa.models.sizes import VisionTransformerSettings


class VisionTransformer(nn.Module):
    """Images to tokens."""

    def __init__(self, settings: VisionTransformerSettings) -> None:
        super().__init__()
        self.patch_size, self.width = settings.patch_size, settings.width
        self.patch_embed = PatchEmbed(img_size=None, patch_size=settings.patch_size, embed_dim=settings.width)
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.num_heads, settings.mlp_ratio) for _ in range(settings.depth)
        )
        self.norm = LayerNorm(settings.width)
        self.apply(initialise)

    def grid(self, images: Float[Tensor, "... 3 H W"]) -> tuple[int, int]:
        """Rows and columns of patches in images of this size."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"images of {height} x {width} pixels do not divide into patches of {self.patch_size}; crop to "
                f"{height - height % self.patch_size} x {width - width % self.patch_size}"
            )
        return height // self.patch_size, width // self.patch_size

    def embed(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N D"]:
        """One token per patch, in raster order: its pixels, mapped linearly, plus its position in the image's own grid."""
        positions = grid_positions(self.grid(images), self.width, images.device)
        embedded: Tensor = self.patch_embed(images) + positions
        # The convolution leaves channels outermost; every block would keep that layout and copy before each norm.
        return embedded.contiguous()

    def encode(self, tokens: Float[Tensor, "R K D"], valid: Bool[Tensor, "R K"] | None = None) -> Float[Tensor, "R K D"]:
        """Tokens that have attended to each other. What stands where valid is False is seen by no other token."""
        mask = attention_mask(valid)
        for block in self.blocks:
            tokens = block(tokens, mask)
        normed: Tensor = self.norm(tokens)
        return normed

    def encode_watched(self, tokens: Float[Tensor, "R K D"]) -> tuple[Float[Tensor, "R K D"], Float[Tensor, "R K"]]:
        """`encode` of whole rows, and the attention that each token receives in the last block (`block.Attention.received`)."""
        last = self.blocks[-1]
        assert isinstance(last, Block)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        received = last.received(tokens)
        normed: Tensor = self.norm(last(tokens))
        return normed, received

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        index: Int[Tensor, "B K"] | None = None,
        valid: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K D"]:
        """Tokens of the patches with these numbers (int64, raster order), or of all patches; valid is False at padding."""
        tokens = self.embed(images)
        if index is not None:
            kept = torch.ones_like(index, dtype=torch.bool) if valid is None else valid
            tokens = gather_visible(tokens, index.unsqueeze(1), kept.unsqueeze(1)).squeeze(1)
        return self.encode(tokens, valid)
