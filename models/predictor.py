"""The predictor: a narrow transformer that guesses the teacher's tokens at hidden patches from the student's at visible ones.

As in I-JEPA, arXiv 2301.08243, a hidden patch enters as a learned mask token plus its position, and each target block is
predicted in a pass of its own, so that blocks tell each other nothing. A learned embedding says which level is asked for.
"""

# R contexts, K tokens of a context, T target blocks of a context, M patches of a block, N patches of the grid,
# L levels, D channels of the encoder, W of the predictor

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.models.block import Block, LayerNorm, attention_mask, check_heads, initialise
from hjepa.models.positions import grid_positions


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictorSettings:
    """Sizes of a predictor; the defaults are I-JEPA's for ViT-B."""

    width: int = 384
    """Channels of a token in the predictor; divisible by num_heads and by 4."""
    depth: int = 6
    """Number of transformer blocks."""
    num_heads: int = 12
    """Attention heads in a block."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP, as a multiple of width."""

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.num_heads) < 1 or self.mlp_ratio <= 0:
            raise ValueError(f"every size of a predictor must be above 0; got {self}")
        check_heads("predictor", self.width, self.num_heads)


class Predictor(nn.Module):
    """Context tokens and target places to predicted tokens."""

    def __init__(self, settings: PredictorSettings, encoder_width: int, num_levels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, settings.width)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(settings.width), std=0.02))
        self.level_embedding = nn.Embedding(num_levels, settings.width)
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.num_heads, settings.mlp_ratio) for _ in range(settings.depth)
        )
        self.norm = LayerNorm(settings.width)
        self.project = nn.Linear(settings.width, encoder_width)
        self.apply(initialise)

    def forward(
        self,
        context: Float[Tensor, "R K D"],
        context_index: Int[Tensor, "R K"],
        context_valid: Bool[Tensor, "R K"],
        target_index: Int[Tensor, "R T M"],
        target_valid: Bool[Tensor, "R T M"],
        level: Int[Tensor, " R"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "R T M D"]:
        """Predicted tokens at the target patches; where target_valid is False they mean nothing.

        Indices are int64 patches of the grid of (rows, columns), level is int64. Contexts that differ from block to block
        are rows of their own, with T = 1.
        """
        num_blocks, block_size = target_index.shape[1:]
        positions = grid_positions(grid, self.mask_token.numel(), context.device)
        embedded_level = self.level_embedding(level).unsqueeze(1)  # [R, 1, W]
        # Embedded before it is repeated for each block: repeating first would embed it T times.
        seen = self.embed(context) + positions[context_index] + embedded_level
        asked = positions[target_index] + embedded_level.unsqueeze(1) + self.mask_token
        tokens = torch.cat([seen.unsqueeze(1).expand(-1, num_blocks, -1, -1), asked.to(seen.dtype)], dim=2)
        valid = torch.cat([context_valid.unsqueeze(1).expand(-1, num_blocks, -1), target_valid], dim=2)
        predicted = self._predict(tokens.flatten(0, 1), valid.flatten(0, 1), block_size)
        return predicted.view(*target_index.shape, -1)

    def _predict(self, tokens: Tensor, valid: Tensor, block_size: int) -> Tensor:
        mask = attention_mask(valid)
        first_target = tokens.shape[1] - block_size
        for block in self.blocks[:-1]:
            tokens = block(tokens, mask)
        # After the last block nobody reads the context: it is there a key only, which saves most of a block.
        predicted: Tensor = self.project(self.norm(self.blocks[-1](tokens, mask, first_target)))
        return predicted
