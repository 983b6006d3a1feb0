"""The images that a command works on: what the user names, or the sample images that hjepa draws itself."""

from hjepa import sample_data
from hjepa.display import Display
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.source import Source

SHOWN_BAD_IMAGES = 5


def open_data(data: str | None, display: Display) -> Source:
    """The source at that place, see open_source; the sample images, made where they are not there yet, for None."""
    if data is None:
        count, folder = sample_data.COUNT, sample_data.default_folder()
        sample_data.make(folder, progress=lambda done: display.show(f"making {count} sample images in {folder}", done, count))
        data = str(folder)
    place = data
    source = open_source(data, progress=lambda done, total: display.show(f"reading the headers of {place}", done, total))
    display.clear()
    return source


def say_left_out(source: Source, display: Display) -> None:
    """Names the first of the files that were left out when the source was opened, and counts the others."""
    for bad in source.bad[:SHOWN_BAD_IMAGES]:
        display.say(f"  left out: {bad.path}: {bad.reason}")
    if len(source.bad) > SHOWN_BAD_IMAGES:
        display.say(f"  left out: {len(source.bad) - SHOWN_BAD_IMAGES} more unreadable files")
