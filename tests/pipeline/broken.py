"""45 odd and broken image files, made from one good picture: name -> content, and whether it can be used."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(height: int = 60, width: int = 80) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width))
    return Image.fromarray(np.stack([rows * 2 + noise, columns * 2 + noise, rows + columns], axis=-1).astype(np.uint8))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, without the pixels to fill it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def jpeg_of_size(content: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header."""
    start = content.index(b"\xff\xc0") + 5
    return content[:start] + struct.pack(">HH", height, width) + content[start + 4 :]


def good_files() -> dict[str, bytes]:
    """Odd, but whole."""
    image = picture()
    jpeg = encode(image, "JPEG", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return {
        "plain.jpg": jpeg,
        "trailing.jpg": jpeg + b"garbage" * 10,
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "gray.jpg": encode(image.convert("L"), "JPEG"),
        "print.jpg": encode(image.convert("CMYK"), "JPEG"),
        "turned.jpg": encode(image, "JPEG", exif=exif),
        "full_chroma.jpg": encode(image, "JPEG", subsampling=0),
        "no_tables.jpg": encode(image, "JPEG", quality=1),
        "png_inside.jpg": encode(image, "PNG"),
        "jpeg_inside.png": jpeg,
        "alpha.png": encode(image.convert("RGBA"), "PNG"),
        "gray_alpha.png": encode(image.convert("LA"), "PNG"),
        "palette.png": encode(image.convert("P"), "PNG"),
        "one_bit.png": encode(image.convert("1"), "PNG"),
        "deep.png": encode(deep, "PNG"),
        "lossy.webp": encode(image, "WEBP"),
        "lossless.webp": encode(image, "WEBP", lossless=True),
        "animated.webp": encode(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "plain.bmp": encode(image, "BMP"),
        "plain.tif": encode(image, "TIFF"),
        "packed.tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "tiny.png": encode(picture(1, 1), "PNG"),
        "wide.jpg": encode(picture(3, 400), "JPEG"),
    }


def bad_files() -> dict[str, bytes]:
    """Cannot be used."""
    image = picture()
    jpeg, png = encode(image, "JPEG", quality=90), encode(image, "PNG")
    webp, bmp, tiff = encode(image, "WEBP"), encode(image, "BMP"), encode(image, "TIFF")
    broken_png = bytearray(png)
    broken_png[len(png) // 2] ^= 0xFF
    return {
        "half.jpg": jpeg[: len(jpeg) // 2],
        "tenth.jpg": jpeg[: len(jpeg) // 10],
        "most.jpg": jpeg[: len(jpeg) * 9 // 10],
        "header.jpg": jpeg[:100],
        "two_bytes.jpg": jpeg[:2],
        "half_progressive.jpg": encode(image, "JPEG", progressive=True)[:1500],
        "zero.jpg": b"",
        "zeros.jpg": bytes(5000),
        "text.jpg": b"this is no image",
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "random.jpg": np.random.default_rng(1).integers(0, 256, 3000, dtype=np.uint8).tobytes(),
        "animation.jpg": encode(image, "GIF"),
        "no_size.jpg": jpeg_of_size(jpeg, 0, 0),
        "bomb.png": png_of_size(20_000, 20_000),
        "bomb.jpg": jpeg_of_size(jpeg, 20_000, 20_000),
        "half.png": png[: len(png) // 2],
        "flipped.png": bytes(broken_png),
        "signature.png": png[:8],
        "short.png": png_of_size(300, 300),
        "half.webp": webp[: len(webp) // 2],
        "half.bmp": bmp[: len(bmp) // 2],
        "half.tif": tiff[: len(tiff) // 2],
    }
