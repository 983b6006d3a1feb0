"""The batches of libraries for self-supervised training: lightly, LightlyTrain, solo-learn, stable-pretraining.

Every crop is a view of the batch's own memory, [B, 3, S, S].
"""

# B images, V crops, S pixels

from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from hjepa.pipeline.adapters.contract import require_globals_first
from hjepa.pipeline.adapters.jepa import IJepa
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.draws import Draws, ViewDraws
from hjepa.pipeline.recipe import Recipe


class LightlyTrainBatch(TypedDict):
    """What LightlyTrain's methods read (its `types.Batch`)."""

    filename: list[str]
    """B paths"""
    views: list[Tensor]
    """V x [B, 3, S, S]"""
    geometries: list[Tensor]
    """V x float32 [B, 8] on the CPU: x1, y1, x2, y2 of the crop, W, H of the image, horizontal flip, vertical flip"""


class LabelledView(TypedDict):
    """One view of stable-pretraining."""

    image: Tensor
    """[B, 3, S, S]"""
    label: Tensor
    """int64 [B]"""


class MaskedView(LabelledView):
    """stable-pretraining's view with I-JEPA's masks."""

    mask_context: Tensor
    """int64 [B, K]: patches of the context"""
    masks_target: list[Tensor]
    """4 x int64 [B, K']: patches of each target"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lightly:
    """Batch -> (views, labels, filenames): lightly."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global" come first."""
        require_globals_first("lightly", recipe)

    def __call__(self, batch: Batch) -> tuple[list[Tensor], Tensor, list[str]]:
        """(V x [B, 3, S, S], labels int64 [B], B paths)."""
        return batch.views(), batch.labels, list(batch.keys)


@dataclass(frozen=True, kw_only=True, slots=True)
class LightlyTrain:
    """Batch -> LightlyTrain's dict, with the geometry of every view."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global" come first."""
        require_globals_first("LightlyTrain", recipe)

    def __call__(self, batch: Batch) -> LightlyTrainBatch:
        """The dict."""
        geometries = [geometry for view in batch.draws.views.values() for geometry in _geometry(batch.draws, view)]
        return {"filename": list(batch.keys), "views": batch.views(), "geometries": geometries}


@dataclass(frozen=True, kw_only=True, slots=True)
class SoloLearn:
    """Batch -> [indexes, crops, targets]: solo-learn, large crops first."""

    def check(self, recipe: Recipe) -> None:
        """Views named "global" come first."""
        require_globals_first("solo-learn", recipe)

    def __call__(self, batch: Batch) -> list[Tensor | list[Tensor]]:
        """[indexes int64 [B], V x [B, 3, S, S], targets int64 [B]]."""
        return [batch.indices.to(batch.labels.device, non_blocking=True), batch.views(), batch.labels]


@dataclass(frozen=True, kw_only=True, slots=True)
class StablePretraining:
    """Batch -> stable-pretraining's dict of views."""

    layout: Literal["named", "views"] = "named"
    """{"global_0": view, ..., "local_5": view}, which its forwards for several views read, or {"views": [view, ...]}."""

    def __post_init__(self) -> None:
        if self.layout not in ("named", "views"):
            raise ValueError(f"layout={self.layout!r} is unknown; use 'named' or 'views'")

    def check(self, recipe: Recipe) -> None:
        """Views named "global" come first."""
        require_globals_first("stable-pretraining", recipe)

    def __call__(self, batch: Batch) -> dict[str, LabelledView] | dict[str, list[LabelledView]]:
        """The dict."""
        named: dict[str, LabelledView] = {
            f"{name}_{number}": {"image": view, "label": batch.labels}
            for name, stacked in batch.crops.items()
            for number, view in enumerate(stacked.unbind(0))
        }
        return named if self.layout == "named" else {"views": list(named.values())}


@dataclass(frozen=True, kw_only=True, slots=True)
class StablePretrainingJepa:
    """Batch -> stable-pretraining's image with I-JEPA's masks (its ContextTargetsMultiBlockMask)."""

    masks: IJepa = field(default_factory=IJepa)
    """Law of the masks."""

    def check(self, recipe: Recipe) -> None:
        """As I-JEPA."""
        self.masks.check(recipe)

    def __call__(self, batch: Batch) -> MaskedView:
        """The dict."""
        (images, labels), (context,), targets = self.masks(batch)
        return {"image": images, "label": labels, "mask_context": context, "masks_target": targets}


def _geometry(draws: Draws, view: ViewDraws) -> Tensor:
    """float32 [V, B, 8] of the V crops of one name."""
    top, left, height, width = (view.box[..., column] for column in range(4))
    image_height, image_width = (np.broadcast_to(draws.sizes[:, axis, None], top.shape) for axis in (0, 1))
    columns = [left, top, left + width, top + height, image_width, image_height, view.flip, np.zeros_like(view.flip)]
    return torch.from_numpy(np.stack(columns, axis=-1).astype(np.float32)).transpose(0, 1)
