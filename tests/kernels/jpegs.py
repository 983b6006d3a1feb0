"""JPEGs of all kinds for tests, and what has gone wrong with some of them."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def picture(chance: np.random.Generator, height: int, width: int) -> Pixels:
    """[height, width, 3] noise, slopes, black and white dots, or one colour."""
    kind = chance.integers(4)
    if kind == 0:
        return chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        y, x = np.mgrid[:height, :width]
        return np.stack([7 * x + 3 * y, 2 * x + 5 * y, x + y], axis=-1).astype(np.uint8)
    if kind == 2:
        return np.where(chance.integers(0, 2, (height, width, 3)), 255, 0).astype(np.uint8)
    return np.full((height, width, 3), chance.integers(0, 256, 3), dtype=np.uint8)


def encode(pixels: Pixels, **options: Any) -> bytes:
    """A JPEG; `options` are Pillow's."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def random_jpeg(chance: np.random.Generator, most: int = 90) -> tuple[bytes, int, int]:
    """A file that is decoded natively, its height and width: any quality, sampling, colours, tables, scans, restarts."""
    height, width = (int(chance.integers(5, most)) for _ in range(2))
    pixels = picture(chance, height, width)
    options: dict[str, Any] = {"quality": int(chance.integers(1, 101)), "optimize": bool(chance.integers(2))}
    options["progressive"] = bool(chance.integers(3) == 0)
    if chance.integers(5) == 0:
        pixels = pixels[..., 0]
    else:
        options["subsampling"] = int(chance.integers(3))
    options |= ({}, {"restart_marker_blocks": int(chance.integers(1, 20))}, {"restart_marker_rows": 1})[chance.integers(3)]
    return encode(pixels, **options), height, width


def scans_of(file: bytes) -> tuple[bytes, list[bytes]]:
    """What comes before the first scan of a progressive JPEG of Pillow's, and its scans with their tables of codes."""
    before, table, *scans = file[:-2].split(b"\xff\xc4")  # the first scan has two tables
    return before + b"\xff\xc4" + table, [b"\xff\xc4" + scan for scan in scans]


def damaged(chance: np.random.Generator, file: bytes) -> bytes:
    """The file with another byte in it, without its end, or without some bytes."""
    place, kind = int(chance.integers(len(file))), chance.integers(3)
    if kind == 0:
        return file[:place] + bytes([chance.integers(256)]) + file[place + 1 :]
    return file[:place] + (b"" if kind == 1 else file[place + int(chance.integers(1, 5)) :])


def gray_file(
    height: int, width: int, dc: dict[int, list[int]], ac: dict[int, list[int]], scan: bytes = b"", *, table: int = 0
) -> bytes:
    """A gray JPEG from its parts: symbols by the length of their codes, and the bytes of its scan."""

    def segment(marker: int, contents: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(contents) + 2).to_bytes(2, "big") + contents

    def codes(number: int, symbols: dict[int, list[int]]) -> bytes:
        counts = bytes(len(symbols.get(length, [])) for length in range(1, 17))
        return bytes([number]) + counts + bytes(symbol for length in sorted(symbols) for symbol in symbols[length])

    frame = b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    header = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC0, frame)
    header += segment(0xC4, codes(0, dc) + codes(0x10 | table, ac))
    return b"\xff\xd8" + header + segment(0xDA, bytes([1, 1, table, 0, 63, 0])) + scan + b"\xff\xd9"


LONG_CODES = {length: [symbol] for length, symbol in zip(range(1, 17), [*range(11), *range(0x11, 0x16)], strict=True)}
STALE_TABLES = [
    gray_file(64, 64, {1: [0], 2: [11]}, LONG_CODES, bytes(16), table=3),
    gray_file(64, 64, {1: [0], 2: [11]}, {12: [0x0B]}, table=3),
    gray_file(64, 64, {1: [0], 2: [11]}, {}, b"\x7f\xe0" * 4000, table=3),
]
"""Files that must come in this order: a table with codes of every length, one that is refused, and one without codes."""


def by_pillow(file: bytes, reduction: int = 1) -> Pixels:
    """The levels that libjpeg-turbo gives, both sides divided by the reduction and rounded up."""
    with Image.open(io.BytesIO(file)) as image:
        if reduction > 1:
            sides = image.size
            image.draft(None, (max(1, sides[0] // reduction), max(1, sides[1] // reduction)))
            assert image.size == tuple(-(-side // reduction) for side in sides)
        return np.asarray(image.convert("RGB"))
