"""The native kernel is its definition, level by level, and the same bits for every build, type, number of threads and batch."""

import subprocess
import sys
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.kernels import fused_reference
from hjepa.kernels.fused_crops import ARRAYS, CropGroup, Decoded, Threads, builds

pytest.importorskip("hjepa.kernels._fused_crops", reason="hjepa's native kernel was not built: there was no C++ compiler")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ORDERS = np.array(list(permutations(range(4))), dtype=np.uint8)
ODD_SIZES = [(1, 1), (1, 4000), (4000, 3), (7, 33), (2, 2), (311, 497)]
"""Heights and widths."""


def pictures(sizes: list[tuple[int, int]], seed: int = 0) -> list[np.ndarray]:
    """Ramps of every colour with noise on them: smooth parts, edges, saturated levels and grays."""
    chance = np.random.default_rng(seed)
    made = []
    for height, width in sizes:
        rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j][..., None]
        smooth = 128 + 160 * np.sin(
            chance.uniform(1, 9, 3) * rows + chance.uniform(1, 9, 3) * columns + chance.uniform(0, 6, 3)
        )
        noise = chance.normal(0, 12, (height, width, 3)) + 120 * (chance.random((height, width, 1)) < 0.02)
        made.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return made


def decoded(images: list[np.ndarray]) -> Decoded:
    return Decoded(
        pointers=np.array([image.ctypes.data for image in images]),
        sizes=np.array([image.shape[:2] for image in images], dtype=np.int32),
    )


def random_group(images: list[np.ndarray], num_views: int, size: int, seed: int = 0, **options: object) -> CropGroup:
    chance = np.random.default_rng(seed)
    shape = (len(images), num_views)
    sides = decoded(images).sizes[:, None].repeat(num_views, axis=1)
    length = np.maximum(1, (sides * chance.uniform(0.1, 1, (*shape, 2))).astype(np.int32))
    first = (chance.random((*shape, 2)) * (sides - length + 1)).astype(np.int32)
    jitter = chance.uniform([0.2, 0.2, 0.2, -0.5], [1.8, 1.8, 1.8, 0.5], (*shape, 4))
    jitter[chance.random(shape) < 0.2] = [1, 1, 1, 0]
    group = CropGroup(
        box=np.concatenate([first, length], axis=-1),
        flip=chance.random(shape) < 0.5,
        jitter=jitter.astype(np.float32),
        order=ORDERS[chance.integers(0, 24, shape)],
        gray=chance.random(shape) < 0.2,
        sigma=np.where(chance.random(shape) < 0.5, chance.uniform(0.1, 2, shape), 0).astype(np.float32),
        solarize=chance.random(shape) < 0.2,
        interpolation="bicubic",
        blur_window=9,
        solarize_threshold=128,
        out=torch.full((num_views, len(images), 3, size, size), torch.nan),
    )
    return replace(group, **options)


def plain_group(images: list[np.ndarray], size: int, **options: object) -> CropGroup:
    """One crop, of the whole image, with nothing done to it."""
    group = random_group(images, 1, size)
    whole = np.concatenate([np.zeros((len(images), 1, 2), np.int32), decoded(images).sizes[:, None]], axis=-1)
    nothing = {name: np.zeros_like(getattr(group, name)) for name in ("flip", "gray", "sigma", "solarize")}
    neutral = np.tile(np.array([1, 1, 1, 0], np.float32), (len(images), 1, 1))
    return replace(group, **({"box": whole, "jitter": neutral} | nothing | options))


def rendered(images: list[np.ndarray], group: CropGroup, threads: int = 1, build: str = "") -> torch.Tensor:
    out = torch.full_like(group.out, torch.nan)
    Threads(threads).render(decoded(images), [replace(group, out=out)], MEAN, STD, build)
    return out


def levels_of(normalized: torch.Tensor) -> np.ndarray:
    """[V, B, S, S, 3], before they were normalised."""
    levels = 255 * (normalized.double() * torch.tensor(STD).reshape(3, 1, 1) + torch.tensor(MEAN).reshape(3, 1, 1))
    return levels.movedim(2, -1).numpy()


def expected(images: list[np.ndarray], group: CropGroup) -> np.ndarray:
    views = [
        [
            fused_reference.render(
                image,
                tuple(group.box[number, view].tolist()),
                group.out.shape[-1],
                group.interpolation,
                bool(group.flip[number, view]),
                tuple(group.jitter[number, view].tolist()),
                tuple(group.order[number, view].tolist()),
                bool(group.gray[number, view]),
                float(group.sigma[number, view]),
                group.blur_window,
                group.solarize_threshold if group.solarize[number, view] else 256,
            )
            for number, image in enumerate(images)
        ]
        for view in range(group.out.shape[0])
    ]
    return np.array(views)


def assert_is_reference(images: list[np.ndarray], group: CropGroup) -> None:
    differences = np.abs(levels_of(rendered(images, group)) - expected(images, group))
    assert differences.max() < 1.001  # NaN, where nothing was written, is not
    assert differences.mean() < 0.001


@pytest.mark.parametrize("size", [1, 7, 33, 96])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_random_crops_of_odd_images_are_the_reference(size: int, interpolation: str) -> None:
    images = pictures(ODD_SIZES)
    assert_is_reference(images, random_group(images, 12, size, seed=size, interpolation=interpolation))


def test_every_order_of_the_jitter_is_the_reference() -> None:
    images = pictures([(61, 83), (40, 40)])
    group = random_group(images, 24, 33, order=np.tile(ORDERS, (2, 1, 1)))
    strong = np.tile(np.array([1.5, 1.6, 1.7, 0.3], np.float32), (2, 24, 1))
    off = {name: np.zeros_like(getattr(group, name)) for name in ("gray", "sigma", "solarize")}
    group = replace(group, jitter=strong, box=np.tile(group.box[:, :1], (1, 24, 1)), flip=np.zeros_like(group.flip), **off)
    found = rendered(images, group)
    assert np.abs(levels_of(found) - expected(images, group)).max() < 1e-3
    assert len({crop.numpy().tobytes() for crop in found[:, 0]}) == 24  # the order does matter


@pytest.mark.parametrize(("image", "size"), [((3000, 2000), 8), ((2, 2), 224), ((1, 1), 224), ((2500, 3), 5)], ids=str)
def test_extreme_scales_are_the_reference(image: tuple[int, int], size: int) -> None:
    images = pictures([image])
    assert_is_reference(images, plain_group(images, size))


@pytest.mark.parametrize(("window", "size"), list(product([1, 3, 9, 23], [1, 4, 33])), ids=str)
def test_blur_is_the_reference_where_the_window_is_wider_than_the_crop_too(window: int, size: int) -> None:
    images = pictures([(50, 70)])
    for sigma in (0.1, 0.5, 2.0, 6.0):
        group = plain_group(images, size, blur_window=window, sigma=np.full((1, 1), sigma, np.float32))
        assert_is_reference(images, group)


@pytest.mark.parametrize(("window", "sigma"), [(9, 0.1), (9, 0.5), (9, 2.0), (23, 2.0), (201, 60.0)], ids=str)
def test_blur_is_that_of_exact_weights(window: int, sigma: float) -> None:
    (image,) = pictures([(224, 224)])
    offsets = np.arange(window) - window // 2
    bell = np.exp(-0.5 * (offsets / sigma) ** 2)
    wanted = image.astype(np.float64)
    for axis in (0, 1):
        places = np.pad(np.arange(224), window // 2, mode="reflect")
        spread = np.take(wanted, places, axis=axis)
        wanted = sum(weight * np.take(spread, np.arange(224) + k, axis=axis) for k, weight in enumerate(bell / bell.sum()))
    group = plain_group([image], 224, blur_window=window, sigma=np.full((1, 1), sigma, np.float32))
    differences = np.abs(levels_of(rendered([image], group))[0, 0] - np.rint(wanted))
    assert differences.max() < 1.001
    assert differences.mean() < 0.02


@pytest.mark.parametrize("threshold", [0, 1, 128, 255, 256])
def test_levels_from_the_threshold_on_are_inverted(threshold: int) -> None:
    images = pictures([(30, 40)])
    group = plain_group(images, 30, solarize=np.ones((1, 1), bool), solarize_threshold=threshold)
    assert_is_reference(images, group)


def rows_first(image: np.ndarray, size: int, method: Image.Resampling) -> np.ndarray:
    """PIL's resize in the order of its two passes until Pillow 13, which begins with the columns of tall boxes."""
    return np.asarray(Image.fromarray(image).resize((size, len(image)), method).resize((size, size), method))


def test_resize_is_that_of_pil() -> None:
    images = pictures([(300, 400), (120, 90), (31, 57), (400, 90)])
    for size, (name, method) in product(
        (224, 32), (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR))
    ):
        found = levels_of(rendered(images, plain_group(images, size, interpolation=name)))[0]
        wanted = np.array([rows_first(image, size, method) for image in images])
        differences = np.abs(found - wanted)
        assert differences.max() < 1.001
        assert differences.mean() < 0.02


def test_hue_is_that_of_pil_for_every_level_of_saturation_and_hue() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    colours = np.resize(cube, (365, 365, 3))
    turned = fused_reference.hue(colours.astype(np.float32), np.float32(0.1))
    hue, saturation, value = Image.fromarray(colours).convert("HSV").split()
    shifted = Image.fromarray(np.asarray(hue) + np.uint8(25))
    wanted = np.asarray(Image.merge("HSV", (shifted, saturation, value)).convert("RGB")).astype(np.float64)
    assert np.abs(turned - wanted).mean() < 0.01
    jitter = np.array([1, 1, 1, 0.1], np.float32).reshape(1, 1, 4)
    found = levels_of(rendered([colours], plain_group([colours], 365, jitter=jitter)))[0, 0]
    assert np.abs(found - turned).max() < 1e-3


def every_colour(jitter: tuple[float, ...]) -> tuple[np.ndarray, CropGroup]:
    """An image of all 2^24 of them, and what changes it as a whole."""
    numbers = np.arange(1 << 24, dtype=np.uint32)
    colours = np.stack([numbers >> 16, numbers >> 8, numbers], axis=-1).astype(np.uint8).reshape(4096, 4096, 3)
    group = plain_group([colours], 4096, jitter=np.array(jitter, np.float32).reshape(1, 1, 4))
    return colours, replace(group, out=torch.empty(1, 1, 3, 4096, 4096, dtype=torch.float16))


@pytest.mark.parametrize(
    "jitter",
    [(1, 1, 1, 0.3), (1, 1, 1.37, 0), (1, 1, 0.4, 0), (1, 1, 1.5, 0), (1, 1, 1e6, 0), (0.7, 1.9, 1, 0)],
    ids=["hue", "saturation up", "saturation down", "whole products", "most saturation", "brightness and contrast"],
)
def test_every_colour_is_changed_alike_by_every_build(jitter: tuple[float, ...]) -> None:
    colours, group = every_colour(jitter)
    first = rendered([colours], group, threads=1, build="plain")
    for build in builds():
        assert torch.equal(first, rendered([colours], group, threads=1, build=build)), build


@pytest.mark.parametrize("part", [0, 1, 2], ids=["brightness", "contrast", "saturation"])
def test_every_factor_changes_levels_alike_in_every_build(part: int) -> None:
    images = pictures([(48, 48)])
    near_a_step = [0, 1e-7, 0.25, 0.99999994, 1.0000001, 1.9999999, 2, 3.9999998, 15.999999, 16, 255, 1e6]
    factors = np.concatenate([near_a_step, np.random.default_rng(0).uniform(0, 2.5, 1500)])
    jitter = np.tile(np.array([1, 1, 1, 0], np.float32), (1, len(factors), 1))
    jitter[..., part] = factors
    once = plain_group(images, 48)
    many = {name: getattr(once, name).repeat(len(factors), axis=1) for name in ARRAYS if name != "jitter"}
    group = replace(once, jitter=jitter, out=torch.empty(len(factors), 1, 3, 48, 48), **many)
    first = rendered(images, group, build="plain")
    for build in builds():
        assert torch.equal(first, rendered(images, group, build=build)), build


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("std", [STD, (1e-6, 1.0, 1e6)], ids=["usual", "extreme"])
def test_halves_are_the_floats_as_torch_rounds_them(dtype: torch.dtype, std: tuple[float, float, float]) -> None:
    images = pictures([(90, 70)])
    group = random_group(images, 6, 33)
    half = replace(group, out=torch.full_like(group.out, torch.nan, dtype=dtype))
    for each in (group, half):
        Threads(1).render(decoded(images), [each], MEAN, std)
    assert torch.equal(half.out, group.out.to(dtype))


def test_every_build_and_number_of_threads_gives_the_same_bits() -> None:
    images = pictures(ODD_SIZES)
    group = random_group(images, 8, 49)
    first = rendered(images, group, threads=1, build="plain")
    assert builds()[-1] == "plain"
    for build, threads in product(builds(), (1, 3)):
        assert torch.equal(first, rendered(images, group, threads, build))


def test_crop_depends_on_neither_its_batch_nor_its_place_in_it() -> None:
    images = pictures([(80, 60), (33, 90), (64, 64)])
    group = random_group(images, 4, 40)
    together = rendered(images, group)
    for number, image in enumerate(images):
        own = {name: np.ascontiguousarray(getattr(group, name)[number : number + 1]) for name in ARRAYS}
        alone = rendered([image], replace(group, out=group.out[:, :1].contiguous(), **own))
        assert torch.equal(alone[:, 0], together[:, number])


def test_flip_is_the_mirror_image() -> None:
    images = pictures([(77, 123)])
    straight = rendered(images, plain_group(images, 50))
    mirrored = rendered(images, plain_group(images, 50, flip=np.ones((1, 1), bool)))
    assert torch.equal(mirrored, straight.flip(-1))


def test_image_of_one_colour_keeps_it_at_every_scale() -> None:
    images = [np.full((height, width, 3), (255, 100, 1), dtype=np.uint8) for height, width in ODD_SIZES]
    for size, interpolation in product((1, 7, 33), ("bicubic", "bilinear")):
        found = levels_of(rendered(images, plain_group(images, size, interpolation=interpolation)))
        np.testing.assert_allclose(found, np.broadcast_to([255, 100, 1], found.shape), atol=1e-4)


def test_scratch_memory_is_kept_and_stays_below_64_mib_for_the_longest_box() -> None:
    threads = Threads(1)
    images = [np.zeros((1, 1 << 19, 3), dtype=np.uint8), np.zeros((9, 9, 3), dtype=np.uint8)]
    for image in images:
        threads.render(decoded([image]), [plain_group([image], 8)], MEAN, STD)
        assert 1 << 20 < threads.scratch_bytes < 1 << 26
    small = Threads(1)
    for number in range(3):
        image = pictures([(375, 500)], number)
        small.render(decoded(image), [plain_group(image, 224)], MEAN, STD)
        assert small.scratch_bytes < 1 << 20


@pytest.mark.parametrize("size", [(4000, 4000), (1, 4000)], ids=str)
def test_scratch_memory_of_a_large_image_goes_by_the_crop(size: tuple[int, int]) -> None:
    images = [np.zeros((*size, 3), dtype=np.uint8)]
    threads = Threads(1)
    threads.render(decoded(images), [plain_group(images, 224, sigma=np.ones((1, 1), np.float32))], MEAN, STD)
    assert 1 << 16 < threads.scratch_bytes < 1 << 21  # of 64 MiB that are allowed, and of 48 MB that the image has


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": np.array([[[0, 0, 41, 30]]], np.int32)}, "box is not within its image"),
        ({"box": np.array([[[0, -1, 4, 4]]], np.int32)}, "box is not within its image"),
        ({"box": np.array([[[0, 0, 0, 4]]], np.int32)}, "box is not within its image"),
        ({"box": np.array([[[2**31 - 1, 0, 2, 2]]], np.int32)}, "box is not within its image"),
        ({"box": np.zeros((1, 2, 4), np.int32)}, r"box is int32 \[1, 2, 4\]; it must be int32 \[1, 1, 4\]"),
        ({"flip": np.zeros((1, 1), np.uint8)}, "flip is uint8"),
        ({"order": np.array([[[0, 1, 2, 2]]], np.uint8)}, "order must hold"),
        ({"jitter": np.array([[[1, np.nan, 1, 0]]], np.float32)}, "jitter's factors"),
        ({"jitter": np.array([[[1, 1, 1, 0.6]]], np.float32)}, "jitter's hue"),
        ({"sigma": np.full((1, 1), np.inf, np.float32)}, "sigma must be finite"),
        ({"blur_window": 4}, "blur_window=4"),
        ({"out": torch.zeros(1, 1, 3, 8, 9)}, r"out is \[1, 1, 3, 8, 9\]"),
        ({"out": torch.zeros(1, 1, 3, 8, 8, dtype=torch.float64)}, "torch.float64 cannot be written"),
        ({"out": torch.zeros(1, 1, 3, 8, 16)[..., ::2]}, "contiguous"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_rendered_is_refused(options: dict[str, object], message: str) -> None:
    images = pictures([(40, 30)])
    group = plain_group(images, 8, **options)
    with pytest.raises(ValueError, match=message):
        Threads(1).render(decoded(images), [group], MEAN, STD)


def test_no_thread_is_no_number_of_threads() -> None:
    with pytest.raises(ValueError, match="count=0"):
        Threads(0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_threads_that_cannot_be_started_are_an_error_and_no_abort() -> None:
    script = """
import resource
from hjepa.kernels._fused_crops import Threads
memory = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (memory + (200 << 20),) * 2)
try:
    Threads(256)
except RuntimeError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\n", "")
