"""A contact sheet as one HTML page, which needs no network: hovering a crop shows where it comes from and what is hidden of it.

Pictures are in the page itself.
"""

import base64
import io
from html import escape
from importlib import resources

from PIL import Image

from hjepa.contact_picture import colour
from hjepa.contact_sheet import Pixels, Sheet, ShownCrop, ShownImage, thumbnail
from hjepa.mask_veil import colour_of, name_of, opacity_of
from hjepa.pipeline.mask_panel import Roles
from hjepa.pipeline.scan import Progress

LONGEST = 720
"""Pixels of a source's longer side in the page."""
SHARP = 64
"""Crops of fewer pixels are enlarged pixel by pixel: what is smooth would not be what the model sees."""


def page(sheet: Sheet, progress: Progress) -> str:
    """The whole page."""
    assets = {name: (resources.files("hjepa") / f"contact_page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    sections = []
    for number, image in enumerate(sheet.images):
        sections.append(_image(number, image))
        progress(number + 1, len(sheet.images))
    shown = {int(role) for image in sheet.images for crop in image.crops for level in crop.levels for role in level.flat}
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crops of {escape(sheet.title)}</title>
<style>{assets["css"]}</style>
<header>
<h1>What the model sees</h1>
<p>{escape(sheet.title)}</p>
<p class="hint">Point at a crop, or go to it with Tab: its box lights up in the source. Point at a level: its blocks, too.</p>
{_legend(shown)}
</header>
<main>
{"".join(sections)}
</main>
<script>{assets["js"]}</script>
</html>
"""


def _image(number: int, image: ShownImage) -> str:
    height, width = image.pixels.shape[:2]
    names = dict.fromkeys(crop.name.rpartition(" ")[0] for crop in image.crops)
    rows = []
    for name in names:
        own = [(place, crop) for place, crop in enumerate(image.crops) if crop.name.rpartition(" ")[0] == name]
        rows.append(f'<div class="row">{"".join(_crop(number, place, crop) for place, crop in own)}</div>')
    boxes = "\n".join(_box(number, place, crop) for place, crop in enumerate(image.crops))
    label = f" <span>{escape(image.label)}</span>" if image.label else ""
    return f"""<section>
<figure class="source">
<svg viewBox="0 0 {width} {height}" role="img" aria-label="source image with the boxes of its crops">
<image href="{_uri(thumbnail(image.pixels, LONGEST), "JPEG")}" width="{width}" height="{height}"/>
{boxes}
</svg>
<figcaption><b>{escape(image.key)}</b>{label}<br>{width}x{height} px</figcaption>
</figure>
<div class="crops">{"".join(rows)}</div>
</section>"""


def _box(image: int, place: int, crop: ShownCrop) -> str:
    """A crop's box over the source, with each level of its masks in it, turned as the crop is."""
    top, left, height, width = crop.box
    levels = []
    for level, shown in enumerate(crop.levels):
        rows, columns = shown.shape
        turn = f"translate({left + width} {top}) scale({-width / columns:.5f} {height / rows:.5f})"
        if not crop.flip:
            turn = f"translate({left} {top}) scale({width / columns:.5f} {height / rows:.5f})"
        levels.append(f'<use href="#m{image}-{place}-{level}" class="placed" data-level="{level}" transform="{turn}"/>')
    return (
        f'<g class="box" data-crop="{image}-{place}" style="--own:{colour(place)}">{"".join(levels)}'
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}"/></g>'
    )


def _crop(image: int, place: int, crop: ShownCrop) -> str:
    own = f"{image}-{place}"
    levels = "".join(_level(own, level, shown, crop) for level, shown in enumerate(crop.levels))
    masks = f'<div class="levels">{levels}</div>' if levels else ""
    words = "".join(f"<li>{escape(part)}</li>" for part in crop.words)
    kind = " large" if len(crop.levels) > 1 or crop.name.startswith("global") else ""
    sharp = ' class="sharp"' if crop.pixels.shape[0] < SHARP else ""
    picture = (
        f'<image id="c{own}"{sharp} href="{_uri(crop.pixels, "PNG")}" width="1" height="1"/>'  # once: the levels point to it
    )
    return (
        f'<figure class="crop{kind}" tabindex="0" data-crop="{own}" style="--own:{colour(place)}">'
        f'<svg class="picture" viewBox="0 0 1 1" role="img" aria-label="{escape(crop.name)}">{picture}</svg>'
        f"<figcaption><b>{escape(crop.name)}</b><ul>{words}</ul></figcaption>{masks}</figure>"
    )


def _level(own: str, level: int, shown: Roles, crop: ShownCrop) -> str:
    rows, columns = shown.shape
    side = crop.pixels.shape[0]
    covered = side / (side // rows)  # patches that the whole crop is wide: what is left over is in none
    return (
        f'<div class="level" data-level="{level}"><svg viewBox="0 0 {columns} {rows}" role="img" '
        f'aria-label="{escape(crop.name)}, masks of level {level}">'
        f'<use href="#c{own}" transform="scale({covered:g})"/><g id="m{own}-{level}">{_paths(shown)}</g></svg>'
        f"<span>level {level}</span></div>"
    )


def _paths(shown: Roles) -> str:
    """One path for each role: the squares of its patches."""
    squares: dict[int, list[str]] = {}
    for row, line in enumerate(shown.tolist()):
        for column, role in enumerate(line):
            squares.setdefault(role, []).append(f"M{column} {row}h1v1h-1z")
    return "".join(
        f'<path d="{"".join(own)}" fill="{colour_of(role)}" fill-opacity="{opacity_of(role)}"/>'
        for role, own in sorted(squares.items())
    )


def _legend(shown: set[int]) -> str:
    entries = "".join(f'<li><i style="background:{colour_of(role)}"></i>{name_of(role)}</li>' for role in sorted(shown))
    return f'<ul class="legend">{entries}</ul>' if entries else ""


def _uri(pixels: Pixels, kind: str) -> str:
    """The picture in the page's own text: a crop without loss, a source as a JPEG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, quality=90)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
