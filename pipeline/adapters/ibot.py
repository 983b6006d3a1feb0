"""The batch of iBOT: bytedance/ibot, loader.py, with the masks of the global crops drawn on the device.

The trainer hides nothing in its local crops, so they have no masks here; upstream makes some and does not look at them.
"""

# B images, V crops, G global crops, S pixels, N = side^2 patches of a global crop

from dataclasses import dataclass
from numbers import Real

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.kernels.blockwise_masks import CHOSEN, SHARE, blockwise_masks
from hjepa.pipeline.adapters.contract import host_mask_keys, require_globals_first, require_patches, require_views
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class IBot:
    """Batch -> iBOT's (crops, labels, masks). Unlike upstream's, every mask has exactly the size that was drawn for it."""

    patch_size: int = 16
    """Side of what one entry of a mask hides, in pixels: the ViT's patch, and 8 of a Swin's (32 for patches of 4)."""
    pred_ratio: tuple[float, ...] = (0.0, 0.3)
    """Shares of hidden patches, of which every global crop has one, by chance; those of the README's command."""
    pred_ratio_var: tuple[float, ...] = (0.0, 0.2)
    """How far, up or down, each of these shares may be off: uniform."""

    def __post_init__(self) -> None:
        rows = [len(row) for row in (self.pred_ratio, self.pred_ratio_var) if isinstance(row, list | tuple)]
        if len(rows) < 2 or rows[0] != rows[1] or not rows[0]:
            raise ValueError(
                f"pred_ratio={self.pred_ratio} and pred_ratio_var={self.pred_ratio_var} are not rows of one length; "
                "use tuples, with a deviation for each share"
            )
        for share, deviation in zip(self.pred_ratio, self.pred_ratio_var, strict=True):
            if not all(isinstance(number, Real) for number in (share, deviation)):
                raise ValueError(f"pred_ratio={share!r} with pred_ratio_var={deviation!r} is no pair of numbers; use shares")
            if not 0 <= deviation <= share <= 1 - deviation:
                raise ValueError(
                    f"pred_ratio={share} with pred_ratio_var={deviation} leaves the shares from 0 to 1; use a smaller deviation"
                )

    def check(self, recipe: Recipe) -> None:
        """Crops named "global", and perhaps some named "local" after them, of whole patches."""
        require_views("iBOT", recipe, {"global": None} | ({"local": None} if "local" in recipe.names else {}))
        require_globals_first("iBOT", recipe)
        require_patches("iBOT", recipe, self.patch_size)

    def __call__(self, batch: Batch) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """(V x [B, 3, S, S], labels int64 [B], G x bool [B, side, side], True = hidden from the student)."""
        crops, device = batch.globals, batch.globals.device
        side = crops.shape[-1] // self.patch_size
        keys = host_mask_keys(batch, np.arange(len(crops))[:, None]).ravel()
        counts = torch.from_numpy((self._shares(keys) * side**2).astype(np.int64)).to(device, non_blocking=True)
        masks = blockwise_masks(
            chance.key_tensor(keys, device), counts, (side, side), min_patches=(side // 3) ** 2, max_share=1.0
        )
        return batch.views(), batch.labels, list(masks.view(len(crops), -1, side, side).unbind(0))

    def _shares(self, keys: chance.Keys) -> npt.NDArray[np.float64]:
        """float64 [R]: the share of hidden patches in each row."""
        chosen = (chance.uniform(keys, np.array(CHOSEN)) * len(self.pred_ratio)).astype(np.int64)
        shares: npt.NDArray[np.float64] = np.array(self.pred_ratio, dtype=np.float64)[chosen]
        shares += (2 * chance.uniform(keys, np.array(SHARE)) - 1) * np.array(self.pred_ratio_var)[chosen]
        return shares
