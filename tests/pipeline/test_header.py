"""Headers: what is refused before decoding, and that what is not refused has the same pixels in PIL and in DALI."""

import errno
import io
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.header import explain, open_content, orientation_of, read_file_header, read_header, upright
from hjepa.pipeline.pixels import to_rgb
from hjepa.pipeline.source import Samples, read_files, why_not

CHANCE = np.random.default_rng(0)
PICTURE = Image.fromarray(CHANCE.integers(0, 255, (50, 60, 3), dtype=np.uint8))
OTHER = Image.fromarray(CHANCE.integers(0, 255, (50, 60, 3), dtype=np.uint8))
ALPHA = Image.fromarray(CHANCE.integers(0, 255, (50, 60, 4), dtype=np.uint8))
DEEP = Image.fromarray(CHANCE.integers(0, 65535, (50, 60), dtype=np.uint16))
MORE = {"save_all": True, "append_images": [OTHER]}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def turned(orientation: int = 6) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(PICTURE, "JPEG", exif=exif)


def exif_twice(first: bytes, second: bytes) -> bytes:
    """The second JPEG with the first one's segment of EXIF before its own."""
    start = first.index(b"\xff\xe1")
    return second[:2] + first[start : start + 2 + int.from_bytes(first[start + 2 : start + 4], "big")] + second[2:]


READ = {
    "gray.jpg": encode(PICTURE.convert("L"), "JPEG"),
    "CMYK.jpg": encode(PICTURE.convert("CMYK"), "JPEG"),
    "progressive.jpg": encode(PICTURE, "JPEG", progressive=True),
    "turned.jpg": turned(),
    "turned alike twice.jpg": exif_twice(turned(), turned()),
    "damaged EXIF.jpg": encode(PICTURE, "JPEG", exif=b"Exif\0\0" + bytes(30)),
    "cut off EXIF.jpg": encode(PICTURE, "JPEG", exif=b"Exif\0\0II*\0"),
    "damaged EXIF.png": encode(PICTURE, "PNG", exif=b"Exif\0\0" + bytes(30)),
    "damaged EXIF.webp": encode(PICTURE, "WEBP", lossless=True, exif=b"Exif\0\0" + bytes(30)),
    "CMYK.tif": encode(PICTURE.convert("CMYK"), "TIFF"),
    "alpha.png": encode(ALPHA, "PNG"),
    "alpha.webp": encode(ALPHA, "WEBP", lossless=True),
    "alpha.tif": encode(ALPHA, "TIFF"),
    "gray and alpha.png": encode(ALPHA.convert("LA"), "PNG"),
    "palette.png": encode(PICTURE.convert("P"), "PNG"),
    "palette with alpha.png": encode(PICTURE.convert("P"), "PNG", transparency=3),
    "palette.bmp": encode(PICTURE.convert("P"), "BMP"),
    "gray with a transparent level.png": encode(PICTURE.convert("L"), "PNG", transparency=3),
    "one bit.png": encode(PICTURE.convert("1"), "PNG"),
    "one bit.bmp": encode(PICTURE.convert("1"), "BMP"),
    "16 bits.png": encode(DEEP, "PNG"),
    "16 bits.tif": encode(DEEP, "TIFF"),
    "animated.png": encode(PICTURE, "PNG", **MORE),
    "animated.webp": encode(PICTURE, "WEBP", lossless=True, **MORE),
    "pages.tif": encode(PICTURE, "TIFF", **MORE),
    "packed.tif": encode(PICTURE, "TIFF", compression="tiff_lzw"),
}


def of_16_bits() -> bytes:
    """A BMP with five, six and five bits of red, green and blue."""
    pixels = CHANCE.integers(0, 65536, (50, 60), dtype=np.uint16).tobytes()
    about = struct.pack("<IiiHHIIiiII3I", 40, 60, 50, 1, 16, 3, len(pixels), 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    return b"BM" + struct.pack("<IHHI", 14 + len(about) + len(pixels), 0, 0, 14 + len(about)) + about + pixels


def without_adobe(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def multiplied(tiff: bytes) -> bytes:
    unlike, like = (struct.pack("<HHIHH", 338, 3, 1, kind, 0) for kind in (2, 1))
    assert unlike in tiff
    return tiff.replace(unlike, like)


REFUSED = {
    "CMYK without a marker.jpg": (without_adobe(READ["CMYK.jpg"]), "whether its inks are inverted"),
    "turned otherwise.jpg": (exif_twice(turned(), turned(1)), "several EXIF orientations"),
    "turned by a second segment.jpg": (exif_twice(READ["damaged EXIF.jpg"], turned()), "several EXIF orientations"),
    "turned by a tag that is none.jpg": (
        exif_twice(turned(1), turned().replace(b"\0\0\0\1\0\6", b"\0\4\0\1\0\6")),
        "several EXIF orientations",
    ),
    "turned by a byte.jpg": (exif_twice(turned(1), turned().replace(b"\x12\0\3", b"\x12\0\7")), "several EXIF orientations"),
    "multiplied by alpha.tif": (multiplied(encode(ALPHA, "TIFF")), "multiplied by their alpha"),
    "signed.tif": (encode(PICTURE.convert("L"), "TIFF", tiffinfo={339: 2}), "signed samples"),
    "16 bits.bmp": (of_16_bits(), "16 bits per pixel"),
    "without its last padding.bmp": (encode(PICTURE.resize((33, 17)), "BMP")[:-1], "cut off"),
    "animation.gif": (encode(PICTURE, "GIF", **MORE), "GIF, which not every backend decodes"),
    "gray and alpha.tif": (encode(ALPHA.convert("LA"), "TIFF"), "mode LA"),
    "one bit.tif": (encode(PICTURE.convert("1"), "TIFF"), "mode 1"),
    "32 bits.tif": (encode(DEEP.convert("F"), "TIFF"), "32 bits deep"),
    "still picture.png": (encode(PICTURE, "PNG", default_image=True, **MORE), "no frame of it"),
    "text": (b"<html>", "not an image that can be identified"),
    "nothing": (b"", "not an image that can be identified"),
    "half a header.jpg": (READ["gray.jpg"][:50], ""),
}


def by_dali(content: bytes) -> np.ndarray:
    from nvidia.dali import fn, pipeline, types

    pipe = pipeline.Pipeline(batch_size=1, num_threads=1, device_id=None, exec_dynamic=True)
    with pipe:
        encoded = fn.external_source(source=[[np.frombuffer(content, dtype=np.uint8)]], batch=True)
        pipe.set_outputs(fn.decoders.image(encoded, output_type=types.RGB, adjust_orientation=False))
    return np.array(pipe.run()[0].at(0))


@pytest.mark.dali
@pytest.mark.parametrize("name", READ)
def test_pixels_are_one_definition_for_pil_and_dali(name: str) -> None:
    header = read_header(io.BytesIO(READ[name]))
    assert (header.height, header.width, header.reason) == (50, 60, "")
    expected = np.asarray(to_rgb(open_content(READ[name])))
    np.testing.assert_array_equal(by_dali(READ[name]), expected)
    if name.startswith(("animated", "pages")):
        np.testing.assert_array_equal(expected, np.asarray(PICTURE))  # the first frame
    assert header.orientation == (6 if name.startswith("turned") else 1)


@pytest.mark.dali
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_with_black_is_at_most_one_level_darker_in_dali(kind: str) -> None:
    content = encode(Image.fromarray(np.asarray(ALPHA), "CMYK"), kind)
    darker = np.asarray(to_rgb(open_content(content))).astype(int) - by_dali(content)
    assert {0, 1} == set(np.unique(darker))


@pytest.mark.dali
@pytest.mark.parametrize("picture", [PICTURE, ALPHA], ids=["lossless", "alpha"])
def test_webp_with_exif_is_refused_where_dali_cannot_read_it_and_only_there(picture: Image.Image) -> None:
    """Where the picture's part of the file has an odd length, by chance."""
    reasons, failures = [], []
    for width in range(20, 32):
        content = encode(picture.crop((0, 0, width, 20)), "WEBP", lossless=True, exif=b"Exif\0\0" + bytes(30))
        reasons.append(read_header(io.BytesIO(content)).reason)
        try:
            by_dali(content)
        except RuntimeError as error:
            failures.append((width, str(error)))
    assert [width for width, reason in enumerate(reasons, 20) if "part of odd length" in reason] == [
        width for width, _ in failures
    ]
    assert 0 < len(failures) < 12


@pytest.mark.parametrize("name", REFUSED)
def test_what_decoders_read_differently_or_not_at_all_is_refused(name: str) -> None:
    content, reason = REFUSED[name]
    header = read_header(io.BytesIO(content))
    assert header.height == 0
    assert header.reason
    assert reason in header.reason


class OwnError(Exception):
    """Of the user's code."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("image_id"), "KeyError: 'image_id'"),
        (IndexError("list index out of range"), "IndexError: list index out of range"),
        (OwnError("row 7"), "OwnError: row 7"),
        (OwnError(), "OwnError"),
        (RuntimeError("no network"), "no network"),
        (ValueError("an image of no pixels"), "an image of no pixels"),
        (struct.error("unpack requires 4 bytes"), "unpack requires 4 bytes"),
        (FileNotFoundError(errno.ENOENT, "x", "y"), "No such file or directory"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_reason_names_the_type_of_an_exception_whose_text_says_little(error: Exception, reason: str) -> None:
    assert explain(error) == reason


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_lack_of_handles_is_no_fault_of_an_image(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "too many")

    paths = np.array([b"x.jpg"])
    samples = Samples(
        encoded=paths, sizes=np.ones((1, 2), np.int32), orientation=np.ones(1, np.uint8), labels=np.zeros(1, int), keys=("x",)
    )
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(np, "fromfile", refuse)
    for look in (lambda: read_file_header(b"x.jpg"), lambda: why_not(paths, 0), lambda: read_files(samples)):
        with pytest.raises(OSError, match=r"Too many open files.*: raise the limit"):
            look()


def test_lack_of_memory_is_no_fault_of_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good image would be left out by every later run, as the list of bad images is kept."""

    def refuse(*_: object) -> None:
        raise MemoryError

    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "load", refuse)
    with pytest.raises(MemoryError, match="out of memory while an image was decoded; use smaller batches, or fewer workers"):
        why_not(np.array([os.fsencode(tmp_path / "x.png")]), 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_warning_made_an_error_refuses_no_image_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PYTHONWARNINGS=error and pytest's filterwarnings do: the index, which is kept, must not remember it."""
    monkeypatch.setenv("HJEPA_CACHE", str(tmp_path / "cache"))
    cut = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\1\x12\0\3\0\0\0\1\0\1\0\0"  # one of the five entries that it announces
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cut.jpg").write_bytes(encode(PICTURE, "JPEG", exif=cut))
    (tmp_path / "photos" / "whole.jpg").write_bytes(encode(PICTURE, "JPEG"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_folder(tmp_path / "photos")
    assert len(open_folder(tmp_path / "photos")) == 2


XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/>"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_orientation_is_that_of_exif_alone_as_dali_reads_it(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    assert read_header(io.BytesIO(encode(PICTURE, kind, exif=exif))).orientation == 3
    with open_content(encode(PICTURE, kind, xmp=XMP[29:] if kind != "JPEG" else XMP)) as image:
        assert orientation_of(image) == 1
        assert upright(image).size == image.size


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pil_makes_of_an_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    with open_content(encode(PICTURE, "PNG", exif=exif)) as image:
        np.testing.assert_array_equal(np.asarray(upright(image)), np.asarray(ImageOps.exif_transpose(image)))
