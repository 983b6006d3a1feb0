"""The GPU's crops have the native kernel's bits (without a GPU: in Triton's interpreter), and nothing waits for the GPU."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from hjepa.kernels import fused_plan, fused_reference
from hjepa.kernels.fused_crops import CropGroup, Decoded
from tests.kernels.test_fused_crops import (
    MEAN,
    ODD_SIZES,
    STD,
    decoded,
    every_colour,
    pictures,
    plain_group,
    random_group,
    rendered,
)
from tests.kernels.waiting import nothing_waits

pytest.importorskip("triton", reason="needs Triton, which comes with torch for Linux")
ROOT = Path(__file__).parents[2]


def test_crops_in_the_interpreter_are_those_of_the_native_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "tests/kernels/interpreted/crops.py"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "crops equal" in done.stdout


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "size"), list(product([1, 7, 97, 500, 4001], [1, 33, 96, 224])), ids=str)
def test_memory_of_a_tile_holds_every_row_it_is_made_of(height: int, size: int, interpolation: str) -> None:
    from hjepa.kernels import fused_crops_triton

    images = [np.zeros((height, 2, 3), np.uint8)]
    plan = fused_plan.make_plan(decoded(images), [plain_group(images, size, interpolation=interpolation)], MEAN, STD)
    used = fused_reference.resize_weights(size, height, interpolation) != 0
    first, end = used.argmax(axis=1), height - used[:, ::-1].argmax(axis=1)
    assert (end - first).max() <= plan.column("taps_down")[0]
    for tile_rows in (1, fused_crops_triton.RESIZE["Y"], 32):
        rows = [end[top : top + tile_rows].max() - first[top : top + tile_rows].min() for top in range(0, size, tile_rows)]
        assert max(rows) <= fused_plan.rows_of_tile(plan, tile_rows)[0] <= height
        # resample_down joins words from its first tap's group to the one behind its last tap's
        begin = first - first[np.arange(size) // tile_rows * tile_rows]
        read = begin // 4 + 1 + -(-plan.column("taps_down")[0] // 4)
        assert max(read.max(), -(-max(rows) // 4)) <= fused_plan.groups_of_tile(plan, tile_rows)


@pytest.mark.parametrize(("size", "interpolation"), list(product([1, 7, 96], ["bicubic", "bilinear"])), ids=str)
def test_a_filter_covers_as_many_pixels_as_are_planned_for(size: int, interpolation: str) -> None:
    heights = [*range(1, 3 * size + 9), 4 * size - 1, 4 * size, 4 * size + 1]
    images = [np.zeros((height, 1, 3), np.uint8) for height in heights]
    plan = fused_plan.make_plan(decoded(images), [plain_group(images, size, interpolation=interpolation)], MEAN, STD)
    for height, planned in zip(heights, plan.column("taps_down"), strict=True):
        used = fused_reference.resize_weights(size, height, interpolation) != 0
        assert (height - used[:, ::-1].argmax(axis=1) - used.argmax(axis=1)).max() <= planned


@pytest.mark.parametrize("ulps", range(-4, 5))
def test_an_approximate_reciprocal_leaves_hue_and_saturation_as_they_are(ulps: int) -> None:
    """What fused_colour_triton.turn_hue multiplies by, on a GPU: a division that is wrong by 2 units in the last place."""
    slack = np.float32(1 / 1024)
    for value in range(1, 256):
        chroma = np.repeat(np.arange(1, value + 1), 6 * np.arange(1, value + 1))
        sixths = np.concatenate([np.arange(6 * each) for each in range(1, value + 1)])
        product = chroma.astype(np.float32) * np.float32(value)
        inverse = ((np.float32(1) / product).view(np.int32) + ulps).view(np.float32)
        angle = np.float32(42.5) * sixths.astype(np.float32) * (inverse * np.float32(value)) + slack
        saturation = np.float32(255) * chroma.astype(np.float32) * (inverse * chroma.astype(np.float32)) + slack
        assert np.array_equal(angle.astype(np.int64), 255 * sixths // (6 * chroma))
        assert np.array_equal(saturation.astype(np.int64), 255 * chroma // value)


@pytest.mark.parametrize("radius", [1, 2, 4, 11, 40])
@pytest.mark.parametrize("size", [1, 2, 4, 33, 96, 97, 224])
def test_memory_of_a_band_holds_every_column_that_is_read(size: int, radius: int) -> None:
    images = pictures([(30, 40)])
    group = plain_group(images, size, sigma=np.full((1, 1), 30, np.float32), blur_window=2 * radius + 1)
    plan = fused_plan.make_plan(decoded(images), [group], MEAN, STD)
    assert plan.column("radius")[0] == radius
    written = np.arange(-(-size // 32) * 32)
    groups = min((2 * radius + 7) // 4, (size + 3) // 4)  # as fused_blur_triton.groups_of and first_group
    read = 4 * (np.maximum(written - radius, 0) // 4 + groups)
    assert max(read.max(), written[-1] + 1) <= fused_plan.columns_of_band(plan, 32)
    assert fused_plan.columns_of_band(plan, 32) % 32 == 0
    assert (np.minimum(written + radius, size - 1)[:size] < read[:size]).all()


def test_pieces_of_chosen_crops_are_counted_up_to_each() -> None:
    ends = fused_plan.ends_of_pieces(np.array([True, False, True, True]), np.array([2, 5, 1, 3]))
    assert ends.tolist() == [2, 2, 3, 6]


def test_only_crops_that_wait_for_a_mean_or_a_blur_take_memory() -> None:
    images = pictures([(30, 40)])
    assert fused_plan.make_plan(decoded(images), [plain_group(images, 8)], MEAN, STD).num_levels == 0
    for name, value in {"sigma": np.ones((1, 1)), "jitter": [[[1, 0.5, 1, 0]]]}.items():
        group = plain_group(images, 8, **{name: np.array(value, dtype=np.float32)})
        assert fused_plan.make_plan(decoded(images), [group], MEAN, STD).num_levels == 3 * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": np.array([[[0, 0, 41, 30]]], np.int32)}, "box is not within its image"),
        ({"box": np.array([[[0, -1, 4, 4]]], np.int32)}, "box is not within its image"),
        ({"box": np.array([[[0, 0, 0, 4]]], np.int32)}, "box is not within its image"),
        ({"box": np.array([[[2**31 - 1, 0, 2, 2]]], np.int32)}, "box is not within its image"),
        ({"order": np.array([[[0, 1, 2, 2]]], np.uint8)}, "order must hold"),
        ({"jitter": np.array([[[1, np.nan, 1, 0]]], np.float32)}, "jitter's factors"),
        ({"jitter": np.array([[[1, 1, 1, 0.6]]], np.float32)}, "jitter's hue"),
        ({"sigma": np.full((1, 1), np.inf, np.float32)}, "sigma must be finite"),
        ({"blur_window": 4}, "blur_window=4"),
        ({"out": torch.zeros(1, 1, 3, 8, 16)[..., ::2]}, "contiguous"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_rendered_is_refused(options: dict[str, object], message: str) -> None:
    from hjepa.kernels.fused_crops_triton import render

    images = pictures([(40, 30)])
    with pytest.raises(ValueError, match=message):
        render(decoded(images), [plain_group(images, 8, **options)], MEAN, STD)


def test_an_image_whose_rows_are_too_long_is_refused() -> None:
    images = pictures([(2, 2)])
    wide = replace(decoded(images), sizes=np.array([[2, fused_plan.MAX_WIDTH + 1]], np.int32))
    with pytest.raises(ValueError, match="wider than 134217728 pixels"):
        fused_plan.make_plan(wide, [plain_group(images, 8)], MEAN, STD)


@contextmanager
def on_gpu(images: list[np.ndarray]) -> Iterator[Decoded]:
    """The images in a GPU's memory, while they are used."""
    there = [torch.from_numpy(image).cuda() for image in images]
    yield replace(decoded(images), pointers=np.array([image.data_ptr() for image in there]))
    torch.cuda.synchronize()


def there(group: CropGroup) -> CropGroup:
    return replace(group, out=torch.full_like(group.out, torch.nan, device="cuda"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_on_a_gpu_are_those_of_the_cpu(dtype: torch.dtype, interpolation: str) -> None:
    from hjepa.kernels.fused_crops_triton import render

    images = pictures([*ODD_SIZES, (3000, 2000)])
    groups = [
        random_group(images, views, size, size, interpolation=interpolation) for views, size in ((3, 224), (9, 97), (2, 1))
    ]
    groups = [replace(group, out=group.out.to(dtype)) for group in groups]
    found = [there(group) for group in groups]
    with on_gpu(images) as batch:
        render(batch, found, MEAN, STD)
    for one, other in zip(found, groups, strict=True):
        assert torch.equal(one.out.cpu(), rendered(images, other))


@pytest.mark.gpu
@pytest.mark.parametrize("jitter", [(1, 1, 1, 0.3), (1, 1, 1.37, 0), (0.7, 1.9, 1, 0)], ids=["hue", "saturation", "brightness"])
def test_every_colour_is_changed_on_a_gpu_as_on_the_cpu(jitter: tuple[float, ...]) -> None:
    from hjepa.kernels.fused_crops_triton import render

    colours, group = every_colour(jitter)
    found = there(group)
    with on_gpu([colours]) as batch:
        render(batch, [found], MEAN, STD)
    assert torch.equal(found.out.cpu(), rendered([colours], group, threads=2))


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu() -> None:
    from hjepa.kernels.fused_crops_triton import render

    images = pictures([(300, 400), (33, 57)])
    group = random_group(images, 8, 96)
    found = there(group)
    with on_gpu(images) as batch:
        render(batch, [found], MEAN, STD)
        found.out.fill_(torch.nan)
        with nothing_waits():
            render(batch, [found], MEAN, STD)
    assert torch.equal(found.out.cpu(), rendered(images, group))


@pytest.mark.gpu
def test_crops_are_made_on_the_current_stream() -> None:
    from hjepa.kernels.fused_crops_triton import render

    images = pictures([(300, 400)])
    group = random_group(images, 4, 96)
    found, stream = there(group), torch.cuda.Stream()
    with on_gpu(images) as batch:
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            render(batch, [found], MEAN, STD)  # compiles, and takes memory, for which the host may wait
            found.out.fill_(torch.nan)
            stream.synchronize()
            torch.cuda._sleep(1_000_000_000)
            render(batch, [found], MEAN, STD)
        assert not stream.query()  # it is in the queue, behind what came before it
        stream.synchronize()
    assert torch.equal(found.out.cpu(), rendered(images, group))
