"""The native pass gives the bits of the torch texts in thousands of random settings, and it is what runs on a CPU."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from hjepa.kernels import (
    block_masks,
    blockwise_masks,
    chance,
    exact_blocks,
    mask_indices,
    native_masks,
    nested_blocks,
    shared_blocks,
    weighted_blocks,
)
from hjepa.kernels.block_masks import BlockLaw
from hjepa.kernels.rectangles import masks_of

pytestmark = pytest.mark.skipif(native_masks.module() is None, reason="the native kernels were not built")
SETTINGS = 1024
"""In one call: each row has a law of its own."""
SIZES = [((14, 14), 4, 4), ((6, 6), 4, 1), ((24, 24), 3, 10), ((1, 17), 2, 1), ((33, 7), 1, 5), ((14, 14), 20, 3)]
SIZES += [((9, 16), 5, 2), ((4, 4), 4, 1), ((64, 64), 32, 100), ((7, 1), 3, 2), ((16, 12), 6, 30)]


def random_law(numbers: np.random.Generator, grid: tuple[int, int], targets: int, min_keep: int) -> BlockLaw:
    most = (grid[0] * grid[1] - min_keep) / (grid[0] * grid[1]) / targets
    low, context, aspect = numbers.uniform(0.0005, most - 1e-4), numbers.uniform(0.01, 1), numbers.uniform(0.3, 2)
    return BlockLaw(
        target_scale=(low, numbers.uniform(low, 1)),
        context_scale=(context, numbers.uniform(context, 1)),
        aspect_ratio=(aspect, numbers.uniform(aspect, 4)),
        fallback=(int(numbers.integers(1, grid[0] + 1)), int(numbers.integers(1, grid[1] + 1))),
    )


def random_laws(grid: tuple[int, int], targets: int, min_keep: int) -> list[BlockLaw]:
    numbers = np.random.default_rng(targets)
    return [random_law(numbers, grid, targets, min_keep) for _ in range(SETTINGS)]


def patches_are_few(grid: tuple[int, int]) -> bool:
    """So that arrangements can hardly differ in weight."""
    return grid[0] * grid[1] < 8


def keys_of(seed: int, count: int) -> Tensor:
    return chance.key_tensor(chance.key(seed, np.arange(count)))


@pytest.mark.parametrize(("grid", "targets", "min_keep"), SIZES, ids=str)
def test_block_masks_are_those_of_the_torch_texts(grid: tuple[int, int], targets: int, min_keep: int) -> None:
    laws, keys = random_laws(grid, targets, min_keep), keys_of(1, SETTINGS).view(-1, 1)
    exact, reference = exact_blocks.exact_law_tensor(laws, grid, targets, min_keep), block_masks.law_tensor(laws)
    wanted = masks_of(exact_blocks.draw_exact(keys, exact, grid, num_targets=targets, min_keep=min_keep), grid)
    found = exact_blocks.exact_masks(keys, exact, grid, num_targets=targets, min_keep=min_keep)
    assert all(map(torch.equal, wanted, found))
    wanted = masks_of(block_masks.draw_blocks(keys, reference, grid, num_targets=targets, max_attempts=3), grid)
    found = block_masks.block_masks(keys, reference, grid, num_targets=targets, max_attempts=3)
    assert all(map(torch.equal, wanted, found))
    keys, exact = keys.view(-1, 4, 8), exact[:4]
    wanted = masks_of(nested_blocks.draw_nested(keys, exact, grid, num_targets=targets, min_keep=min_keep), grid)
    found = nested_blocks.nested_masks(keys, exact, grid, num_targets=targets, min_keep=min_keep)
    assert all(map(torch.equal, wanted, found))


@pytest.mark.parametrize(("grid", "targets", "min_keep"), SIZES, ids=str)
@pytest.mark.parametrize("crops", [1, 2])
def test_weighted_keys_are_those_of_the_torch_text(grid: tuple[int, int], targets: int, min_keep: int, crops: int) -> None:
    laws, keys = random_laws(grid, targets, min_keep)[:100], keys_of(2, 400).view(2, 100, 2)
    exact, reference = exact_blocks.exact_law_tensor(laws, grid, targets, min_keep), block_masks.law_tensor(laws)
    weights = torch.rand(crops, 2, grid[0] * grid[1], generator=torch.Generator().manual_seed(0)) ** 5
    sums = weighted_blocks.weight_sums(weights, grid)
    draw = partial(exact_blocks.draw_exact, laws=exact, grid=grid, num_targets=targets, min_keep=min_keep)
    found = weighted_blocks.weighted_exact(keys, exact, sums, grid, num_targets=targets, min_keep=min_keep, arrangements=7)
    assert torch.equal(found, weighted_blocks.choose_keys(keys, sums, grid, draw, 7))
    draw = partial(block_masks.draw_blocks, laws=reference, grid=grid, num_targets=targets, max_attempts=3)
    found = weighted_blocks.weighted_reference(keys, reference, sums, grid, num_targets=targets, max_attempts=3, arrangements=7)
    assert torch.equal(found, weighted_blocks.choose_keys(keys, sums, grid, draw, 7))
    assert (found != keys).any() or patches_are_few(grid)


def test_there_may_be_any_number_of_arrangements() -> None:
    laws, keys = block_masks.law_tensor(random_laws((6, 6), 2, 1)[:1]), keys_of(5, 200).view(1, 1, 200)
    sums = weighted_blocks.weight_sums(torch.rand(1, 200, 36, generator=torch.Generator().manual_seed(0)), (6, 6))
    draw = partial(block_masks.draw_blocks, laws=laws, grid=(6, 6), num_targets=2, max_attempts=3)
    found = weighted_blocks.weighted_reference(keys, laws, sums, (6, 6), num_targets=2, max_attempts=3, arrangements=300)
    assert torch.equal(found, weighted_blocks.choose_keys(keys, sums, (6, 6), draw, 300))


@pytest.mark.parametrize("grid", [(1, 1), (14, 14), (16, 7), (64, 64), (5, 1)], ids=str)
@pytest.mark.parametrize("min_aspect", [0.1, 0.3, 1.0])
def test_blockwise_masks_are_those_of_the_torch_text(grid: tuple[int, int], min_aspect: float) -> None:
    patches = grid[0] * grid[1]
    counts = torch.arange(300) % (patches + 1)
    law = {"min_patches": 4, "most": patches // 2, "rounds": 14}
    found = blockwise_masks.blockwise_masks(keys_of(3, 300), counts, grid, min_aspect=min_aspect)
    assert torch.equal(found.sum(-1), counts)
    rounds = 2 * int(np.ceil(np.log2(patches + 1)))
    wanted = blockwise_masks.reference_masks(
        keys_of(3, 300), counts, grid, **law | {"rounds": rounds}, log_aspect=float(np.log(min_aspect))
    )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("grid", [(1, 1), (14, 14), (16, 7), (33, 40), (5, 1)], ids=str)
def test_shared_blocks_and_tubes_are_those_of_the_torch_texts(grid: tuple[int, int]) -> None:
    numbers, keys = np.random.default_rng(0), keys_of(5, 50)
    for _ in range(12):
        tall, wide, high, long = (1 + int(numbers.random() * side) for side in grid * 2)
        blocks = {"num_targets": int(numbers.integers(1, 6)), "min_outside": int(numbers.integers(0, grid[0] * grid[1] + 1))}
        wanted = shared_blocks.block_reference(keys, (tall, wide), (high, long), grid, **blocks)
        found = shared_blocks.block_masks(keys, (tall, wide), (high, long), grid, **blocks)
        assert all(map(torch.equal, wanted, found))
        frames = int(numbers.integers(1, 7))
        tube = (1 + int(numbers.random() * frames), tall, wide)
        for seen in range(1, frames + 1):
            wanted = shared_blocks.tube_reference(keys, tube, (frames, *grid), 3, seen)
            assert all(map(torch.equal, wanted, shared_blocks.tube_masks(keys, tube, (frames, *grid), 3, seen)))


@pytest.mark.parametrize("patches", [1, 7, 196, 4096])
def test_indices_are_those_of_the_torch_text(patches: int) -> None:
    numbers = np.random.default_rng(patches)
    for length in (0, 1, patches // 2, patches, patches + 5):
        mask = torch.from_numpy(numbers.random((5, 30, patches)) < numbers.random((5, 30, 1)))
        union = torch.from_numpy(numbers.random((5, 30, patches)) < numbers.random((5, 30, 1)))
        keys = keys_of(6, 30).expand(5, 30)
        wanted = mask_indices.mask_reference(mask, length, keys)
        assert all(map(torch.equal, wanted, mask_indices.mask_indices(mask, length, keys[:1])))
        least = int(numbers.integers(0, min(length, patches) + 1))
        wanted = mask_indices.context_reference(mask & ~union, union, length, least, keys)
        assert all(map(torch.equal, wanted, mask_indices.context_indices(mask & ~union, union, length, least, keys)))


def test_more_targets_than_the_native_pass_has_room_for_are_made_by_torch() -> None:
    law = BlockLaw(target_scale=(0.001, 0.01), context_scale=(1, 1), aspect_ratio=(0.5, 2), fallback=(1, 1))
    laws = exact_blocks.exact_law_tensor([law], (14, 14), 40, 1)
    assert not native_masks.has_native(keys_of(4, 3), 40)
    assert exact_blocks.exact_masks(keys_of(4, 3)[None], laws, (14, 14), num_targets=40, min_keep=1)[1].sum(-2).amax() == 1
    assert native_masks.has_native(keys_of(4, 3), 32)


def test_what_would_be_read_as_something_else_or_beyond_its_end_is_refused() -> None:
    laws, keys, grid = block_masks.law_tensor(random_laws((6, 6), 2, 1)[:1]), keys_of(7, 4).view(1, 4), (6, 6)
    reference = partial(block_masks.block_masks, grid=grid, num_targets=2, max_attempts=3)
    reference(keys, laws)
    for wrong_keys, wrong_laws in ((keys.int(), laws), (keys, laws.double()), (keys.view(2, 2), laws), (keys, laws[:, :7])):
        with pytest.raises(AssertionError):
            reference(wrong_keys, wrong_laws)
    weighted = partial(weighted_blocks.weighted_reference, grid=grid, num_targets=2, max_attempts=3)
    for samples, dtype in ((3, torch.int64), (4, torch.int32)):
        with pytest.raises(AssertionError):
            weighted(keys.unsqueeze(0), laws, torch.ones(1, samples, 49, dtype=dtype))
    counts = torch.ones(4, dtype=torch.int64)
    for rows, sizes in ((keys[0], counts[:3]), (keys[0], counts.int()), (keys[0].int(), counts)):
        with pytest.raises(AssertionError):
            blockwise_masks.blockwise_masks(rows, sizes, grid)
    mask = torch.ones(4, 36, dtype=torch.bool)
    for union, order in ((mask[:3], keys[0]), (mask, keys[0].int())):
        with pytest.raises(AssertionError):
            mask_indices.context_indices(mask, union, 5, 1, order)
