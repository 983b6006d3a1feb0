"""One batch: every tensor's shape stands here."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hjepa.pipeline.backend import Crops
from hjepa.pipeline.draws import Draws

# B images, V crops of one name, S pixels, G global crops, L local crops


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The crops of B images, and all that is known about them."""

    crops: Crops
    """Name of the view -> normalised crops [V, B, 3, S, S], view-major, on the loader's device; may be a strided view."""
    labels: Tensor
    """int64 [B] on the loader's device: number of the class, -1 without one."""
    indices: Tensor
    """int64 [B] on the CPU: numbers of the images in the source."""
    keys: tuple[str, ...]
    """B paths relative to the source's root."""
    draws: Draws
    """Boxes, flips and every other decision, as numpy arrays; draws.keys continues to masks."""

    @property
    def globals(self) -> Tensor:
        """[G, B, 3, S, S]: the crops named "global"."""
        return self.crops["global"]

    @property
    def locals(self) -> Tensor | None:
        """[L, B, 3, S, S]: the crops named "local"; None for a recipe without any."""
        return self.crops.get("local")

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch with crops and labels on another device; itself where they are there. Lightning moves batches by this."""
        return replace(
            self,
            crops={name: view.to(device, non_blocking=non_blocking) for name, view in self.crops.items()},
            labels=self.labels.to(device, non_blocking=non_blocking),
        )

    def views(self) -> list[Tensor]:
        """All crops as a list of [B, 3, S, S], in the recipe's order (globals first), without a copy."""
        return [view for stacked in self.crops.values() for view in stacked.unbind(0)]
