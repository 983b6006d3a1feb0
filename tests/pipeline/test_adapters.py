"""Each adapter's batch has exactly its trainer's keys, dtypes, shapes and order, shares the batch's memory, and replays."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hjepa.kernels import chance
from hjepa.pipeline.adapters import (
    ADAPTERS,
    Dino,
    DinoV2,
    DinoV3,
    HJepa,
    IBot,
    IJepa,
    StablePretraining,
    StackedCrops,
    TubeMasks,
    VJepa2,
    open_adapter,
)
from hjepa.pipeline.batch import Batch
from hjepa.pipeline.draws import draw
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.masks import HierarchicalMaskGenerator
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.pipeline.presets import preset
from hjepa.pipeline.recipe import Recipe, View

BACKENDS = [pytest.param("dali-ops", marks=pytest.mark.dali), pytest.param("fused", marks=pytest.mark.fused), "torchvision"]
B = 6


def view(name: str, count: int, size: int) -> View:
    return View(name=name, count=count, size=size, area=(0.3, 1.0), gray=0, blur=0)


def recipe(*views: View) -> Recipe:
    return Recipe(name="test", source="here", views=views)


MULTICROP = recipe(view("global", 2, 56), view("local", 3, 28))
"""16 and 4 patches of 14 px."""
SINGLE = recipe(view("global", 1, 56))
"""14 x 14 patches of 4 px."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images, each of one level of gray, so that every crop of an image is constant and names it."""
    folder = tmp_path_factory.mktemp("plain")
    for number in range(12):
        (folder / f"class{number % 3}").mkdir(exist_ok=True)
        Image.new("RGB", (60 + number, 80), (20 * number,) * 3).save(folder / f"class{number % 3}" / f"{number:02d}.png")
    return folder


def batches(folder: Path, recipe: Recipe, backend: str = "torchvision", **options: Any) -> list[Batch]:
    workers = {"num_workers": 0} if backend == "torchvision" else {}
    settings: dict[str, Any] = {"batch_size": B, "seed": 5} | workers | options
    with Loader(folder, recipe, backend=backend, device="cpu", **settings) as loader:
        return list(loader)


@pytest.fixture(scope="module", params=BACKENDS)
def multicrop(request: pytest.FixtureRequest, plain: Path) -> Batch:
    return batches(plain, MULTICROP, request.param)[0]


@pytest.fixture(scope="module")
def single(plain: Path) -> Batch:
    return batches(plain, SINGLE)[0]


def levels(crops: Tensor) -> list[int]:
    """The level of gray of each crop [n, 3, ...], which tells its image."""
    first = crops.flatten(1)[:, 0].float()
    mean, std = 0.485, 0.229
    return [round(value) for value in ((first * std + mean) * 255).tolist()]


def image_levels(batch: Batch) -> list[int]:
    return [20 * int(Path(key).stem) for key in batch.keys]


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def assert_dinov2(made: dict[str, Any], batch: Batch, dtype: torch.dtype) -> None:
    """The contract of collate_data_and_cast."""
    assert list(made) == [
        "collated_global_crops",
        "collated_local_crops",
        "collated_masks",
        "mask_indices_list",
        "masks_weight",
        "upperbound",
        "n_masked_patches",
    ]
    masks, indices = made["collated_masks"], made["mask_indices_list"]
    assert (made["collated_global_crops"].shape, made["collated_global_crops"].dtype) == ((2 * B, 3, 56, 56), dtype)
    assert (made["collated_local_crops"].shape, made["collated_local_crops"].dtype) == ((3 * B, 3, 28, 28), dtype)
    assert levels(made["collated_global_crops"]) == image_levels(batch) * 2
    assert levels(made["collated_local_crops"]) == image_levels(batch) * 3
    assert (masks.dtype, indices.dtype) == (torch.bool, torch.int64)
    assert (masks.any(-1)).sum() == B
    assert torch.equal(indices, masks.flatten().nonzero().flatten())
    weight = (1 / masks.sum(-1).clamp(min=1.0)).unsqueeze(-1).expand_as(masks)[masks]
    assert made["masks_weight"].dtype == torch.float32
    assert torch.equal(made["masks_weight"], weight)
    assert made["masks_weight"].sum().item() == pytest.approx(B)
    assert type(made["upperbound"]) is int
    assert torch.equal(made["n_masked_patches"], torch.tensor([len(indices)]))


def test_dinov2_gets_what_its_collate_function_makes(multicrop: Batch) -> None:
    made: Any = DinoV2(patch_size=14)(multicrop)
    assert_dinov2(made, multicrop, torch.float16)
    assert made["collated_masks"].shape == (2 * B, 16)
    assert len(made["mask_indices_list"]) <= made["upperbound"]
    assert made["upperbound"] == sum(int(16 * ratio) for ratio in torch.linspace(0.1, 0.5, B + 1)[1:])


def test_dinov3_fills_its_upper_bound(plain: Path) -> None:
    batch = batches(plain, MULTICROP)[0]
    made: Any = DinoV3(patch_size=7)(batch)
    assert_dinov2(made, batch, torch.bfloat16)
    assert made["collated_masks"].shape == (2 * B, 64)
    assert len(made["mask_indices_list"]) == made["upperbound"]


def test_ibot_gets_what_its_data_set_and_collate_make(multicrop: Batch) -> None:
    crops, labels, masks = IBot(patch_size=4, pred_ratio=(0.3,), pred_ratio_var=(0.1,))(multicrop)
    assert_views(crops, multicrop)
    assert torch.equal(labels, multicrop.labels)
    assert [(mask.shape, mask.dtype) for mask in masks] == [((B, 14, 14), torch.bool)] * 2
    assert not torch.equal(masks[0], masks[1])
    assert all(0.2 * 196 - 1 < count <= 0.4 * 196 for mask in masks for count in mask.sum((1, 2)).tolist())


def test_ibot_hides_nothing_in_half_of_the_crops_and_10_to_50_percent_in_the_others(plain: Path) -> None:
    adapter: Any = IBot(patch_size=4)
    drawn = [torch.stack(adapter(batch)[2]) for batch in draws_of(64, 40, plain, MULTICROP)]
    shares = torch.cat(drawn, dim=1).float().mean((2, 3)).flatten()
    assert (shares == 0).float().mean() == pytest.approx(0.5, abs=0.03)
    masked = shares[shares > 0]
    assert 0.09 < masked.min() < 0.12 < 0.48 < masked.max() <= 0.5
    assert masked.mean() == pytest.approx(0.3 - 0.5 / 196, abs=0.01)  # shares of whole patches, rounded down
    assert masked.std() == pytest.approx(0.4 / 12**0.5, abs=0.01)


def test_ibot_reads_recipes_without_local_crops(plain: Path) -> None:
    images: Any = open_adapter(IBot(patch_size=4), SINGLE)(batches(plain, SINGLE)[0])
    assert (len(images[0]), len(images[2])) == (1, 1)


def test_a_mix_up_of_crop_major_and_sample_major_would_be_seen(multicrop: Batch) -> None:
    sample_major = multicrop.globals.transpose(0, 1).flatten(0, 1)
    assert levels(sample_major) != image_levels(multicrop) * 2
    assert levels(StackedCrops()(multicrop)["global_crops"]) == image_levels(multicrop) * 2


def test_contiguous_crops_of_the_right_dtype_are_not_copied(multicrop: Batch) -> None:
    contiguous = replace(multicrop, crops={name: crops.contiguous() for name, crops in multicrop.crops.items()})
    made: Any = DinoV2(patch_size=14, dtype=torch.float32)(contiguous)
    assert made["collated_global_crops"].data_ptr() == contiguous.globals.data_ptr()
    assert made["collated_local_crops"].data_ptr() == contiguous.crops["local"].data_ptr()
    assert StackedCrops()(contiguous)["global_crops"].data_ptr() == contiguous.globals.data_ptr()


@pytest.mark.parametrize(
    "name", ["dino", "dino-loader", "ffcv", "lightly", "lightly-train", "solo-learn", "stable-pretraining", "swav"]
)
def test_lists_of_crops_are_views_of_the_batch(name: str, multicrop: Batch) -> None:
    made: Any = open_adapter(name, MULTICROP)(multicrop)
    if name == "dino-loader":
        made = [made.global_crops, made.local_crops]
    places = [tensor.data_ptr() for tensor in tensors(made)]
    assert all(crop.data_ptr() in places for crop in multicrop.views())


def assert_views(made: list[Tensor], batch: Batch) -> None:
    assert [tuple(crop.shape) for crop in made] == [(B, 3, 56, 56)] * 2 + [(B, 3, 28, 28)] * 3
    assert all(levels(crop) == image_levels(batch) for crop in made)


def test_documents_a_b_and_d_get_a_list_and_labels(multicrop: Batch) -> None:
    crops, labels = Dino()(multicrop)
    assert_views(crops, multicrop)
    assert labels.tolist() == [int(Path(key).stem) % 3 for key in multicrop.keys]
    assert_views(open_adapter("swav", MULTICROP)(multicrop), multicrop)


def test_document_c_gets_its_dict_crop_major(multicrop: Batch) -> None:
    made = StackedCrops()(multicrop)
    assert list(made) == ["global_crops", "local_crops", "batch_size"]
    assert (made["global_crops"].shape, made["local_crops"].shape) == ((2 * B, 3, 56, 56), (3 * B, 3, 28, 28))
    assert made["batch_size"] == B
    assert levels(made["local_crops"]) == image_levels(multicrop) * 3


def test_lightly_gets_views_labels_and_filenames(multicrop: Batch) -> None:
    views, labels, filenames = open_adapter("lightly", MULTICROP)(multicrop)
    assert_views(views, multicrop)
    assert labels.dtype == torch.int64
    assert filenames == list(multicrop.keys)


def test_lightly_train_gets_the_geometry_of_every_view(multicrop: Batch) -> None:
    made = open_adapter("lightly-train", MULTICROP)(multicrop)
    assert list(made) == ["filename", "views", "geometries"]
    assert_views(made["views"], multicrop)
    assert made["filename"] == list(multicrop.keys)
    boxes = [box for stacked in multicrop.boxes.values() for box in stacked]
    flips = [flip for stacked in multicrop.flips.values() for flip in stacked]
    assert {bool(flip) for flip in torch.cat(flips)} == {False, True}
    for geometry, box, flip in zip(made["geometries"], boxes, flips, strict=True):
        assert (geometry.shape, geometry.dtype) == ((B, 8), torch.float32)
        for row, (top, left, height, width), mirrored, key in zip(geometry, box, flip, multicrop.keys, strict=True):
            size = [60 + int(Path(key).stem), 80]
            assert row.tolist() == [left, top, left + width, top + height, *size, mirrored, 0]


def test_solo_learn_gets_indexes_crops_and_targets(multicrop: Batch) -> None:
    made = open_adapter("solo-learn", MULTICROP)(multicrop)
    assert type(made) is list
    indexes, crops, targets = made
    assert torch.equal(indexes, multicrop.indices)
    assert indexes.dtype == targets.dtype == torch.int64
    assert_views(crops, multicrop)


def test_stable_pretraining_gets_named_views(multicrop: Batch) -> None:
    made: Any = StablePretraining()(multicrop)
    assert list(made) == ["global_0", "global_1", "local_0", "local_1", "local_2"]
    assert all(list(one) == ["image", "label"] for one in made.values())
    assert_views([one["image"] for one in made.values()], multicrop)
    listed: Any = StablePretraining(layout="views")(multicrop)
    assert list(listed) == ["views"]
    assert_views([one["image"] for one in listed["views"]], multicrop)


def test_stable_pretraining_gets_the_masks_of_ijepa(single: Batch) -> None:
    made = open_adapter("stable-pretraining-jepa", recipe(view("global", 1, 224)))
    assert made.masks == IJepa()  # type: ignore[attr-defined]
    small: Any = replace(made, masks=IJepa(patch_size=4))(single)  # type: ignore[type-var]
    assert list(small) == ["image", "label", "mask_context", "masks_target"]
    assert small["mask_context"].shape[0] == B
    assert [target.shape[0] for target in small["masks_target"]] == [B] * 4


def test_ffcv_gets_further_views_after_the_label(multicrop: Batch) -> None:
    first, labels, *others = open_adapter("ffcv", MULTICROP)(multicrop)
    assert_views([first, *others], multicrop)
    assert torch.equal(labels, multicrop.labels)


def test_dino_loader_gets_two_lists(multicrop: Batch) -> None:
    made = open_adapter("dino-loader", MULTICROP)(multicrop)
    assert_views(made.global_crops + made.local_crops, multicrop)
    assert made.metadata == [{"key": key} for key in multicrop.keys]
    assert made.masks is None
    global_crops, local_crops = made
    assert (len(global_crops), len(local_crops)) == (2, 3)


@pytest.mark.parametrize("name", ["timm", "plain"])
def test_timm_gets_images_and_labels(name: str, single: Batch) -> None:
    images, labels = open_adapter(name, SINGLE)(single)
    assert images.shape == (B, 3, 56, 56)
    assert levels(images) == image_levels(single)
    assert torch.equal(labels, single.labels)


def test_ijepa_gets_what_its_mask_collator_makes(single: Batch) -> None:
    made: Any = IJepa(patch_size=4)(single)
    assert [type(part) for part in made] == [list, list, list]
    (images, labels), masks_enc, masks_pred = made
    assert (images.shape, images.dtype, images.data_ptr()) == ((B, 3, 56, 56), torch.float32, single.globals.data_ptr())
    assert torch.equal(labels, single.labels)
    assert (len(masks_enc), len(masks_pred)) == (1, 4)
    assert masks_enc[0].shape == (B, len(masks_enc[0][0]))
    assert len({mask.shape for mask in masks_pred}) == 1
    assert all(mask.dtype == torch.int64 for mask in masks_enc + masks_pred)
    assert all((mask[:, 1:] > mask[:, :-1]).all() for mask in masks_enc + masks_pred)


def mask_of(index: Tensor, patches: int) -> Tensor:
    return torch.zeros(len(index), patches, dtype=torch.bool).scatter_(1, index, True)


def draws_of(count: int, epochs: int, plain: Path, recipe: Recipe) -> Iterator[Batch]:
    """Batches with keys of many epochs, of which only the keys are new."""
    first = batches(plain, recipe)[0]
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        keys = rng.integers(0, 2**63, count).astype(np.uint64)
        crops = {name: stacked[:, :1].expand(-1, count, -1, -1, -1) for name, stacked in first.crops.items()}
        yield replace(first, crops=crops, draws=replace(first.draws, keys=keys), labels=torch.zeros(count, dtype=torch.int64))


def test_ijepa_masks_are_disjoint_large_enough_and_reach_every_patch(plain: Path) -> None:
    seen = torch.zeros(2, 196)
    rows = torch.zeros(14)
    for batch in draws_of(32, 60, plain, SINGLE):
        context, targets = IJepa(patch_size=4).masks(batch)
        visible, hidden = mask_of(context, 196), torch.stack([mask_of(target, 196) for target in targets.unbind(1)])
        assert not (visible & hidden.any(0)).any()
        assert context.shape[1] > 10
        assert 22 <= targets.shape[2] <= 42
        seen += torch.stack([visible.float().mean(0), hidden.float().mean((0, 1))])
        rows += visible.view(-1, 14, 14).sum((0, 2))
    assert (seen > 0).all()
    # Upstream cuts the contexts of a batch to the shortest from the bottom up; here top and bottom rows are equally kept.
    assert rows[:7].sum() / rows.sum() == pytest.approx(0.5, abs=0.02)


def test_ijepa_context_that_is_too_small_is_filled_up_outside_the_targets(plain: Path) -> None:
    adapter = IJepa(patch_size=4, enc_mask_scale=(0.02, 0.02), min_keep=20)
    adapter.check(SINGLE)
    for batch in draws_of(64, 5, plain, SINGLE):
        context, targets = adapter.masks(batch)
        assert context.shape[1] == 21
        assert not (mask_of(context, 196) & mask_of(targets.flatten(1), 196)).any()


def test_vjepa2_gets_what_its_mask_collator_makes(single: Batch) -> None:
    made: Any = VJepa2(patch_size=4)(single)
    assert len(made) == 1
    (clips, labels, frames), masks_enc, masks_pred = made[0]
    assert clips[0].shape == (B, 3, 16, 56, 56)
    assert clips[0].data_ptr() == single.globals.data_ptr()
    assert torch.equal(clips[0][:, :, 15], single.globals[0])
    assert torch.equal(labels, single.labels)
    assert torch.equal(frames[-1], torch.arange(16, dtype=torch.int32).expand(B, -1))
    assert len(masks_enc) == len(masks_pred) == 2
    for context, target in zip(masks_enc, masks_pred, strict=True):
        assert context.dtype == target.dtype == torch.int64
        assert context.shape[0] == target.shape[0] == B
        assert context.shape[1] % 8 == target.shape[1] % 8 == 0
        assert context.shape[1] > 0
        visible, hidden = mask_of(context, 8 * 196), mask_of(target, 8 * 196)
        assert not (visible & hidden).any()
        for mask in (visible, hidden):  # tubes: the same in every frame
            assert torch.equal(mask.view(B, 8, 196), mask[:, :196].unsqueeze(1).expand(-1, 8, -1))
        assert all((mask[:, 1:] > mask[:, :-1]).all() for mask in (context, target))


def test_tubes_may_span_some_of_the_frames(single: Batch) -> None:
    law = TubeMasks(num_blocks=2, spatial_scale=(0.3, 0.3), temporal_scale=(0.25, 0.5))
    ((_, masks_enc, masks_pred),) = VJepa2(patch_size=4, masks=(law,))(single)
    visible, hidden = mask_of(masks_enc[0], 8 * 196), mask_of(masks_pred[0], 8 * 196)
    assert not (visible & hidden).any()
    frames = hidden.view(B, 8, 196).any(-1).sum(-1)
    assert ((frames >= 1) & (frames <= 8)).all()
    assert not torch.equal(hidden[:, :196], hidden[:, -196:])
    # Every patch but those that were cut to the batch's least number is one or the other.
    assert (visible | hidden).float().mean() > 0.6


@pytest.mark.parametrize(("ratio", "seen"), [(0.05, 1), (0.5, 4), (0.7, 5), (1.0, 8)])
def test_the_context_lies_in_the_first_frames_and_all_others_are_predicted(single: Batch, ratio: float, seen: int) -> None:
    law = TubeMasks(num_blocks=2, spatial_scale=(0.3, 0.3), max_context_frames_ratio=ratio)
    ((_, masks_enc, masks_pred),) = VJepa2(patch_size=4, masks=(law,))(single)
    visible, hidden = (mask_of(mask[0], 8 * 196).view(B, 8, 196) for mask in (masks_enc, masks_pred))
    assert visible[:, :seen].any(-1).all()
    assert not visible[:, seen:].any()
    assert not (visible & hidden).any()
    assert hidden[:, seen:].float().mean() > 0.6 or seen == 8


def test_hjepa_gets_the_masks_of_its_samples(plain: Path) -> None:
    generator = MultiCropMaskGenerator(56, 28, 2, 3, patch_size=4, masking_strategy="cross_crop_prediction")
    adapter: Any = open_adapter(HJepa(generator=generator), MULTICROP)
    batch = batches(plain, MULTICROP)[0]
    crops, labels, masks = adapter(batch)
    assert_views(crops, batch)
    assert torch.equal(labels, batch.labels)
    assert masks["global_masks"]["crop_1"]["level_2"]["targets"].shape == (B, 4, 196)
    assert list(masks["local_masks"]) == ["crop_0", "crop_1", "crop_2"]
    drawn = batch.masks(generator)
    assert torch.equal(masks["global_masks"]["crop_1"]["level_2"]["targets"], drawn.targets[1, 2])
    generator(3)  # its own stream
    assert torch.equal(adapter(batch)[2]["global_masks"]["crop_0"]["level_0"]["context"], drawn.context[0, 0])
    single = batches(plain, SINGLE)[0]
    images, _, levels_of_one = open_adapter(HJepa(generator=HierarchicalMaskGenerator(56, 4)), SINGLE)(single)
    assert images.shape == (B, 3, 56, 56)
    assert list(levels_of_one) == ["level_0", "level_1", "level_2"]
    assert torch.equal(levels_of_one["level_0"]["context"], drawn.context[0, 0])


@pytest.mark.parametrize(
    ("adapter", "crops"),
    [
        (DinoV2(patch_size=14), MULTICROP),
        (IBot(patch_size=4), MULTICROP),
        (IJepa(patch_size=4), SINGLE),
        (VJepa2(patch_size=4), SINGLE),
    ],
    ids=["dinov2", "ibot", "ijepa", "vjepa2"],
)
def test_masks_replay_and_differ_between_batches_and_epochs(adapter: Any, crops: Recipe, plain: Path) -> None:
    first, again = ([adapter(batch) for batch in batches(plain, crops)] for _ in range(2))
    for one, two in zip(tensors(first), tensors(again), strict=True):
        assert torch.equal(one, two)
    with Loader(plain, crops, batch_size=B, backend="torchvision", device="cpu", num_workers=0, seed=5) as loader:
        epochs = [tuple(tuple(t.flatten().tolist()) for t in tensors(adapter(batch))) for _ in range(2) for batch in loader]
    assert len(set(epochs)) == len(epochs)


@pytest.mark.parametrize("name", ["dinov2", "ibot", "ijepa", "vjepa2"])
def test_masks_belong_to_the_samples_wherever_they_stand_in_the_batch(name: str, plain: Path) -> None:
    adapters = {"dinov2": DinoV2(patch_size=7), "ibot": IBot(patch_size=4), "ijepa": IJepa(patch_size=4)}
    adapter: Any = (adapters | {"vjepa2": VJepa2(patch_size=4)})[name]
    batch = batches(plain, MULTICROP if name in ("dinov2", "ibot") else SINGLE)[0]
    order = np.array([4, 0, 5, 2, 1, 3])
    moved = replace(batch, draws=replace(batch.draws, keys=batch.draws.keys[order]))
    first, second = adapter(batch), adapter(moved)
    if name == "dinov2":
        masks, of_moved = (made["collated_masks"].view(2, B, -1) for made in (first, second))
        assert torch.equal(masks[:, order], of_moved)
        return
    if name == "ibot":
        assert torch.equal(torch.stack(first[2])[:, order], torch.stack(second[2]))
        return
    indices = (list(tensors((made if name == "ijepa" else made[0])[1:])) for made in (first, second))
    assert all(torch.equal(one[order], two) for one, two in zip(*indices, strict=True))


@pytest.mark.parametrize(
    "name", ["dinov2", "dinov3", "ibot", "ijepa", "vjepa2", "dino", "lightly-train", "solo-learn", "hjepa-single"]
)
def test_no_adapter_waits_for_the_device(name: str) -> None:
    # Tensors on the meta device have shapes and no values: reading one, which on a GPU is a wait, raises.
    crops = preset({"ijepa": "ijepa", "vjepa2": "vjepa-image", "hjepa-single": "ijepa"}.get(name, "dinov2"))
    indices = np.arange(B)
    drawn = draw(crops, 0, 0, indices, np.full((B, 2), 300, dtype=np.int32))
    shapes = {
        group[0].name: (sum(view.count for view in group), B, 3, group[0].size, group[0].size) for group in crops.groups()
    }
    batch = Batch(
        crops={view_name: torch.empty(shape, device="meta") for view_name, shape in shapes.items()},
        labels=torch.empty(B, dtype=torch.int64, device="meta"),
        indices=torch.from_numpy(indices),
        keys=tuple(str(index) for index in indices),
        draws=drawn,
        step_key=chance.key(0, 0, 0),
    )
    assert open_adapter(name, crops)(batch) is not None


@pytest.mark.parametrize("name", ["ijepa", "vjepa2"])
def test_blocks_are_as_large_on_every_rank_and_follow_the_step(name: str, photographs: Path) -> None:
    block = TubeMasks(num_blocks=1, spatial_scale=(0.1, 0.7))
    recipe, adapter = ("ijepa", IJepa()) if name == "ijepa" else ("vjepa-image", VJepa2(masks=(block,)))

    def sizes(rank: int, after: int = 0) -> list[int]:
        """Patches of a block in every step of an epoch, or of what is left of it after some were seen."""
        options: dict[str, Any] = {"batch_size": 2, "backend": "torchvision", "device": "cpu", "num_workers": 0}
        with Loader(photographs, recipe, adapter=adapter, rank=rank, world_size=2, **options) as loader:
            if after:
                _seen = [batch for _, batch in zip(range(after), loader, strict=False)]
                loader.load_state_dict(loader.state_dict())
            return [(batch[2] if name == "ijepa" else batch[0][2])[0].shape[1] for batch in loader]

    whole = sizes(0)
    assert len(set(whole)) > 3
    assert sizes(1) == whole
    assert sizes(1, after=3) == whole[3:]


def test_batch_splits_its_crops_and_has_boxes_and_flips_in_view_major_order(multicrop: Batch) -> None:
    global_crops, local_crops = multicrop.split_crops()
    assert_views(global_crops + local_crops, multicrop)
    assert multicrop.boxes["local"].shape == (3, B, 4)
    assert multicrop.flips["global"].shape == (2, B)
    drawn = multicrop.draws.views["local"].box
    assert multicrop.boxes["local"].data_ptr() == drawn.ctypes.data
    assert multicrop.boxes["local"][2, 4].tolist() == drawn[4, 2].tolist()


def test_a_batch_goes_to_a_device_and_to_no_dtype(multicrop: Batch) -> None:
    assert multicrop.to("cpu").globals.data_ptr() == multicrop.globals.data_ptr()
    with pytest.raises(ValueError, match=r"torch\.float16 is a dtype; give it to the Loader"):
        multicrop.to(torch.float16)  # type: ignore[arg-type]  # the mistake


def test_batch_without_locals_splits_into_an_empty_list(single: Batch) -> None:
    assert [len(crops) for crops in single.split_crops()] == [1, 0]


def test_dinov3_gets_gram_crops_where_the_recipe_has_them(plain: Path) -> None:
    gram = replace(view("gram", 2, 84), same_box_as="global")
    batch = batches(plain, recipe(*MULTICROP.views, gram))[0]
    made: Any = open_adapter(DinoV3(patch_size=7), recipe(*MULTICROP.views, gram))(batch)
    assert list(made)[-1] == "collated_gram_teacher_crops"
    assert made["collated_gram_teacher_crops"].shape == (2 * B, 3, 84, 84)
    assert made["collated_gram_teacher_crops"].dtype == torch.bfloat16
    assert levels(made["collated_gram_teacher_crops"]) == image_levels(batch) * 2
    with pytest.raises(ValueError, match="same_box_as='global'"):
        open_adapter(DinoV3(patch_size=7), recipe(*MULTICROP.views, view("gram", 2, 84)))


@pytest.mark.parametrize(
    ("name", "recipe_name"),
    [
        ("dino", "dino"),
        ("dino-loader", "dino"),
        ("dinov2", "dinov2"),
        ("dinov3", "dinov3"),
        ("dinov3", "dinov3-gram"),
        ("document-c", "dino"),
        ("ffcv", "simclr"),
        ("hjepa", "hjepa"),
        ("hjepa-single", "ijepa"),
        ("ibot", "ibot"),
        ("ijepa", "ijepa"),
        ("lightly", "dino"),
        ("lightly-train", "dinov2"),
        ("plain", "eval"),
        ("solo-learn", "byol"),
        ("stable-pretraining", "dino"),
        ("stable-pretraining-jepa", "ijepa"),
        ("swav", "swav"),
        ("timm", "ijepa"),
        ("vjepa2", "vjepa-image"),
    ],
)
def test_every_name_takes_its_trainers_preset(name: str, recipe_name: str) -> None:
    assert open_adapter(name, preset(recipe_name)) is ADAPTERS[name]


@pytest.mark.parametrize(
    ("adapter", "crops", "message"),
    [
        ("dino2", MULTICROP, r"adapter='dino2' is unknown; did you mean dinov2\?"),
        ("I-JEPA", SINGLE, "unknown; did you mean ijepa"),
        ("dinov2", SINGLE, r"DINOv2 reads 2 'global' and 1 or more 'local' crops, recipe 'test' makes 1 'global'"),
        ("dinov2", recipe(view("global", 2, 64), view("local", 3, 30)), r"'local' crops of 30 px into patches of 16.*16 or 32"),
        ("dinov3", MULTICROP, r"DINOv3 cuts 'global' crops of 56 px into patches of 16"),
        ("ibot", recipe(view("near", 2, 64)), "iBOT reads 1 or more 'global' crops, recipe 'test' makes 2 'near'"),
        ("ibot", recipe(view("local", 3, 32), view("global", 2, 64)), "iBOT reads the 'global' crops first"),
        ("ibot", SINGLE, "iBOT cuts 'global' crops of 56 px into patches of 16"),
        ("ijepa", MULTICROP, "I-JEPA reads 1 'global' crops"),
        ("vjepa2", MULTICROP, "V-JEPA 2 reads 1 'global' crops"),
        ("timm", MULTICROP, "one crop per image.*makes 5"),
        ("document-c", recipe(view("near", 1, 56)), "document C's dict reads"),
        ("hjepa", MULTICROP, "this mask generator reads 2 'global' and 6 'local' crops"),
        ("hjepa-single", SINGLE, "for 'global' crops of 224 px, not 56"),
        ("dino-loader", recipe(view("near", 1, 56)), "dino_loader reads"),
        *(
            (name, recipe(view("near", 1, 8), view("global", 1, 56)), "first")
            for name in ("dino", "swav", "lightly", "solo-learn")
        ),
        *(
            (name, recipe(view("near", 1, 8), view("global", 1, 56)), "first")
            for name in ("lightly-train", "stable-pretraining")
        ),
        (
            IJepa(patch_size=8, pred_mask_scale=(0.9, 0.9)),
            SINGLE,
            "of 49 patches leaves the context no more than min_keep=10 of 7x7",
        ),
        (IJepa(patch_size=8), SINGLE, r"on 7x7 patches may have 6, and min_keep=10 asks for more; use min_keep=5"),
        (IJepa(patch_size=0), SINGLE, "patch_size=0"),
        (DinoV2(patch_size=14.0), MULTICROP, r"patch_size=14\.0 is no whole number"),
        (IJepa, SINGLE, r"adapter=IJepa is a class; use IJepa\(\)"),
        (14, SINGLE, "adapter=14 is none; use a name"),
        (
            VJepa2(patch_size=4, masks=(TubeMasks(num_blocks=1, spatial_scale=(0.5, 1.0), aspect_ratio=(1, 1)),)),
            SINGLE,
            "no context",
        ),
        (
            VJepa2(
                patch_size=4,
                masks=(
                    TubeMasks(
                        num_blocks=1,
                        spatial_scale=(1.0, 1.0),
                        aspect_ratio=(1, 1),
                        temporal_scale=(0.5, 0.5),
                        max_context_frames_ratio=0.5,
                    ),
                ),
            ),
            SINGLE,
            "all 14x14 patches of the 4 tubelets that the context lies in",
        ),
    ],
)
def test_what_does_not_fit_is_refused(adapter: Any, crops: Recipe, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_adapter(adapter, crops)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (DinoV2, {"mask_probability": 0.0}, "mask_probability=0.0"),
        (DinoV2, {"mask_probability": "0.5"}, "mask_probability='0.5'"),
        (IBot, {"pred_ratio": ("0", "0.3")}, "pred_ratio='0' with pred_ratio_var=0.0 is no pair of numbers"),
        (DinoV3, {"mask_ratio": (0.5, 0.1)}, "mask_ratio"),
        (DinoV2, {"mask_ratio": 0.3}, r"mask_ratio is a pair \(low, high\), got 0\.3"),
        (DinoV2, {"mask_ratio": ("0.1", "0.5")}, r"a pair \(low, high\), got \('0\.1', '0\.5'\)"),
        (DinoV2, {"dtype": "fp16"}, "dtype='fp16' is no torch.dtype"),
        (IBot, {"pred_ratio": (0.3,)}, "are not rows of one length"),
        (IBot, {"pred_ratio": 0.3, "pred_ratio_var": 0.0}, "are not rows of one length"),
        (IBot, {"pred_ratio": (), "pred_ratio_var": ()}, "are not rows of one length"),
        (IBot, {"pred_ratio": (0.0, 0.1)}, "pred_ratio=0.1 with pred_ratio_var=0.2 leaves the shares from 0 to 1"),
        (IJepa, {"num_pred_masks": 0}, "num_pred_masks=0"),
        (IJepa, {"min_keep": -1}, "min_keep=-1"),
        (IJepa, {"pred_mask_scale": (0.0, 0.2)}, "pred_mask_scale"),
        (IJepa, {"enc_mask_scale": (0.5, 1.2)}, "enc_mask_scale"),
        (IJepa, {"aspect_ratio": (2, 1)}, "aspect_ratio"),
        (IJepa, {"pred_mask_scale": (0.2,)}, r"pred_mask_scale is a pair \(low, high\), got \(0\.2,\)"),
        (IJepa, {"num_pred_masks": 4.0}, r"num_pred_masks=4\.0 is no whole number"),
        (IJepa, {"min_keep": 10.5}, r"min_keep=10\.5 is no whole number"),
        (TubeMasks, {"num_blocks": 8.0, "spatial_scale": (0.1, 0.1)}, r"num_blocks=8\.0 is no whole number"),
        (VJepa2, {"num_frames": 3}, "num_frames=3 does not divide into tubelets of 2"),
        (VJepa2, {"num_frames": 16.0}, r"num_frames=16\.0 is no whole number"),
        (VJepa2, {"tubelet_size": 0}, "tubelet_size=0 is no whole number"),
        (VJepa2, {"masks": ()}, "needs masks"),
        (VJepa2, {"masks": TubeMasks(num_blocks=8, spatial_scale=(0.15, 0.15))}, "give a tuple of one TubeMasks or more"),
        (TubeMasks, {"num_blocks": 0, "spatial_scale": (0.1, 0.1)}, "num_blocks=0"),
        (TubeMasks, {"num_blocks": 1, "spatial_scale": (0.1, 1.1)}, "spatial_scale"),
        (
            TubeMasks,
            {"num_blocks": 1, "spatial_scale": (0.1, 0.1), "max_context_frames_ratio": 0.0},
            "max_context_frames_ratio=0.0 is no share",
        ),
        (
            TubeMasks,
            {"num_blocks": 1, "spatial_scale": (0.1, 0.1), "max_context_frames_ratio": "1"},
            "max_context_frames_ratio='1' is no share",
        ),
        (StablePretraining, {"layout": "rows"}, "layout='rows'"),
    ],
)
def test_settings_without_a_meaning_are_refused(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)
