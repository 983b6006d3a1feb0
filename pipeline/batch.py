"""One batch: every tensor's shape stands here."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.pipeline.backend import Crops
from hjepa.pipeline.draws import Draws
from hjepa.pipeline.mask_sampler import BlockMasks

# B images, V crops of one name, S pixels, G global crops, L local crops
MASKS = 0x6D61736B  # "mask": keeps the keys of masks apart from those of other things that are drawn for a sample


class MaskGenerator(Protocol):
    """What draws masks for keyed samples: any generator of pipeline/masks.py and multicrop_masks.py."""

    def sample(self, keys: Tensor) -> BlockMasks:
        """Masks for keys int64 [B], on their device."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Batch:
    """The crops of B images, and all that is known about them."""

    crops: Crops
    """Name of the view -> normalised crops [V, B, 3, S, S], view-major, on the loader's device; may be a strided view."""
    labels: Tensor
    """int64 [B] on the loader's device: number of the class, -1 without one."""
    indices: Tensor
    """int64 [B] on the CPU: numbers of the images in the source."""
    keys: tuple[str, ...]
    """B paths relative to the source's root; of a Mixture after the names of its sources."""
    draws: Draws
    """Boxes, flips and every other decision, as numpy arrays; draws.keys continues to masks."""
    step_key: chance.Keys
    """uint64 []: key of (seed, epoch, number of the batch) for what is of the whole batch; the same on all ranks."""

    def __repr__(self) -> str:
        """Shapes without values, of which there are millions, for notebooks and debuggers."""
        crops = ", ".join(f"{name} {list(view.shape)}" for name, view in self.crops.items())
        dtypes = {str(view.dtype).removeprefix("torch.") for view in self.crops.values()}
        return f"Batch of {len(self.keys)} images on {self.labels.device}: crops {crops} in {', '.join(dtypes)}"

    @property
    def globals(self) -> Tensor:
        """[G, B, 3, S, S]: the crops named "global". Raises ValueError for a recipe without any."""
        if "global" not in self.crops:
            raise ValueError(f"this recipe's crops are {', '.join(self.crops)}, none of them global; use crops[...] or views()")
        return self.crops["global"]

    @property
    def locals(self) -> Tensor | None:
        """[L, B, 3, S, S]: the crops named "local"; None for a recipe without any."""
        return self.crops.get("local")

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch with crops and labels on another device, no copy where they are there. Lightning moves batches so."""
        if isinstance(device, torch.dtype):  # of the labels, too, it would be: numbers above 2048 are not all in float16
            raise ValueError(f"a Batch goes to a device, and {device} is a dtype; give it to the Loader: dtype={device}")
        return replace(
            self,
            crops={name: view.to(device, non_blocking=non_blocking) for name, view in self.crops.items()},
            labels=self.labels.to(device, non_blocking=non_blocking),
        )

    @property
    def boxes(self) -> dict[str, Tensor]:
        """Name of the view -> int32 [V, B, 4] on the CPU, without a copy: top, left, height, width in pixels of the image."""
        return {name: torch.from_numpy(view.box).transpose(0, 1) for name, view in self.draws.views.items()}

    @property
    def flips(self) -> dict[str, Tensor]:
        """Name of the view -> bool [V, B] on the CPU, without a copy: mirrored left to right."""
        return {name: torch.from_numpy(view.flip).transpose(0, 1) for name, view in self.draws.views.items()}

    @property
    def mask_keys(self) -> Tensor:
        """int64 [B] on the loader's device: keys of (seed, epoch, sample) for masks, which so resume and shard as crops do."""
        folded = chance.bits(self.draws.keys, np.asarray(MASKS))  # on the CPU: on a GPU it would be ten launches
        return chance.key_tensor(folded, self.labels.device)

    def views(self) -> list[Tensor]:
        """All crops as a list of [B, 3, S, S], in the recipe's order (globals first), without a copy."""
        return [view for stacked in self.crops.values() for view in stacked.unbind(0)]

    def split_crops(self) -> tuple[list[Tensor], list[Tensor]]:
        """The global crops and the local crops as two lists of [B, 3, S, S], without a copy (document D's split_crops)."""
        return list(self.globals.unbind(0)), [] if self.locals is None else list(self.locals.unbind(0))

    def masks(self, generator: MaskGenerator) -> BlockMasks:
        """This batch's masks from a generator of masks, on the loader's device."""
        return generator.sample(self.mask_keys)
