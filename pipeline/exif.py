"""The orientation in an image's EXIF, as DALI reads it, and where its readers disagree, which ends the process.

DALI (2.4) makes room for a picture by one reader's word, and some of its decoders turn it by another's. Where EXIF is damaged
the first gives up, as libpng does, and the second goes by what came before: it writes beyond the picture then. Both take any
type of number for the usual one, and neither is PIL's reader, which finds damage elsewhere.
"""

from collections.abc import Iterator
from functools import partial
from typing import Literal

ORIENTATION = 0x0112
UPRIGHT = 1
BYTE_ORDERS = (b"II*\0", b"MM\0*")
"""Of numbers: what EXIF begins with."""
MARK = 42
"""Stands behind the byte order."""
ENTRY = 12
"""Bytes of an entry: its tag, type, count, and value, or where that is."""
TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x8298)
"""Description, make, model, software, date and copyright."""
FRACTIONS = {0x011A: 1, 0x011B: 1, 0x013E: 2, 0x013F: 6, 0x0211: 3, 0x0214: 6}
"""Resolutions, white point, primaries, coefficients and reference levels: how many there are, of 8 bytes each."""
NUMBERS = (ORIENTATION, 0x0128, 0x0213)
"""The unit of resolutions and the place of colours are the others."""


def orientation_in(exif: bytes) -> int | None:
    """1 to 8, from EXIF that begins with its byte order; 1 where there is none. None where it depends on who reads it."""
    found, is_damaged = [], not exif.startswith(BYTE_ORDERS)
    try:
        for tag, value in _numbers(exif):
            if tag == ORIENTATION:
                found.append(value)
    except EOFError:
        is_damaged = True
    orientation = found[0] if found and 1 <= found[0] <= 8 else UPRIGHT
    return None if is_damaged and orientation != UPRIGHT else orientation


def _numbers(exif: bytes) -> Iterator[tuple[int, int]]:
    """Tags and values of the entries in NUMBERS. Raises EOFError for one that DALI looks at, and that is not wholly there."""
    read = partial(_read, exif, "little" if exif.startswith(b"II") else "big")
    if read(2, 2) != MARK:
        return
    start = read(4, 4)
    for number in range(read(start, 2)):
        at = start + 2 + ENTRY * number
        tag = read(at, 2)
        if tag in NUMBERS:
            yield tag, read(at + 8, 2)
        elif tag in TEXTS and (length := read(at + 4, 4)) > 4:  # else it is in the entry
            if read(at + 8, 4) + length > len(exif):
                raise EOFError
        elif tag in FRACTIONS:
            read(read(at + 8, 4) + 8 * FRACTIONS[tag] - 4, 4)


def _read(exif: bytes, order: Literal["little", "big"], at: int, size: int) -> int:
    if at + size > len(exif):
        raise EOFError
    return int.from_bytes(exif[at : at + size], order)
