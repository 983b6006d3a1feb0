"""The transformer block of encoder and predictor: ViT's, with a mask for padding and outputs for some of the tokens only.

timm's block takes a mask only in its later versions and cannot skip outputs, so attention is written out here; its parameters
have timm's names and shapes, and timm's public weights load.
"""

# R rows, K tokens, Q of them with an output, D channels, H heads

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LayerNorm = partial(nn.LayerNorm, eps=1e-6)  # timm's and I-JEPA's epsilon; torch's own is 1e-5


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "R K D"], mask: Bool[Tensor, "R 1 1 K"] | None, first: int
    ) -> Float[Tensor, "R Q D"]:
        """What the tokens from number `first` on gather from all tokens that the mask does not hide."""
        queries, keys, values = self._heads(tokens)
        mixed = F.scaled_dot_product_attention(queries[:, :, first:], keys, values, attn_mask=mask)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def received(self, tokens: Float[Tensor, "R K D"]) -> Float[Tensor, "R K"]:
        """The attention that each token gets, as a mean over heads and over all tokens that ask; of a row it adds up to 1."""
        queries, keys, _ = self._heads(tokens)
        keys = keys.transpose(-2, -1) * queries.shape[-1] ** -0.5
        received = torch.zeros(tokens.shape[:2], device=tokens.device)
        for asking, answering in zip(queries.unbind(1), keys.unbind(1), strict=True):  # all heads at once would be huge
            received += (asking @ answering).float().softmax(-1).mean(1)
        return received / self.num_heads

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [R, H, K, D/H]."""
        num_rows, num_tokens, width = tokens.shape
        heads = self.qkv(tokens).view(num_rows, num_tokens, 3, self.num_heads, width // self.num_heads)
        # Split before it is transposed: the gradients are then stacked as the projection stores them, without another copy.
        queries, keys, values = (part.transpose(1, 2) for part in heads.unbind(2))
        return queries, keys, values


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a GELU MLP, each added to its input."""

    recompute = False
    """Whether what it computes is forgotten, and computed again for the gradient: less memory for a third more time."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = Attention(width, num_heads)
        self.norm2 = LayerNorm(width)
        self.mlp = Mlp(width, hidden_features=int(width * mlp_ratio))

    def forward(
        self, tokens: Float[Tensor, "R K D"], mask: Bool[Tensor, "R 1 1 K"] | None = None, first: int = 0
    ) -> Float[Tensor, "R Q D"]:
        """The tokens from number `first` on, after attending to all tokens that the mask does not hide."""
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(self._update, tokens, mask, first, use_reentrant=False)
            return again
        return self._update(tokens, mask, first)

    def received(self, tokens: Float[Tensor, "R K D"]) -> Float[Tensor, "R K"]:
        """`Attention.received` of what this block attends to."""
        return self.attn.received(self.norm1(tokens))

    def _update(self, tokens: Tensor, mask: Tensor | None, first: int) -> Tensor:
        tokens = tokens[:, first:] + self.attn(self.norm1(tokens), mask, first)
        updated: Tensor = tokens + self.mlp(self.norm2(tokens))
        return updated


def attention_mask(valid: Bool[Tensor, "R K"] | None) -> Bool[Tensor, "R 1 1 K"] | None:
    """The mask that hides padding from all queries; in a row of nothing but padding it hides nothing, lest softmax be NaN."""
    if valid is None:
        return None
    return (valid | ~valid.any(-1, keepdim=True)).unsqueeze(1).unsqueeze(1)


def initialise(module: nn.Module) -> None:
    """Xavier-uniform matrices and zero biases, as in MAE (arXiv 2111.06377): the scale follows the width, unlike 0.02."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
