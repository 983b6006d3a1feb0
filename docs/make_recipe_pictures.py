"""Writes a picture of each recipe into docs/recipe-pictures/: what it makes of one photograph, twice.

    python docs/make_recipe_pictures.py [--recipes dino dinov2 ...] [--output docs/recipe-pictures] [--seed 0]

On the left the photograph (Chelsea the cat, by Stefan van der Walt, CC0, from scikit-image) with the boxes that were drawn;
beside it the crops, one row for each name of the recipe, their sides in proportion. PNGs of photographs are large: JPEGs.
"""

import argparse
from pathlib import Path

import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFont

from hjepa.pipeline.backends.torchvision import render_image
from hjepa.pipeline.draws import ViewDraws, draw
from hjepa.pipeline.presets import PRESETS, preset
from hjepa.pipeline.recipe import Recipe
from hjepa.view import to_picture

LARGEST, SMALLEST, SOURCE, GAP, LINE = 112, 40, 224, 4, 2
"""In pixels of the picture: sides of the largest and smallest crop, width of the photograph, space between things, line."""
ALIKE = {"dinov3": "dinov2"} | {f"dinov3-highres-768-{local}-1152": "dinov3-gram" for local in (112, 168, 224, 336)}
"""Recipes that would give the picture of another one, but for sizes."""
SHOWN = [name for name in PRESETS if name not in ALIKE]
EDGES = ("#ffb000", "#4fc3f7", "#7cd67c")
"""Colours of the boxes of the first, second and third name of a recipe."""


def main() -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipes", nargs="*", default=SHOWN, help="names of presets; without: all that look different")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "recipe-pictures", help="folder of the pictures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    photograph = Image.fromarray(skimage.data.chelsea())
    for name in arguments.recipes:
        path = arguments.output / f"{name}.jpg"
        picture(preset(name), photograph, arguments.seed).save(path, quality=72, optimize=True)
        print(path)


def picture(recipe: Recipe, photograph: Image.Image, seed: int, samples: int = 2) -> Image.Image:
    """One strip for each sample, below each other."""
    sizes = np.array([[photograph.height, photograph.width]] * samples, dtype=np.int32)
    draws = draw(recipe, seed, 0, np.arange(samples), sizes)
    strips = []
    for sample in range(samples):
        rows = []
        for name, crops in render_image(photograph, recipe, draws, sample).items():
            side = max(SMALLEST, LARGEST * crops.shape[-1] // max(view.size for view in recipe.views))
            images = [Image.fromarray((to_picture(crop, recipe) * 255).astype(np.uint8)) for crop in crops]
            shown = [image.resize((side, side), Image.Resampling.LANCZOS) for image in images]
            rows.append(beside([label(f"{name} {crops.shape[-1]}"), *shown]))
        boxes = with_boxes(photograph, [draws.views[name] for name in draws.views], sample)
        strips.append(beside([boxes, below(rows)]))
    return below(strips)


def with_boxes(photograph: Image.Image, views: list[ViewDraws], sample: int) -> Image.Image:
    """The photograph, small, with every box; one that views share is drawn for each of them, inside of the one before."""
    scale = SOURCE / photograph.width
    small = photograph.resize((SOURCE, round(photograph.height * scale)), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(small)
    drawn: list[tuple[int, ...]] = []
    for place, view in enumerate(views):
        for top, left, height, width in (view.box[sample] * scale).round().astype(int).tolist():
            right, bottom = min(left + width, small.width) - 1, min(top + height, small.height) - 1
            box = (left, top, right, bottom)
            inset = LINE * drawn.count(box)
            drawn.append(box)
            inside = (left + inset, top + inset, right - inset, bottom - inset)
            pen.rectangle(inside, outline=EDGES[place % len(EDGES)], width=LINE)
    return small


def label(text: str) -> Image.Image:
    """The text of a row, as wide for every row."""
    image = Image.new("RGB", (70, 16), "white")
    ImageDraw.Draw(image).text((0, 1), text, fill="black", font=ImageFont.load_default(size=11))
    return image


def beside(images: list[Image.Image]) -> Image.Image:
    """Images in a row."""
    whole = Image.new("RGB", (sum(each.width + GAP for each in images), max(each.height for each in images)), "white")
    left = 0
    for each in images:
        whole.paste(each, (left, 0))
        left += each.width + GAP
    return whole


def below(images: list[Image.Image]) -> Image.Image:
    """Images in a column."""
    whole = Image.new("RGB", (max(each.width for each in images), sum(each.height + GAP for each in images)), "white")
    top = 0
    for each in images:
        whole.paste(each, (0, top))
        top += each.height + GAP
    return whole


if __name__ == "__main__":
    main()
