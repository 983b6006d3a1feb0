"""Plain JPEGs: what is said of them without PIL is what PIL says, also of damaged ones."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hjepa.pipeline import plain_jpeg
from hjepa.pipeline.header import Header, read_header
from hjepa.pipeline.plain_jpeg import HEAD, plain_size

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 61, 3), dtype=np.uint8))


def encode(image: Image.Image = PICTURE, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", **options)
    return content.getvalue()


def after_start(marker: int, segment: bytes) -> bytes:
    """The picture with one more segment before all others."""
    content = encode()
    return content[:2] + bytes([0xFF, marker]) + (2 + len(segment)).to_bytes(2, "big") + segment + content[2:]


PLAIN = {
    "colour": encode(),
    "gray": encode(PICTURE.convert("L")),
    "progressive": encode(progressive=True),
    "with a profile": encode(icc_profile=b"profile" * 30),
    "with a comment": encode(comment=b"by hand"),
    "with restarts": encode(restart_marker_blocks=2),
    "of RGB": encode(keep_rgb=True),
}
OTHER = {
    "with EXIF": encode(exif=b"Exif\0\0II*\0" + bytes(8)),
    "CMYK": encode(PICTURE.convert("CMYK")),
    "with a long profile": encode(icc_profile=bytes(HEAD)),
    "cut off": encode()[:300],
    "with a short JFIF": after_start(0xE0, b"JFIF\0"),
    "with a short profile": after_start(0xE2, b"ICC_PROFILE\0\1"),
    "with a frame of another size": after_start(0xC0, bytes([8, 0, 7, 0, 7, 1, 1, 0x11, 0])),
    "with a frame that lacks a byte": after_start(0xC0, bytes([8, 0, 7, 0, 7, 1, 1, 0x11])),
    "PNG": b"\x89PNG\r\n\x1a\n",
}


@pytest.fixture
def by_pil(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The header that PIL alone finds."""

    def read(content: bytes) -> Header:
        with monkeypatch.context() as context:
            context.setattr(plain_jpeg, "plain_size", lambda head: None)
            return read_header(io.BytesIO(content))

    return read


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_the_size_of_a_plain_jpeg_is_found_without_pil(content: bytes) -> None:
    assert plain_size(content) == (50, 61)


@pytest.mark.parametrize("content", OTHER.values(), ids=OTHER)
def test_of_anything_else_nothing_is_said_and_pil_is_asked(content: bytes, by_pil: Any) -> None:
    assert plain_size(content[:HEAD]) is None
    assert read_header(io.BytesIO(content)) == by_pil(content)


@pytest.mark.parametrize("content", PLAIN.values(), ids=PLAIN)
def test_a_damaged_header_is_what_pil_finds_it_to_be(content: bytes, by_pil: Any) -> None:
    chance = np.random.default_rng(1)
    header = content.index(b"\xff\xda") + 14
    found = 0
    for _ in range(1000):
        damaged = bytearray(content[: header if chance.random() < 0.9 else chance.integers(20, header)])
        for place in chance.integers(2, len(damaged), chance.integers(1, 4)).tolist():
            odd = (0, 1, 2, 8, 0xC0, 0xC4, 0xDB, 0xE0, 0xE1, 0xE2, 0xFF)
            damaged[place] = int(chance.choice(odd)) if chance.random() < 0.7 else int(chance.integers(256))
        size = plain_size(bytes(damaged))
        if size is not None:
            found += 1
            assert by_pil(bytes(damaged)) == Header(height=size[0], width=size[1]), bytes(damaged[:600]).hex()
    assert 100 < found < 1000
