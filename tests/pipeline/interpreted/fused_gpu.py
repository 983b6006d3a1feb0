"""The GPU's fused backend in Triton's interpreter, on the CPU: the batches of the native one, all of an epoch.

    TRITON_INTERPRET=1 python tests/pipeline/interpreted/fused_gpu.py

Run by `test_fused_gpu.py`.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hjepa.kernels import fused_crops_triton
from hjepa.pipeline import loader
from hjepa.pipeline.backend import open_backend
from hjepa.pipeline.backends.fused_gpu import FusedGpuBackend
from hjepa.pipeline.presets.dino import dino
from tests.kernels.interpreted.quicker import hurry

RECIPE = replace(dino(1), views=tuple(replace(view, size=view.size // 12) for view in dino(1).views))
SIZES = [(20, 30), (31, 17), (25, 25), (40, 9), (16, 16)]


def batches(folder: Path) -> list[loader.Batch]:
    with loader.Loader(folder, RECIPE, backend="fused", device="cpu", batch_size=2, tail="keep", epochs=1) as opened:
        return list(opened)


def main() -> None:
    """Prints how many batches were equal; anything else is an error."""
    hurry()
    fused_crops_triton.RESIZE |= {"Y": 32, "GROUPS": 16}  # the interpreter takes its time by the operation, not by the number
    fused_crops_triton.BLUR["Y"] = 32
    chance = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (height, width) in enumerate(SIZES):
            pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
        native = batches(folder)
        loader.open_backend = lambda name, settings: FusedGpuBackend(settings)
        interpreted = batches(folder)
        loader.open_backend = open_backend
    for one, other in zip(native, interpreted, strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        assert torch.equal(one.globals, other.globals)
        assert torch.equal(one.locals, other.locals)
    print(f"{len(native)} batches equal")


if __name__ == "__main__":
    sys.exit(main())
