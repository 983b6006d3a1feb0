"""The masks of a step wait for no GPU: shown on one that is not there, with tensors that have shapes and no values."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hjepa import step_masks
from hjepa.assembly import build_loader, build_masks
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.kernels import chance, folded_keys, rectangles, simple_masks, token_gather
from hjepa.kernels.blockwise_masks import blockwise_masks
from hjepa.kernels.mask_indices import context_indices, mask_indices
from hjepa.kernels.shared_blocks import block_masks, tube_masks
from hjepa.kernels.simple_masks import paint_rectangles, random_masks
from hjepa.kernels.token_gather import combine_reference, gather_visible
from hjepa.pipeline.batch import MASKS, Batch
from hjepa.pipeline.folder import open_folder
from hjepa.step_masks import GLOBALS, MASKED, READ, READ_BESIDE, Watched, draw_masks

TINY = ["data.dataset=imagefolder", "data.data_path=unused", "data.pipeline=torchvision", "data.num_workers=0", "device=cpu"]
TINY += ["data.batch_size=3", "data.multicrop.num_local_crops=4", "masking.mask_scale=[0.05, 0.1]"]


class NoWait(TorchDispatchMode):
    """Refuses copies to or from a GPU that are waited for. What needs values, such as item or nonzero, is refused anyway."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        given, made = ({leaf.device.type for leaf in tree_leaves(part) if isinstance(leaf, Tensor)} for part in (args, result))
        if "copy" in str(function) and len(given | made) > 1:
            waits = "cuda" not in made or not (kwargs.get("non_blocking", False) or True in args[2:])
            assert not waits, f"{function} of {given} to {made} waits"
        return result


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The torch texts, on tensors without values; what they keep for a device is forgotten afterwards."""
    if torch.__version__ < "2.10" and not torch.cuda.is_available():
        pytest.skip("before torch 2.10 a GPU's tensor without values is not indexed where there is no GPU")
    for module in (folded_keys, rectangles, simple_masks, token_gather):
        monkeypatch.setattr(module, "has_triton", lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    rectangles._tables.cache_clear()


def twice(draw: Callable[[], Any]) -> Any:
    """What a step does after the first one."""
    draw()
    with NoWait():
        return draw()


def settings_of(*overrides: str) -> Settings:
    return load_settings(Path("small"), [*TINY, *overrides])


@pytest.fixture(scope="module")
def batch(labelled: Path) -> Batch:
    with build_loader(settings_of("masking.strategy=cross_crop_prediction"), open_folder(labelled), "train") as loader:
        return next(iter(loader))


def test_no_two_uses_of_a_samples_key_share_their_chance() -> None:
    keys = chance.key_tensor(chance.key(0, np.arange(50)))
    axes = {GLOBALS: (2, 3), READ: (2, 3, 4), MASKED: (3,), READ_BESIDE: (3, 4), MASKS: (2, 3)}  # as many as each folds
    uses = [step_masks._fold(keys, use, torch.Size(sizes)) for use, sizes in axes.items()]
    crops, levels = torch.arange(12).view(-1, 1, 1), torch.arange(5).view(-1, 1)
    drawn = chance.fold_tensor(chance.fold_tensor(keys, crops), levels)  # what MaskSampler makes the blocks from
    every = torch.cat([keys, drawn.flatten(), *(use.flatten() for use in uses)])
    assert len(every.unique()) == len(every) == 50 * (1 + 60 + 6 + 24 + 3 + 12 + 6)


def test_indices_have_their_share_of_the_patches_and_contexts_the_least_that_is_kept(batch: Batch) -> None:
    settings = settings_of("masking.min_keep=14", "masking.mask_scale=[0.03, 0.1]")
    masks = draw_masks(build_masks(settings), batch, settings)
    patches = masks.blocks.context.shape[-1]
    assert masks.context_index.shape[-1] == int(settings.masking.context_tokens * patches)
    assert masks.target_index.shape[-1] == int(settings.masking.target_tokens * patches)
    nothing = torch.zeros(5, 4, patches, dtype=torch.bool)
    _, kept, _, _ = step_masks._indices(nothing[:, 0], nothing, torch.arange(5), settings.masking)
    assert kept.sum(-1).tolist() == [14] * 5
    shown = masks.blocks.targets.sum(-1).clamp_max(masks.target_index.shape[-1])
    assert torch.equal(masks.target_valid.sum(-1), shown)


def test_of_a_local_crop_nothing_is_read_that_lies_outside_of_the_global_crop(batch: Batch) -> None:
    settings = settings_of("masking.strategy=global_with_local_context")
    masks = draw_masks(build_masks(settings), batch, settings)
    assert masks.local is not None
    assert masks.places is not None
    inside = masks.places.inside.unsqueeze(1).expand(-1, masks.local.seen_index.shape[1], -1, -1, -1)
    assert masks.local.seen_valid.any()
    assert not inside.all()
    assert inside.gather(-1, masks.local.seen_index)[masks.local.seen_valid].all()


@pytest.mark.parametrize("watched", [False, True], ids=["by chance", "watched"])
@pytest.mark.parametrize("law", ["exact", "nested", "reference"])
@pytest.mark.parametrize("strategy", ["global_only", "global_with_local_context", "cross_crop_prediction"])
def test_the_masks_of_a_step_wait_for_no_gpu(batch: Batch, no_gpu: None, strategy: str, law: str, watched: bool) -> None:
    laws = [f"masking.law={law}"] if law != "nested" else ["masking.nested=true"]
    settings = settings_of(f"masking.strategy={strategy}", *laws)
    on_gpu = dataclasses.replace(
        batch,
        crops={name: torch.empty(crops.shape, device="cuda") for name, crops in batch.crops.items()},
        labels=torch.empty(batch.labels.shape, dtype=torch.int64, device="cuda"),
    )
    generator = build_masks(settings)
    seen = torch.empty(*batch.globals.shape[:2], generator.get_crop_info()["global_num_patches"], device="cuda")
    attention = Watched(tokens=seen.unsqueeze(-1), attention=seen) if watched else None
    masks = twice(lambda: draw_masks(generator, on_gpu, settings, attention))
    assert masks.blocks.targets.is_cuda
    assert masks.context_index.is_cuda


def test_the_other_masks_wait_for_no_gpu(no_gpu: None) -> None:
    keys = torch.empty(6, dtype=torch.int64, device="cuda")

    def draw() -> list[Tensor]:
        hidden = blockwise_masks(keys, keys, (14, 14))
        context, targets = block_masks(keys, (12, 12), (5, 6), (14, 14), num_targets=4, min_outside=10)
        index, valid = context_indices(context, targets.any(1), 60, 10, keys)
        tokens = gather_visible(torch.empty(6, 196, 8, device="cuda"), index.unsqueeze(1), valid.unsqueeze(1))
        back = combine_reference(tokens, index.unsqueeze(1), valid.unsqueeze(1), 196)
        tubes = tube_masks(keys, (2, 5, 5), (4, 14, 14), 3, 2)
        given = paint_rectangles(torch.empty(6, 4, dtype=torch.int64, device="cuda"), (14, 14))
        return [*mask_indices(hidden, 40, keys), random_masks(keys, 196, 147), given, back, *tubes]

    assert all(mask.is_cuda for mask in twice(draw))
