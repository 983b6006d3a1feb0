"""The predictor: a narrow transformer that guesses the teacher's tokens at hidden patches from the student's at visible ones.

As in I-JEPA, arXiv 2301.08243, a hidden patch enters as a learned mask token plus its position, and each target block is
predicted in a pass of its own, so that blocks tell each other nothing. A learned embedding says which level is asked for.
Tokens of local crops stand where their patches lie in the global crop, between its patches and of another size.
"""

# R contexts, K tokens of a context, J of local crops, T target blocks of a context, M patches of a block, N patches of the
# grid, L levels, D channels of the encoder, W of the predictor

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hjepa.models.block import Block, LayerNorm, attention_mask, initialise
from hjepa.models.positions import grid_positions, sincos_positions
from hjepa.models.sizes import check_heads


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


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalTokens:
    """The student's tokens of local crops, as context for the prediction of something in a global crop."""

    tokens: Float[Tensor, "R J D"]
    place: Float[Tensor, "R J 2"]
    """Row and column of each patch's centre in the global crop, float32 (`geometry.PatchPlaces.centre`)."""
    log_size: Float[Tensor, "R J 2"]
    """Logarithm of its height and width in patches of the global crop, float32."""
    valid: Bool[Tensor, "R J"]
    """False at what must not be seen."""


class Predictor(nn.Module):
    """Context tokens and target places to predicted tokens."""

    def __init__(self, settings: PredictorSettings, encoder_width: int, num_levels: int, *, reads_locals: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(encoder_width, settings.width)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(settings.width), std=0.02))
        self.level_embedding = nn.Embedding(num_levels, settings.width)
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.num_heads, settings.mlp_ratio) for _ in range(settings.depth)
        )
        self.norm = LayerNorm(settings.width)
        self.project = nn.Linear(settings.width, encoder_width)
        # The weight embeds the size of a local crop's patches, the bias says that a token comes from a local crop.
        self.embed_size = nn.Linear(2, settings.width) if reads_locals else None
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
        local: LocalTokens | None = None,
    ) -> Float[Tensor, "R T M D"]:
        """Predicted tokens at the target patches; where target_valid is False they mean nothing.

        Indices are int64 patches of the grid of (rows, columns), level is int64. Contexts that differ from block to block
        are rows of their own, with T = 1. Tokens of local crops, if any, are context, too.
        """
        positions = grid_positions(grid, self.mask_token.numel(), context.device)
        # Embedded before it is repeated for each block: repeating first would embed it T times.
        seen, valid = self.embed(context) + positions[context_index], context_valid
        if local is not None:
            seen, valid = torch.cat([seen, self._embed_local(local)], dim=1), torch.cat([valid, local.valid], dim=1)
        return self._ask(seen, valid, positions[target_index], target_valid, level)

    def predict_places(
        self,
        local: LocalTokens,
        target_place: Float[Tensor, "R T M 2"],
        target_valid: Bool[Tensor, "R T M"],
        level: Int[Tensor, " R"],
    ) -> Float[Tensor, "R T M D"]:
        """`forward` from tokens of local crops alone, for any places in the global crop (`LocalTokens.place`)."""
        positions = sincos_positions(target_place - 0.5, self.mask_token.numel())
        return self._ask(self._embed_local(local), local.valid, positions, target_valid, level)

    def _embed_local(self, local: LocalTokens) -> Tensor:
        assert self.embed_size is not None
        positions = sincos_positions(local.place - 0.5, self.mask_token.numel())
        embedded: Tensor = self.embed(local.tokens) + self.embed_size(local.log_size) + positions
        return embedded

    def _ask(self, seen: Tensor, seen_valid: Tensor, positions: Tensor, valid: Tensor, level: Tensor) -> Tensor:
        """Predicted tokens [R, T, M, D] from embedded context [R, K, W] and positions of the targets [R, T, M, W]."""
        num_blocks, block_size = valid.shape[1:]
        embedded_level = self.level_embedding(level).unsqueeze(1)  # [R, 1, W]
        seen, asked = seen + embedded_level, positions + embedded_level.unsqueeze(1) + self.mask_token
        tokens = torch.cat([seen.unsqueeze(1).expand(-1, num_blocks, -1, -1), asked.to(seen.dtype)], dim=2)
        unhidden = torch.cat([seen_valid.unsqueeze(1).expand(-1, num_blocks, -1), valid], dim=2)
        return self._predict(tokens.flatten(0, 1), unhidden.flatten(0, 1), block_size).view(*valid.shape, -1)

    def _predict(self, tokens: Tensor, valid: Tensor, block_size: int) -> Tensor:
        mask = attention_mask(valid)
        first_target = tokens.shape[1] - block_size
        for block in self.blocks[:-1]:
            tokens = block(tokens, mask)
        # After the last block nobody reads the context: it is there a key only, which saves most of a block.
        predicted: Tensor = self.project(self.norm(self.blocks[-1](tokens, mask, first_target)))
        return predicted
