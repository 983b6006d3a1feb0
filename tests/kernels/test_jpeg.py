"""The native decoder gives libjpeg-turbo's levels, bit for bit, or nothing."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.kernels.jpegs import STALE_TABLES, by_pillow, damaged, encode, gray_file, picture, random_jpeg, scans_of

jpeg = pytest.importorskip("hjepa.kernels._jpeg", reason="hjepa's JPEG decoder was not built: there was no C++ compiler")


@pytest.mark.parametrize("build", jpeg.builds())
def test_levels_are_those_of_libjpeg_turbo(build: str) -> None:
    chance = np.random.default_rng(1)
    for _ in range(300):
        file, height, width = random_jpeg(chance)
        np.testing.assert_array_equal(jpeg.decode(file, height, width, build), by_pillow(file))


@pytest.mark.parametrize("build", jpeg.builds())
@pytest.mark.parametrize("quality", [1, 30, 95, 100])
@pytest.mark.parametrize("sampling", [0, 1, 2], ids=["444", "422", "420"])
def test_every_width_and_height_ends_as_in_libjpeg_turbo(sampling: int, quality: int, build: str) -> None:
    chance = np.random.default_rng(sampling)
    for side in range(5, 75):
        for height, width in ((side, 33), (17, side), (1, side)):
            file = encode(picture(chance, height, width), subsampling=sampling, quality=quality)
            np.testing.assert_array_equal(jpeg.decode(file, height, width, build), by_pillow(file))


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize("build", jpeg.builds())
def test_reduced_levels_are_those_of_libjpeg_turbo(build: str, reduction: int) -> None:
    chance, decoded = np.random.default_rng(reduction), 0
    for _ in range(300):
        file, height, width = random_jpeg(chance, most=150)
        levels = jpeg.decode(file, height, width, build, reduction)
        if levels is not None:
            decoded += 1
            np.testing.assert_array_equal(levels, by_pillow(file, reduction))
    assert decoded > 280  # all but narrow ones of 4:2:2


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize("sampling", [0, 1, 2], ids=["444", "422", "420"])
def test_every_width_and_height_is_reduced_as_by_libjpeg_turbo(sampling: int, reduction: int) -> None:
    chance = np.random.default_rng(sampling)
    for side in range(4 * reduction + 1, 40 + 4 * reduction):
        for height, width in ((side, 33), (17, side), (reduction, side)):
            file = encode(picture(chance, height, width), subsampling=sampling, quality=95)
            np.testing.assert_array_equal(jpeg.decode(file, height, width, reduction=reduction), by_pillow(file, reduction))


def test_reductions_that_are_not_known_are_left() -> None:
    file = encode(picture(np.random.default_rng(0), 40, 50))
    assert [jpeg.decode(file, 40, 50, reduction=by) is None for by in (1, 2, 3, 4, 8)] == [False, False, True, False, True]
    narrow = encode(picture(np.random.default_rng(0), 40, 8), subsampling=1)
    assert jpeg.decode(narrow, 40, 8, reduction=2) is None  # libjpeg does not smooth colours of so few pixels
    with pytest.raises(ValueError, match="reduction is 1, 2 or 4"):
        jpeg.decode(file, 40, 50, reduction=0)


@pytest.mark.parametrize("build", jpeg.builds())
def test_photographs_are_decoded(build: str, photographs: Path) -> None:
    for path in sorted(photographs.glob("*.jpg")):
        file = path.read_bytes()
        expected = by_pillow(file)
        np.testing.assert_array_equal(jpeg.decode(file, *expected.shape[:2], build), expected)
        for by in (2, 4):
            np.testing.assert_array_equal(jpeg.decode(file, *expected.shape[:2], build, by), by_pillow(file, by))


def test_a_damaged_file_is_refused_or_decoded_as_libjpeg_turbo_does() -> None:
    chance = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        file, height, width = random_jpeg(chance, most=40)
        for _ in range(5):
            broken = damaged(chance, file)
            levels = jpeg.decode(broken, height, width)
            refused += levels is None
            if levels is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow's, of numbers in EXIF or JFIF
                    np.testing.assert_array_equal(levels, by_pillow(broken))
                    for by in (2, 4):
                        reduced = jpeg.decode(broken, height, width, reduction=by)
                        assert reduced is None or (reduced == by_pillow(broken, by)).all()
    assert 700 < refused < 1400


@pytest.mark.parametrize("build", jpeg.builds())
@pytest.mark.parametrize("sampling", [0, 1, 2], ids=["444", "422", "420"])
def test_every_size_of_a_progressive_image_ends_as_in_libjpeg_turbo(sampling: int, build: str) -> None:
    chance = np.random.default_rng(sampling)
    for side in range(5, 75):
        for height, width in ((side, 33), (17, side), (1, side)):
            file = encode(picture(chance, height, width), subsampling=sampling, quality=90, progressive=True)
            np.testing.assert_array_equal(jpeg.decode(file, height, width, build), by_pillow(file))


@pytest.mark.parametrize("build", jpeg.builds())
def test_blocks_without_anything_are_as_many_as_a_file_says(build: str) -> None:
    flat = np.full((1600, 1500), 77, dtype=np.uint8)
    flat[800, 700] = 255
    for options in ({}, {"restart_marker_blocks": 20_000}):
        file = encode(flat, progressive=True, **options)
        np.testing.assert_array_equal(jpeg.decode(file, 1600, 1500, build), by_pillow(file))


def test_scans_may_come_in_any_order_that_brings_all_bits_once() -> None:
    """In Pillow's: 0 is the mean, 1 and 4 brightness, refined by 5 (as the mean is) and 8; 2, 6 and 3, 7 are the colours."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    start, scans = scans_of(encode(pixels, quality=90, progressive=True))
    expected = by_pillow(encode(pixels, quality=90, progressive=True))

    def decoded(*numbers: int) -> np.ndarray | None:
        levels: np.ndarray | None = jpeg.decode(start + b"".join(scans[number] for number in numbers) + b"\xff\xd9", 60, 70)
        return levels

    for order in ((0, 1, 2, 3, 4, 5, 6, 7, 8), (0, 4, 1, 5, 8, 2, 6, 3, 7), (0, 3, 2, 7, 6, 4, 1, 5, 8)):
        np.testing.assert_array_equal(decoded(*order), expected)
    every = range(len(scans))
    assert all(decoded(*(other for other in every if other != number)) is None for number in every)
    assert all(decoded(*every, number) is None for number in every)
    assert decoded(0, 1, 2, 3, 5, 4, 6, 7, 8) is None  # refined before all of it came
    assert decoded(1, 0, 2, 3, 4, 5, 6, 7, 8) is None


def test_what_is_not_decoded_here_is_left() -> None:
    pixels = picture(np.random.default_rng(0), 40, 50)
    file = encode(pixels)
    assert jpeg.decode(file, 40, 50) is not None
    others = {
        "arithmetic codes": file.replace(b"\xff\xc0", b"\xff\xc9"),
        "CMYK": _cmyk(pixels),
        "RGB": encode(pixels, keep_rgb=True),
        "no end": file[:-2],
        "more than an image": file[:-2] + b"\0" + file[-2:],
        "no image": b"",
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    }
    assert {name for name, other in others.items() if jpeg.decode(other, 40, 50) is not None} == set()
    assert jpeg.decode(file, 50, 40) is None  # another size than was asked for
    assert jpeg.decode(encode(pixels[:, :4]), 40, 4) is None  # libjpeg does not smooth colours of so few pixels


def test_what_libjpeg_refuses_is_left() -> None:
    dc, ac = {1: [0], 2: [11]}, {1: [0], 2: [1]}
    blocks = bytes(65504 // 8 * 2 // 8)  # each of two zero bits: no change of its mean, and its end
    assert jpeg.decode(gray_file(8, 65500, dc, ac, blocks), 8, 65500) is not None
    for name, file, height, width in (
        ("too wide", gray_file(8, 65501, dc, ac, blocks), 8, 65501),
        ("too high", gray_file(65535, 8, dc, ac, blocks + bytes(1)), 65535, 8),
        ("a code of ones", gray_file(8, 8, {1: [0, 11]}, ac, b"\x3f"), 8, 8),
        ("too many codes", gray_file(8, 8, {1: [0], 2: [1, 2, 3]}, ac, b"\x3f"), 8, 8),
    ):
        with pytest.raises(OSError, match="broken data stream"):
            by_pillow(file)
        assert jpeg.decode(file, height, width) is None, name


def test_a_table_that_was_refused_leaves_nothing_behind() -> None:
    good, *others = STALE_TABLES
    for _ in range(2):
        np.testing.assert_array_equal(jpeg.decode(good, 64, 64), by_pillow(good))
        assert [jpeg.decode(file, 64, 64) for file in others] == [None, None]


def _cmyk(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def test_an_unknown_build_is_refused() -> None:
    with pytest.raises(ValueError, match="no build named sse9"):
        jpeg.decode(b"", 1, 1, "sse9")
