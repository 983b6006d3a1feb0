"""EXIF turns an image as DALI reads it, or the image is refused: DALI's own readers must not disagree about its sides."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline.header import EXIF, TURNS, open_content, read_header, upright
from hjepa.pipeline.pixels import to_rgb

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # PIL's own reader, which asks for the dpi
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8))
SHORT, LONG = 3, 4
TAGS = (
    0x10E,
    0x10F,
    0x110,
    0x112,
    0x112,
    0x11A,
    0x11B,
    0x128,
    0x131,
    0x132,
    0x13B,
    0x13E,
    0x13F,
    0x211,
    0x213,
    0x214,
    0x8298,
    0x8769,
)


def exif_of(order: str, *entries: bytes, count: int | None = None) -> bytes:
    """EXIF with one directory of entries, of which it announces `count`."""
    start = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return start + struct.pack(order + "H", len(entries) if count is None else count) + b"".join(entries) + bytes(4)


def entry(order: str, tag: int, kind: int, value: int, count: int = 1) -> bytes:
    number = struct.pack(order + "HH", value, 0) if kind == SHORT else struct.pack(order + "I", value)
    return struct.pack(order + "HHI", tag, kind, count) + number


def encode(exif: bytes, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    PICTURE.save(stream, kind, exif=EXIF + exif, lossless=True, subsampling=0)
    return stream.getvalue()


def by_dali(contents: list[bytes]) -> list[Any]:
    from nvidia.dali import fn, pipeline, types

    pipe = pipeline.Pipeline(batch_size=len(contents), num_threads=2, device_id=None, exec_dynamic=True)
    with pipe:
        encoded = fn.external_source(source=[[np.frombuffer(content, dtype=np.uint8) for content in contents]], batch=True)
        pipe.set_outputs(fn.decoders.image(encoded, output_type=types.RGB, adjust_orientation=True))
    (images,) = pipe.run()
    return [np.asarray(images[place]) for place in range(len(contents))]


TURN = {order: entry(order, 0x112, SHORT, 6) for order in "<>"}
READ = {
    "usual": (exif_of(">", TURN[">"]), 6),
    "of the other byte order": (exif_of("<", TURN["<"]), 6),
    "of a long number": (exif_of("<", entry("<", 0x112, LONG, 6)), 6),
    "of a long number whose first half is 0": (exif_of(">", entry(">", 0x112, LONG, 6)), 1),
    "of a type without a name": (exif_of(">", TURN[">"].replace(b"\x12\0\3", b"\x12\0\x7f")), 6),
    "twice": (exif_of("<", TURN["<"], entry("<", 0x112, SHORT, 3)), 6),
    "that is none": (exif_of("<", entry("<", 0x112, SHORT, 9)), 1),
    "with an artist beyond the end": (exif_of(">", TURN[">"], entry(">", 0x13B, 2, 600, count=20)), 6),
    "upright with a date beyond the end": (exif_of(">", entry(">", 0x112, SHORT, 1), entry(">", 0x132, 2, 600, count=20)), 1),
}
DAMAGED = {
    "a date beyond the end": exif_of(">", TURN[">"], entry(">", 0x132, 2, 600, count=20)),
    "a resolution beyond the end": exif_of("<", TURN["<"], entry("<", 0x11A, 5, 600)),
    "fewer entries than it announces": exif_of(">", TURN[">"], count=5),
    "another byte order": b"M\x80" + exif_of(">", TURN[">"])[2:],
}


@pytest.mark.dali
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("name", READ)
def test_an_orientation_is_what_dali_makes_of_it(name: str, kind: str) -> None:
    exif, orientation = READ[name]
    content = encode(exif, kind)
    assert read_header(io.BytesIO(content)).orientation == orientation
    with open_content(content) as image:
        np.testing.assert_array_equal(by_dali([content])[0], np.asarray(to_rgb(upright(image))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", DAMAGED)
def test_an_image_that_a_part_of_dali_would_turn_is_refused(name: str, kind: str) -> None:
    """DALI wrote beyond such a PNG, and beyond such a JPEG whose scan was damaged, too, and ended the process."""
    assert "EXIF has an orientation and is damaged" in read_header(io.BytesIO(encode(DAMAGED[name], kind))).reason


@pytest.mark.dali
def test_no_exif_whatsoever_is_read_otherwise_than_by_dali() -> None:
    chance, contents, orientations = np.random.default_rng(0), [], []
    for _ in range(1000):
        order = "<>"[chance.integers(2)]
        entries = [
            entry(
                order,
                int(chance.choice(TAGS)),
                int(chance.integers(9)),
                int(chance.integers(9)),
                int(chance.choice([1, 2, 9, 99])),
            )
            for _ in range(chance.integers(1, 7))
        ]
        exif = exif_of(order, *entries) + bytes(int(chance.integers(99)))
        content = encode(exif[: chance.integers(1, len(exif))] if chance.integers(3) == 0 else exif)
        header = read_header(io.BytesIO(content))
        if not header.reason:
            contents.append(content)
            orientations.append(header.orientation)
    assert len(contents) > 600
    assert set(orientations) == set(range(1, 9))
    with open_content(encode(b"")) as image:
        whole = to_rgb(image)
    for orientation, found in zip(orientations, by_dali(contents), strict=True):
        turned = whole.transpose(TURNS[orientation]) if orientation in TURNS else whole
        np.testing.assert_array_equal(found, np.asarray(turned))
