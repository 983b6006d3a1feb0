"""Makes the sample data set that `hjepa-train` uses when it is given no data: photo-like JPEG files of ten textures.

The class is the structure that fills the picture (bricks, rings, stripes, ...), because that survives cropping, flipping,
colour jitter, grayscale and blur. Everything else (palette, light, clutter, angle, scale, polarity, picture size) is drawn
without regard to the class, so that mean colour does not tell the classes apart, and raw pixels and an untrained network do it
poorly; a rising nearest-neighbour accuracy shows that training works.
"""

import io
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from hjepa.pipeline.index import cache_folder, remove_left

# H, W: height and width of the canvas; a Field is float32 [H, W], a Picture float32 [3, H, W] in 0..1
Field: TypeAlias = npt.NDArray[np.floating]
Picture: TypeAlias = npt.NDArray[np.floating]
Rng: TypeAlias = np.random.Generator
Texture: TypeAlias = Callable[[Field, Field, Rng], Field]

COUNT = 2000
VERSION = 1
"""Part of the folder's name: raise it whenever a change makes other pixels."""
COMPLETE = "complete.json"
CANVAS = 320
"""Long side that is computed, in pixels; the rest is enlargement and camera noise: four times as fast as full size."""


def default_folder(count: int = COUNT) -> Path:
    """Where the sample data set of so many images lives: in the cache folder."""
    return cache_folder() / f"sample-{count}-v{VERSION}"


def make(folder: str | Path, count: int = COUNT, seed: int = 0, progress: Callable[[int], None] | None = None) -> Path:
    """Fills the folder with count images as <class>/<number>.jpg, unless it holds them already; calls progress(number made)."""
    if count < 1:
        raise ValueError(f"count={count} images cannot be made; ask for at least 1")
    folder = Path(folder)
    if _is_complete(folder, count, seed):
        return folder
    remove_left(folder.parent, f"{folder.name}.partial-{'[0-9a-f]' * 8}")
    partial = folder.with_name(f"{folder.name}.partial-{secrets.token_hex(4)}")
    try:
        with _explained(folder):
            for name in TEXTURES:
                (partial / name).mkdir(parents=True)
        _write_images(partial, folder, count, seed, progress)
        with _explained(folder):
            (partial / COMPLETE).write_text(json.dumps(_description(count, seed)) + "\n")
        _move(partial, folder, count, seed)
    except BaseException:  # also Ctrl-C: half a data set must never be taken for a whole one
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder


def render(number: int, seed: int = 0) -> Image.Image:
    """Image `number`: its class is the (number modulo 10)th, all else comes from the chance of (seed, number)."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, number], dtype=np.uint64)))
    texture = list(TEXTURES.values())[number % len(TEXTURES)]
    long = round(rng.triangular(400, 400, 800))  # small ones are more frequent: they cost less
    size = (long, max(300, round(long / rng.uniform(1, 1.7))))
    canvas = (CANVAS, round(CANVAS * size[1] / size[0]))
    if rng.random() < 0.5:
        size, canvas = size[::-1], canvas[::-1]
    planes = np.clip(_paint(rng, texture, canvas) * 255, 0, 255).astype(np.uint8)
    image = Image.merge("RGB", [Image.fromarray(plane) for plane in planes])
    return _expose(rng, image.resize(size, Image.Resampling.BICUBIC))


def _description(count: int, seed: int) -> dict[str, int]:
    return {"version": VERSION, "count": count, "seed": seed}


def _is_complete(folder: Path, count: int, seed: int) -> bool:
    """True if the folder holds exactly this data set, False if it can be made there; anything else is an error."""
    with _explained(folder):
        if not folder.exists() or not any(folder.iterdir()):
            return False
        marker = folder / COMPLETE
        found = json.loads(marker.read_text()) if marker.is_file() else "files that are not a sample data set"
    if found != _description(count, seed):
        raise ValueError(f"{folder} holds {found}, not {_description(count, seed)}; name another folder or delete this one")
    return True


def _write_images(partial: Path, folder: Path, count: int, seed: int, progress: Callable[[int], None] | None) -> None:
    # Threads: numpy and Pillow release the GIL, and a script without a main guard may call this, which processes forbid.
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    try:
        futures = [pool.submit(_write_image, partial, folder, number, seed) for number in range(count)]
        for made, future in enumerate(as_completed(futures), start=1):
            future.result()
            if progress is not None:
                progress(made)
    finally:
        pool.shutdown(cancel_futures=True)  # waits for running ones: nobody writes once the caller cleans up


def _write_image(partial: Path, folder: Path, number: int, seed: int) -> None:
    encoded = io.BytesIO()
    render(number, seed).save(encoded, "JPEG", quality=80 + number // len(TEXTURES) % 16)
    with _explained(folder):
        (partial / list(TEXTURES)[number % len(TEXTURES)] / f"{number:05d}.jpg").write_bytes(encoded.getvalue())


def _move(partial: Path, folder: Path, count: int, seed: int) -> None:
    try:
        with _explained(folder):
            partial.rename(folder)
    except OSError:
        if not _is_complete(folder, count, seed):
            raise
        shutil.rmtree(partial)  # another process finished the same data set first: use that one


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "free some space there (the default set takes about 100 MB) or set HJEPA_CACHE to a folder you can write to"
        raise OSError(error.errno, f"cannot write the sample data set: {error.strerror}; {advice}", str(folder)) from error


def _paint(rng: Rng, texture: Texture, canvas: tuple[int, int]) -> Picture:
    """Two materials in the class's structure, worn in places, over clutter and in the light of one scene."""
    structure = texture(*_coordinates(rng, canvas), rng)
    worn = np.clip(1.2 + 0.4 * _noise(rng, canvas, (2, 4)), 0.4, 1)
    relief = (structure - 0.5) * (worn if rng.random() < 0.5 else -worn)
    base, other, drift = (_colour(rng) for _ in range(3))
    step = other - base
    step += (1 if step.sum() > 0 else -1) * rng.uniform(0.3, 0.45)  # grayscale must leave a contrast
    clutter = _noise(rng, canvas, (1, 2, 4, 8))
    light = _light(rng, relief) * np.exp(rng.uniform(0.08, 0.18) * _noise(rng, canvas, (3, 6, 12, 24, 48, 96)))
    planes = zip((base + other) / 2, step, 0.3 * (drift - base), strict=True)
    return np.stack([(middle + contrast * relief + stain * clutter) * light for middle, contrast, stain in planes])


def _light(rng: Rng, relief: Field) -> Field:
    """Light from one side that also shades the relief, vignetting, exposure."""
    height, width = relief.shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    y, x = y.astype(np.float32), x.astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    down, right = np.gradient(relief)
    bump = rng.uniform(0, 0.8) * (math.cos(angle) * right + math.sin(angle) * down)
    side = rng.uniform(0, 0.25) * (math.cos(angle) * x + math.sin(angle) * y)
    light: Field = (1 + bump + side - rng.uniform(0, 0.2) * (x * x + y * y)) * rng.uniform(0.75, 1.1)
    return light


def _expose(rng: Rng, image: Image.Image) -> Image.Image:
    """What the camera does at full size: sensor noise, and in a tenth of the cases a gray picture."""
    grain = int(rng.integers(1, 12))
    noise = Image.fromarray(rng.integers(0, 2 * grain + 1, image.size[::-1], dtype=np.uint8))
    if rng.random() < 0.1:
        return ImageChops.add(image.convert("L"), noise, offset=-grain)
    return ImageChops.add(image, Image.merge("RGB", [noise] * 3), offset=-grain)


def _colour(rng: Rng) -> Field:
    """A random colour, float32 [3] in 0..1: any hue, mostly muted as in nature."""
    value, saturation, hue = rng.uniform(0.35, 0.75), 0.6 * rng.beta(1.3, 2), rng.uniform(0, 2 * math.pi)
    wheel = 0.5 + 0.5 * np.cos(hue + np.arange(3) * 2 * math.pi / 3)
    colour: Field = (value * (1 - saturation * wheel)).astype(np.float32)
    return colour


def _noise(rng: Rng, canvas: tuple[int, int], octaves: tuple[int, ...]) -> Field:
    """Noise whose amplitude falls with its frequency (cells per side), as in natural images; about unit variance."""
    image = Image.new("F", (2, 2))
    for cells in octaves:  # each octave is added at its own resolution, only the sum is enlarged to the canvas
        grid = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32) * (octaves[0] / cells)
        image = Image.fromarray(grid + np.asarray(image.resize(grid.shape, Image.Resampling.BICUBIC)))
    return np.asarray(image.resize(canvas, Image.Resampling.BICUBIC))


def _coordinates(rng: Rng, canvas: tuple[int, int]) -> tuple[Field, Field]:
    """Where each pixel lies on the texture, in periods: turned, scaled, shifted, seen at a slant and gently bent."""
    width, height = canvas
    y, x = np.ogrid[-height / 2 : height / 2, -width / 2 : width / 2]
    y, x = (y / min(canvas)).astype(np.float32), (x / min(canvas)).astype(np.float32)
    turn, tilt = rng.uniform(-0.6, 0.6), rng.uniform(0, 2 * math.pi)  # radians; symmetric, so that flips change no law
    slant, bend = rng.uniform(0, 0.4), rng.uniform(0, 0.25)
    periods = math.exp(rng.uniform(math.log(4.5), math.log(8))) / (1 + slant * (math.cos(tilt) * x + math.sin(tilt) * y))
    u = (math.cos(turn) * x - math.sin(turn) * y) * periods + bend * _noise(rng, canvas, (2, 4))
    v = (math.sin(turn) * x + math.cos(turn) * y) * periods + bend * _noise(rng, canvas, (2, 4))
    return u, v


def _inside(distance: Field) -> Field:
    """1 where a signed distance (in periods) is negative, 0 where it is positive, with a soft edge."""
    covered: Field = np.clip(0.5 - distance / 0.12, 0, 1)
    return covered


def _scattered(u: Field, v: Field, rng: Rng) -> tuple[Field, Field]:
    """Coordinates around the centre of each pixel's own cell; rows are staggered, each cell is shifted and turned by itself."""
    row = np.floor(v)
    u = u + 0.5 * (row % 2)
    column = np.floor(u)
    own = (row.astype(np.intp) % 64, column.astype(np.intp) % 64)
    shifts, turns = rng.uniform(-0.1, 0.1, (2, 64, 64)).astype(np.float32), rng.uniform(0, 2 * math.pi, (64, 64))
    x, y = u - column - 0.5 + shifts[0][own], v - row - 0.5 + shifts[1][own]
    cosine, sine = np.cos(turns).astype(np.float32)[own], np.sin(turns).astype(np.float32)[own]
    return cosine * x - sine * y, sine * x + cosine * y


def _bricks(u: Field, v: Field, rng: Rng) -> Field:
    row = np.floor(v * 1.3)
    along, across = np.abs((u * 0.65 + 0.5 * (row % 2)) % 1 - 0.5), np.abs(v * 1.3 - row - 0.5)
    return _inside(np.maximum((along - 0.5) * 2, across - 0.5) + rng.uniform(0.08, 0.16))


def _cells(u: Field, v: Field, rng: Rng) -> Field:
    """Voronoi cells: near the edge between cells the nearest and the second nearest seed are equally far."""
    seeds = rng.uniform(0, 1, (2, 64, 64)).astype(np.float32)
    row, column = np.floor(v).astype(np.intp), np.floor(u).astype(np.intp)
    x, y = u - column.astype(np.float32), v - row.astype(np.float32)
    nearest = np.full_like(u, 9)
    second = nearest
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            own = ((row + down) % 64, (column + right) % 64)
            distance = np.hypot(right + seeds[0][own] - x, down + seeds[1][own] - y)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    return _inside(nearest - second + rng.uniform(0.12, 0.2))


def _checks(u: Field, v: Field, rng: Rng) -> Field:
    return _inside(np.sin(u * (1.2 * math.pi)) * np.sin(v * (1.2 * math.pi)) * 0.3)


def _crosses(u: Field, v: Field, rng: Rng) -> Field:
    x, y = (np.abs(part) for part in _scattered(u * 0.9, v * 0.9, rng))
    return _inside(np.maximum(np.maximum(x, y) - 0.42, np.minimum(x, y) - rng.uniform(0.08, 0.14)))


def _discs(u: Field, v: Field, rng: Rng) -> Field:
    return _inside(np.hypot(*_scattered(u, v, rng)) - rng.uniform(0.27, 0.4))


def _maze(u: Field, v: Field, rng: Rng) -> Field:
    """Waves of one length from all directions make a labyrinth."""
    total = np.zeros_like(u)
    for step in range(9):
        angle, phase = math.pi * (step + rng.uniform(0, 1)) / 9, rng.uniform(0, 2 * math.pi)
        total += np.sin(u * (7 * math.cos(angle)) + (v * (7 * math.sin(angle)) + phase))
    return _inside(total * 0.1)


def _rings(u: Field, v: Field, rng: Rng) -> Field:
    distance = np.hypot(*_scattered(u * 0.85, v * 0.85, rng))
    return _inside(np.abs(distance - 0.3) - rng.uniform(0.06, 0.1))


def _stripes(u: Field, v: Field, rng: Rng) -> Field:
    return _inside(np.abs(u * 1.2 % 1 - 0.5) - rng.uniform(0.15, 0.35))


def _triangles(u: Field, v: Field, rng: Rng) -> Field:
    """Three families of lines; crossing any line changes the sign of the product, so neighbours differ."""
    u, v = u * (0.75 * math.pi), v * (0.75 * math.pi)
    slope = math.sqrt(3) / 2
    return _inside(np.sin(u) * np.sin(u / 2 + v * slope) * np.sin(u / 2 - v * slope) * 0.5)


def _waves(u: Field, v: Field, rng: Rng) -> Field:
    zigzag = np.abs(v * 0.7 % 1 - 0.5) * rng.uniform(1.6, 2.2)
    return _inside(np.abs((u + zigzag) % 1 - 0.5) - rng.uniform(0.15, 0.35))


TEXTURES: dict[str, Texture] = {
    "bricks": _bricks,
    "cells": _cells,
    "checks": _checks,
    "crosses": _crosses,
    "discs": _discs,
    "maze": _maze,
    "rings": _rings,
    "stripes": _stripes,
    "triangles": _triangles,
    "waves": _waves,
}
"""Class name -> structure in 0..1 at texture coordinates (u, v), about one period per unit."""
