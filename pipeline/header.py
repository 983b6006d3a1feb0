"""What an encoded image says of itself before it is decoded: size and EXIF orientation, or why it is refused.

An image is refused where the decoders of the backends would read it differently, or not at all.
"""

import errno
import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, TiffImagePlugin, WebPImagePlugin

from hjepa.pipeline import plain_jpeg
from hjepa.pipeline.exif import ORIENTATION, UPRIGHT, orientation_in

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF")
"""Formats that every backend decodes; MPO is the JPEG with a preview that some cameras write."""
MAX_PIXELS = 100_000_000
"""Most pixels of an image, unless told otherwise: decoded it takes three bytes each, and a small file can claim any number."""
LONGEST_SIDE = 2**31 - 1
"""Pixels: the index keeps sides as int32, and a header of a few bytes may claim more."""
LONGEST_REASON = 120
"""Letters."""
SPEAKING = (OSError, ValueError, SyntaxError, RuntimeError, EOFError)
"""Exceptions whose text is a sentence; that of KeyError, for one, is a name."""
DECODERS = ("PIL", "struct", "zlib")
"""Modules whose exceptions are about bytes of an image."""
SEEN_WITHOUT_READING = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""Errors that last until the file is changed, which its length or its time of change then shows."""
EXIF = b"Exif\0\0"
"""What a JPEG's segment of EXIF begins with."""
BITS_TAG, EXTRA_SAMPLES_TAG, SAMPLE_FORMAT_TAG = 0x0102, 0x0152, 0x0153
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""
TIFF_MODES = ("L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B")
"""Of what a TIFF may hold, that which PIL and DALI read alike."""
OPENERS: dict[bytes, Callable[[BinaryIO], Image.Image]] = {
    b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
    b"\x89PNG": PngImagePlugin.PngImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"P6": PpmImagePlugin.PpmImageFile,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What the header says. A height of 0 marks an image that is refused."""

    height: int = 0
    """Rows as stored."""
    width: int = 0
    """Columns as stored."""
    orientation: int = 1
    """EXIF orientation, 1 to 8; 1 where there is none."""
    reason: str = ""
    """Why it is refused; empty for a good image."""
    passing: bool = False
    """Whether it could not even be read, and may be readable later."""


def read_header(file: BinaryIO) -> Header:
    """The header of an encoded image; whatever is wrong with it becomes the reason."""
    try:
        if (size := plain_jpeg.plain_size(file.read(plain_jpeg.HEAD))) is not None:
            return Header(height=size[0], width=size[1])
        file.seek(0)
        with open_encoded(file) as image:
            orientation = orientation_of(image)
            if reason := _refusal(image, orientation):
                return Header(reason=reason)
            return Header(height=image.height, width=image.width, orientation=orientation)
    except Exception as error:  # PIL raises OSError, SyntaxError, struct.error and more for bad headers: all are reasons
        return refused(error)


def read_file_header(path: bytes) -> Header:
    """The header of an image file."""
    try:
        with open(path, "rb") as file:
            return read_header(file)
    except OSError as error:
        return refused(error)


def refused(error: Exception) -> Header:
    """The header of an image that an exception stood in the way of."""
    passing = isinstance(error, Warning)  # PIL's, which a program made errors of, as pytest's filters do: not the image's state
    passing |= isinstance(error, OSError) and error.errno is not None and error.errno not in SEEN_WITHOUT_READING
    # a header takes no memory worth mentioning, so that one is damaged for which there is not enough
    return Header(reason="MemoryError" if isinstance(error, MemoryError) else explain(error), passing=passing)


def explain(error: Exception) -> str:
    """An exception as a reason in words, after the name of its type where its text was not written to be read alone.

    Raises OSError where no more files can be opened, and MemoryError where there is no memory: that is the machine's state and
    no fault of the image's.
    """
    if isinstance(error, MemoryError):
        raise MemoryError("out of memory while an image was decoded; use smaller batches, or fewer workers") from error
    if isinstance(error, OSError) and error.errno:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise OSError(
                error.errno,
                f"{os.strerror(error.errno)}: raise the limit (ulimit -n) or close some; images were not judged by it",
                error.filename,
            ) from error
        return os.strerror(error.errno)
    kind, text = type(error), str(error)
    if "cannot identify" in text:
        text = "not an image that can be identified"
    elif kind not in SPEAKING and kind.__module__.partition(".")[0] not in DECODERS:
        text = f"{kind.__name__}: {text}" if text else ""
    return text[:LONGEST_REASON] or kind.__name__


def open_encoded(file: BinaryIO) -> Image.Image:
    """What PIL's open gives, without its own limit on pixels, which a source judges before anything is decoded."""
    start = file.read(16)
    file.seek(0)
    for magic, opener in OPENERS.items():
        if start.startswith(magic) and (magic != b"RIFF" or start[8:12] == b"WEBP"):
            return opener(file)
    return Image.open(file)


def open_content(content: bytes | memoryview) -> Image.Image:
    """The image in the content of a file, opened with PIL and not decoded yet."""
    return open_encoded(io.BytesIO(content))


def too_large(height: int, width: int, max_pixels: int) -> str:
    """The reason for refusing an image of more than max_pixels; empty for one that is small enough."""
    if height * width <= max_pixels:
        return ""
    return f"its {height} x {width} pixels are more than max_pixels={max_pixels}"


def _refusal(image: Image.Image, orientation: int) -> str:
    if max(image.size) > LONGEST_SIDE:
        return f"its header claims {image.height} x {image.width} pixels"
    if image.format not in FORMATS:
        return f"its content is {image.format}, which not every backend decodes"
    if image.format == "TIFF" and orientation != 1:
        return "a TIFF with an orientation, which libraries read differently; save it upright"
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        return "its pixels are 32 bits deep, a range without a defined white; save it with 8 or 16 bits"
    if image.format == "TIFF" and image.mode not in TIFF_MODES:
        return f"a TIFF of mode {image.mode}, which libraries read differently; save it as gray or RGB"
    if image.format == "TIFF" and (problem := _unlike_in_tiff(image)):
        return f"a TIFF with {problem}, which libraries read differently; save it as gray or RGB of 8 bits"
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        return "a CMYK JPEG that does not say whether its inks are inverted, which libraries read differently; save it as RGB"
    if image.format != "TIFF" and orientation_in(_exif_of(image)) is None:
        return "its EXIF has an orientation and is damaged, which libraries read differently; save it anew"
    if isinstance(image, JpegImagePlugin.JpegImageFile) and _is_turned_otherwise(image, orientation):
        return "a JPEG with several EXIF orientations, which libraries read differently; save it anew"
    if isinstance(image, BmpImagePlugin.BmpImageFile):
        if any(mode in str(image.tile) for mode in ("BGR;15", "BGR;16")):
            return "a BMP of 16 bits per pixel, which libraries read differently; save it with 24"
        if _is_cut_off(image):
            return "a BMP that was cut off"
    if isinstance(image, WebPImagePlugin.WebPImageFile) and _is_lost_to_dali(image):
        return "a WebP whose EXIF comes after a part of odd length, which not every backend decodes; save it without EXIF"
    if isinstance(image, PngImagePlugin.PngImageFile) and image.default_image:
        return "an animated PNG whose still picture is no frame of it, which libraries read differently; save one frame"
    return ""


def _is_cut_off(image: BmpImagePlugin.BmpImageFile) -> bool:
    """Whether a BMP that is not packed ends before its last row, the padding included: some decoders make a picture of it."""
    (kind, _, offset, arguments), *_ = image.tile
    if kind != "raw":
        return False
    assert image.fp is not None
    assert isinstance(arguments, tuple)
    image.fp.seek(0, os.SEEK_END)
    stride: int = arguments[1]
    return image.fp.tell() < offset + stride * image.height


def _is_lost_to_dali(image: WebPImagePlugin.WebPImageFile) -> bool:
    """Whether a WebP has EXIF behind a chunk of odd length: DALI (2.4) takes the byte that pads it for the next one's first."""
    if "exif" not in image.info:
        return False
    assert image.fp is not None
    image.fp.seek(12)
    is_odd = False
    while len(head := image.fp.read(8)) == 8 and head[:4] != b"EXIF":
        length = int.from_bytes(head[4:], "little")
        is_odd |= length % 2 == 1
        image.fp.seek(length + length % 2, os.SEEK_CUR)
    return is_odd


def _unlike_in_tiff(image: Image.Image) -> str:
    """What PIL and DALI read differently in a TIFF whose mode they share; empty for nothing."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    bits, formats = image.tag_v2.get(BITS_TAG, (1,)), image.tag_v2.get(SAMPLE_FORMAT_TAG, (1,))
    if not set(bits) <= {1, 8, 16} or (image.mode == "CMYK" and set(bits) != {8}):
        return f"samples of {max(bits)} bits"
    if set(formats) - {1}:
        return "signed samples"
    return "colours multiplied by their alpha" if image.tag_v2.get(EXTRA_SAMPLES_TAG, (0,))[0] == 1 else ""


def _is_turned_otherwise(image: JpegImagePlugin.JpegImageFile, orientation: int) -> bool:
    """Whether segments of EXIF may say several orientations: DALI would write beyond the picture then (2.4, if it turns)."""
    segments = {content for marker, content in image.applist if marker == "APP1" and content.startswith(EXIF)}
    return len(segments) > 1 and not all(_agrees(content, orientation) for content in segments)


def _agrees(exif: bytes, orientation: int) -> bool:
    """Whether EXIF says this in the usual way, once, or cannot say anything: DALI also reads tags that PIL finds damaged."""
    usual = [struct.pack(order + "HHIH", ORIENTATION, 3, 1, orientation) for order in "<>"]
    count = sum(exif.count(tag[:2]) for tag in usual)
    return count == 0 or (count == 1 and any(tag in exif for tag in usual))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none: not XMP's, and not a PNG's after its pixels."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        orientation = image.tag_v2.get(ORIENTATION)
        return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT
    return orientation_in(_exif_of(image)) or UPRIGHT


def _exif_of(image: Image.Image) -> bytes:
    """EXIF from its byte order on; without what a JPEG's segment begins with, which PIL puts before a PNG's, too."""
    exif: bytes = image.info.get("exif", b"")
    return exif if isinstance(image, WebPImagePlugin.WebPImageFile) else exif.removeprefix(EXIF)


def is_reducible(image: Image.Image) -> bool:
    """Whether an image is one that hjepa's decoder takes, and so can reduce (kernels/csrc/jpeg).

    A JPEG is, gray or YCbCr of usual sampling. Of what only few have PIL does not tell: tables of 16 bits, several scans that
    are not progressive, progressive ones of which some are missing, arithmetic codes.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return False
    names, sampling = [layer[0] for layer in image.layer], [layer[1:3] for layer in image.layer]
    if len(names) == 1:
        return True
    is_ycc = "jfif" in image.info or image.info.get("adobe_transform", 1 if names == [1, 2, 3] else 0) == 1
    return is_ycc and sampling[0] in ((1, 1), (2, 1), (2, 2)) and sampling[1:] == [(1, 1), (1, 1)]


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    turn = TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)
