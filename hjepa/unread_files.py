"""Files of a folder that hold images, too, but in forms that hjepa does not read: that they are not used should be said."""

from collections import Counter

from hjepa.pipeline.folder import FolderSource
from hjepa.pipeline.source import Source

PICTURES = ".apng .arw .avif .cr2 .dng .exr .gif .heic .heif .jp2 .jxl .nef .pgm .ppm .psd .raw .svg .tga"
PACKED = ".7z .bz2 .gz .h5 .hdf5 .npy .npz .parquet .rar .tar .tgz .zip"
ENDINGS = frozenset(f"{PICTURES} {PACKED}".split())
"""Of files that hold images, as far as an ending tells; notes and tables are no loss."""


def unread_files(source: Source) -> dict[str, int]:
    """Ending -> how many such files there are, most first; nothing for other sources."""
    if not isinstance(source, FolderSource):
        return {}
    found = Counter[str]()
    for ending, count in source.others.items():
        if ending.lower() in ENDINGS:
            found[ending.lower()] += count
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def what_to_do(unread: dict[str, int]) -> str:
    """What makes images of them that are read."""
    ways = {"unpack them": PACKED, "make JPEGs of them": PICTURES}
    return ", or ".join(way for way, endings in ways.items() if unread.keys() & endings.split())


def in_words(unread: dict[str, int]) -> str:
    """Such as 2 .heic, 1 .gif and 1 .tar."""
    *first, last = [f"{count} {ending}" for ending, count in unread.items()]
    return f"{', '.join(first)} and {last}" if first else last
