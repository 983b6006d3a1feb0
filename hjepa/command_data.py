"""The images that a command works on: what the user names, or the sample images that hjepa draws itself."""

from functools import partial

from hjepa import sample_data
from hjepa.display import Display
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.source import Source
from hjepa.unread_files import in_words, unread_files

SHOWN_BAD_IMAGES = 5
FEW_SAMPLES = 20
"""Sample images that are made where fewer are needed, so that not every number of them has a folder of its own."""


def open_data(data: str | None, display: Display, needed: int = sample_data.COUNT) -> Source:
    """The source at that place, see open_source; for None the sample images, of which no more are made than are needed."""
    if data is None:
        count, folder = sample_data.COUNT, sample_data.default_folder()
        if needed < count and not folder.exists():
            count = max(needed, FEW_SAMPLES)
            folder = sample_data.default_folder(count)
        sample_data.make(
            folder, count, progress=lambda done: display.show(f"making {count} sample images in {folder}", done, count)
        )
        data = str(folder)
    source = open_source(data, progress=partial(display.show, f"reading the headers of {data}"))
    display.clear()
    return source


def say_left_out(source: Source, display: Display) -> None:
    """Names the first of the files that were left out when the source was opened, and counts the others, also by their form."""
    for bad in source.bad[:SHOWN_BAD_IMAGES]:
        display.say(f"  left out: {bad.path}: {bad.reason}")
    if len(source.bad) > SHOWN_BAD_IMAGES:
        display.say(f"  left out: {len(source.bad) - SHOWN_BAD_IMAGES} more unreadable files")
    if unread := unread_files(source):
        display.say(f"note: {in_words(unread)} in {source.name} are not read")
