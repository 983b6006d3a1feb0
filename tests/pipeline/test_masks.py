"""The documents' generators: structures, laws of the levels, one seed = one stream, and refused settings."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hjepa.kernels import chance
from hjepa.pipeline.masks import HierarchicalMaskGenerator, MultiBlockMaskGenerator, hierarchy_laws
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator

GENERATORS: dict[str, Callable[..., Any]] = {
    "multi-block": MultiBlockMaskGenerator,
    "hierarchical": HierarchicalMaskGenerator,
    "multi-crop": MultiCropMaskGenerator,
    "cross-crop": lambda **settings: MultiCropMaskGenerator(masking_strategy="cross_crop_prediction", **settings),
}


def leaves(masks: Any) -> list[Tensor]:
    """All tensors of a returned structure, in order."""
    if isinstance(masks, Tensor):
        return [masks]
    if isinstance(masks, dict):
        return [leaf for part in masks.values() for leaf in leaves(part)]
    if isinstance(masks, tuple):
        return [leaf for part in masks for leaf in leaves(part)]
    return []


def shapes(masks: Any) -> Any:
    if isinstance(masks, dict):
        return {name: shapes(part) for name, part in masks.items()}
    return tuple(masks.shape) if isinstance(masks, Tensor) else masks


def levels(batch: int, patches: int, count: int = 3) -> dict[str, Any]:
    return {f"level_{n}": {"context": (batch, patches), "targets": (batch, 4, patches)} for n in range(count)}


def sample_keys(count: int) -> Tensor:
    return chance.key_tensor(chance.key(9, 4, np.arange(count)))


def test_multi_block_gives_context_and_targets() -> None:
    context, targets = MultiBlockMaskGenerator()(5)
    assert (context.shape, targets.shape) == ((5, 196), (5, 4, 196))
    assert context.dtype == targets.dtype == torch.bool


def test_hierarchical_gives_a_dict_of_levels() -> None:
    assert shapes(HierarchicalMaskGenerator()(5)) == levels(5, 196)
    # Four levels need smaller blocks: at the coarsest, eight times the base scale must fit four times.
    four = HierarchicalMaskGenerator(384, num_hierarchies=4, base_scale=(0.02, 0.1))(2)
    assert shapes(four) == levels(2, 576, 4)


def test_input_may_be_oblong_and_left_over_pixels_are_ignored() -> None:
    context, targets = MultiBlockMaskGenerator((100, 239), 16)(3)
    assert context.shape == (3, 6 * 14)
    assert targets.shape == (3, 4, 6 * 14)


@pytest.mark.parametrize("strategy", ["global_only", "global_with_local_context", "cross_crop_prediction"])
def test_multi_crop_gives_the_structure_of_its_strategy(strategy: Any) -> None:
    masks = MultiCropMaskGenerator(masking_strategy=strategy)(4)
    unmasked = {"level_0": {"context": (4, 36), "targets": (4, 4, 36)}}
    local_masks = {
        "global_only": None,
        "global_with_local_context": {f"crop_{n}": {"context": (4, 36), "targets": None} for n in range(6)},
        "cross_crop_prediction": {f"crop_{n}": levels(4, 36) if n < 3 else unmasked for n in range(6)},
    }
    assert shapes(masks) == {
        "strategy": strategy,
        "num_global_crops": 2,
        "num_local_crops": 6,
        "global_masks": {"crop_0": levels(4, 196), "crop_1": levels(4, 196)},
        "local_masks": local_masks[strategy],
    }
    assert all(leaf.dtype == torch.bool for leaf in leaves(masks))


def test_local_crops_that_are_not_masked_are_context_as_a_whole() -> None:
    visible = MultiCropMaskGenerator(masking_strategy="global_with_local_context")(3)["local_masks"]
    assert all(leaf.all() for leaf in leaves(visible))
    masks: Any = MultiCropMaskGenerator(masking_strategy="cross_crop_prediction")(3)["local_masks"]
    for crop in range(6):
        level = masks[f"crop_{crop}"]["level_0"]
        assert bool(level["context"].all()) == (crop >= 3)
        assert bool(level["targets"].any()) == (crop < 3)


def test_crop_info_counts_patches_and_crops() -> None:
    assert MultiCropMaskGenerator().get_crop_info() == {
        "global_crop_size": 224,
        "local_crop_size": 96,
        "global_num_patches": 196,
        "local_num_patches": 36,
        "num_global_crops": 2,
        "num_local_crops": 6,
        "total_crops": 8,
    }


@pytest.mark.parametrize("law", ["exact", "reference"])
@pytest.mark.parametrize("num_targets", [4, 40])  # more than the native pass draws
def test_the_defaults_of_torch_change_nothing(law: Any, num_targets: int) -> None:
    def draw() -> list[Tensor]:
        generator = HierarchicalMaskGenerator(base_scale=(0.002, 0.02), num_target_masks=num_targets, law=law)
        return leaves(generator(5))

    wanted = draw()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")  # as "cuda", which would be another memory than the native pass writes to
        found = draw()
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, wanted, found))


@pytest.mark.parametrize("name", GENERATORS)
def test_context_and_targets_are_disjoint_everywhere(name: str) -> None:
    tensors = leaves(GENERATORS[name]()(50))
    for context, targets in zip(tensors[::2], tensors[1::2], strict=True):
        assert not (context & targets.any(1)).any()


@pytest.mark.parametrize("name", GENERATORS)
def test_a_seed_is_one_stream_whatever_the_batch_size(name: str) -> None:
    whole = leaves(GENERATORS[name](seed=3)(64))
    in_parts = GENERATORS[name](seed=3)
    parts = [leaves(in_parts(8)) for _ in range(8)]
    for one, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(one, torch.cat(pieces))
    other = leaves(GENERATORS[name](seed=4)(64))
    assert not torch.equal(whole[0], other[0])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_restored_stream_goes_on_where_it_stood(name: str) -> None:
    first = GENERATORS[name](seed=3)
    first(5)
    state = first.state_dict()
    second = GENERATORS[name](seed=3)
    second.load_state_dict(state)
    for one, two in zip(leaves(first(7)), leaves(second(7)), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(ValueError, match="seed=3, this one seed=5"):
        GENERATORS[name](seed=5).load_state_dict(state)
    with pytest.raises(ValueError, match=r"the state lacks position, seed; give what state_dict\(\) returned"):
        second.load_state_dict({})
    assert json.dumps(GENERATORS[name](seed=np.int64(3)).state_dict()) == '{"seed": 3, "position": 0}'


@pytest.mark.parametrize("name", GENERATORS)
def test_an_empty_batch_has_empty_masks_and_moves_nothing(name: str) -> None:
    generator = GENERATORS[name](seed=1)
    empty = leaves(generator(0))
    assert {leaf.shape[0] for leaf in empty} == {0}
    for one, two in zip(leaves(generator(4)), leaves(GENERATORS[name](seed=1)(4)), strict=True):
        assert torch.equal(one, two)


def test_keyed_samples_do_not_depend_on_their_batch_or_on_the_stream() -> None:
    generator = MultiCropMaskGenerator(num_hierarchies=2)
    keys = sample_keys(20)
    masks = generator.sample(keys)
    assert masks.context.shape == (2, 2, 20, 196)
    assert masks.targets.shape == (2, 2, 20, 4, 196)
    generator(3)
    again = generator.sample(keys[5:8])
    assert torch.equal(masks.context[:, :, 5:8], again.context)
    assert torch.equal(masks.targets[:, :, 5:8], again.targets)
    crossed = MultiCropMaskGenerator(num_hierarchies=2, masking_strategy="cross_crop_prediction")
    assert crossed.sample_local(keys).targets.shape == (3, 2, 20, 4, 36)
    with pytest.raises(ValueError, match="global_only masks no local crop"):
        generator.sample_local(keys)


def test_a_crop_and_a_level_have_the_same_masks_however_many_there_are() -> None:
    keys = sample_keys(20)
    many = MultiCropMaskGenerator(num_global_crops=4).sample(keys)
    few = MultiCropMaskGenerator(num_global_crops=1).sample(keys)
    assert torch.equal(many.targets[:1], few.targets)
    assert torch.equal(HierarchicalMaskGenerator().sample(keys).targets, few.targets)


def test_crops_and_levels_differ() -> None:
    # A narrow scale and few levels give all levels nearly one law; crops of one size always have one law.
    masks = MultiCropMaskGenerator(global_crop_size=96, masking_strategy="cross_crop_prediction", num_global_crops=3)
    keys = sample_keys(50)
    crops = torch.cat([masks.sample(keys).targets, masks.sample_local(keys).targets]).flatten(0, 1)
    assert len({crop.numpy().tobytes() for crop in crops}) == 6 * 3


def test_masks_are_drawn_without_looking_at_a_value() -> None:
    keys = torch.empty(8, dtype=torch.int64, device="meta")
    assert MultiCropMaskGenerator().sample(keys).targets.shape == (2, 3, 8, 4, 196)
    assert leaves(HierarchicalMaskGenerator()(8, "meta"))[0].device.type == "meta"


def test_levels_grow_as_the_document_says() -> None:
    geometric = hierarchy_laws((14, 14), 3, "geometric", (0.05, 0.15), (0.75, 1.5))
    assert [law.target_scale for law in geometric] == [pytest.approx(s) for s in [(0.05, 0.15), (0.1, 0.3), (0.2, 0.6)]]
    assert [law.context_scale for law in geometric] == [pytest.approx(s) for s in [(0.6, 0.75), (0.75, 0.9), (0.9, 1.0)]]
    assert [law.aspect_ratio for law in geometric] == [(0.85, 1.15), (0.75, 1.5), (0.75, 1.5)]
    assert [law.fallback for law in geometric] == [(7, 7), (4, 4), (3, 3)]
    linear = hierarchy_laws((14, 14), 3, "linear", (0.05, 0.15), (0.75, 1.5))
    assert linear[2].target_scale == pytest.approx((0.15, 0.45))
    assert hierarchy_laws((1, 1), 1, "linear", (0.05, 0.15), (2, 3))[0].aspect_ratio == (2, 2)
    single = hierarchy_laws((14, 14), 1, "geometric", (0.05, 0.15), (0.75, 1.5))[0]
    assert single.context_scale == pytest.approx((0.6, 0.75))
    assert hierarchy_laws((6, 6), 5, "geometric", (0.5, 0.9), (0.75, 1.5))[4].target_scale == (0.95, 0.95)


def test_generators_report_statistics_of_what_they_drew() -> None:
    multi_block = MultiBlockMaskGenerator(law="reference")
    statistics = multi_block.get_mask_statistics(*multi_block(1000))
    assert statistics["context_coverage_mean"] == pytest.approx(0.4225, abs=0.015)
    assert statistics["overlap_max"] == 0
    hierarchical = HierarchicalMaskGenerator(law="reference")
    by_level = hierarchical.get_hierarchical_statistics(hierarchical(1000))
    found = [by_level[f"level_{n}"]["target_coverage_mean"] for n in range(3)]
    assert found == pytest.approx([0.0991, 0.1398, 0.1419], abs=0.01)
    alone = hierarchical.get_hierarchical_statistics(hierarchical(1))  # one sample has a deviation, 0
    assert alone["level_0"]["context_coverage_std"] == 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("multi-block", {"input_size": 15}, "15x15 is smaller than a patch of 16"),
        ("multi-block", {"input_size": (224, 8)}, "224x8 is smaller"),
        ("multi-block", {"input_size": 224.0}, r"input_size=224\.0 is no whole number"),
        ("multi-block", {"input_size": (3, 224, 224)}, r"a height and a width, got \(3, 224, 224\)"),
        ("multi-block", {"patch_size": 0}, "patch_size=0"),
        ("multi-block", {"patch_size": 16.0}, r"patch_size=16\.0 is no whole number"),
        ("multi-block", {"num_target_masks": 4.0}, r"num_target_masks=4\.0 is no whole number"),
        ("multi-block", {"min_keep": 2.5}, r"min_keep=2\.5 is no whole number"),
        ("multi-block", {"target_scale": (0.0, 0.2)}, r"target_scale=\(0.0, 0.2\)"),
        ("multi-block", {"context_scale": (0.9, 1.1)}, "context_scale"),
        ("multi-block", {"aspect_ratio_range": (1.5, 0.75)}, "aspect_ratio_range"),
        ("multi-block", {"aspect_ratio_range": (0.5, float("inf"))}, r"\(0.5, inf\) is no range; use finite numbers"),
        ("multi-block", {"input_size": 16}, r"of 1x1 patches .* use a larger grid, smaller scales"),
        ("multi-block", {"num_target_masks": 0}, "num_target_masks=0"),
        ("multi-block", {"num_target_masks": 7}, r"7 target blocks of at least 29.4 of 14x14 .* at most 6 blocks"),
        ("multi-block", {"num_target_masks": 7, "law": "reference"}, r"7 target blocks of at least 15%.* at most 6 blocks"),
        (
            "multi-block",
            {"num_target_masks": 6, "min_keep": 20},
            r"leave 20 for the context .* at most 5 blocks.* a smaller min_keep",
        ),
        ("multi-block", {"law": "fast"}, "unknown law='fast'"),
        ("multi-block", {"min_keep": 0}, "min_keep=0"),
        ("multi-block", {"max_attempts": 0}, "max_attempts=0"),
        ("hierarchical", {"base_scale": (0.3, 0.2)}, "base_scale"),
        ("hierarchical", {"base_scale": (0.15, 0.2)}, r"at least 58.8 .*level 1.* at most 3 blocks"),
        ("hierarchical", {"base_scale": (0.15, 0.2), "law": "reference"}, r"at least 30% .*level 1.* at most 3 blocks"),
        ("hierarchical", {"num_hierarchies": 0}, "num_hierarchies=0"),
        ("hierarchical", {"num_hierarchies": 3.0}, r"num_hierarchies=3\.0 is no whole number"),
        ("hierarchical", {"num_hierarchies": 4}, "level 3"),
        ("hierarchical", {"scale_progression": "cubic"}, "unknown scale_progression='cubic'"),
        ("multi-crop", {"masking_strategy": "all"}, "unknown masking_strategy='all'"),
        ("multi-crop", {"scale_progression": "cubic"}, "unknown scale_progression='cubic'"),
        ("multi-crop", {"num_global_crops": 0}, "num_global_crops=0"),
        ("multi-crop", {"num_global_crops": 1.5}, r"num_global_crops=1\.5 is no whole number"),
        ("multi-crop", {"num_local_crops": -1}, "num_local_crops=-1"),
        ("multi-crop", {"num_local_hierarchies": 0}, "num_local_hierarchies=0"),
        ("multi-crop", {"local_crop_size": 8}, "8x8 is smaller"),
    ],
)
def test_settings_without_a_meaning_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GENERATORS[name](**settings)


@pytest.mark.parametrize("name", GENERATORS)
def test_by_default_targets_never_overlap_and_the_reference_law_is_asked_for(name: str) -> None:
    for law, overlapping in (("exact", False), ("reference", True)):
        tensors = leaves(GENERATORS[name](law=law)(200))
        assert any(bool((targets.sum(1) > 1).any()) for targets in tensors[1::2]) == overlapping
    assert torch.equal(leaves(GENERATORS[name]()(9))[1], leaves(GENERATORS[name](law="exact")(9))[1])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_context_has_min_keep_patches_or_more(name: str) -> None:
    least = min(int(context.sum(-1).min()) for context in leaves(GENERATORS[name](min_keep=7)(2000))[::2])
    assert 7 <= least < (10 if name == "cross-crop" else 40)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("size", [-1, 3.0])
def test_a_batch_size_that_is_none_is_refused(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size={size} is no whole number"):
        GENERATORS[name]()(size)


def test_sizes_may_be_numpys_whole_numbers() -> None:
    of_numpy = MultiBlockMaskGenerator(np.int64(224), np.int64(16), np.int64(4))  # type: ignore[arg-type]
    assert torch.equal(of_numpy(np.int64(3))[1], MultiBlockMaskGenerator(224, 16, 4)(3)[1])  # type: ignore[arg-type]
