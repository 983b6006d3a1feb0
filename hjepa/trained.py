"""Trained encoders: what a checkpoint's features are worth, and its encoder as a file for timm.

The exported model is timm's VisionTransformer without a class token, its tokens averaged after the last norm. The positions,
fixed sines and cosines here, are written as timm's learned ones for the image size of the run; timm resamples them for others,
where hjepa would compute them anew.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from hjepa import checkpoint
from hjepa.assembly import open_source
from hjepa.configs.load import settings_from_plain
from hjepa.configs.schema import Settings
from hjepa.evaluate import Evaluation, measure
from hjepa.model_assembly import Model, build_model
from hjepa.models.block import Block
from hjepa.models.positions import grid_positions
from hjepa.models.vit import VisionTransformer
from hjepa.named_data import WITH_SPLITS, Split
from hjepa.pipeline.device import resolve_device
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD, Channels


def load_model(path: Path, changes: Mapping[str, object]) -> tuple[Model, Settings]:
    """The model of a checkpoint and the settings of its run, with changes by dotted path (None: no change)."""
    state = checkpoint.load(path, torch.device("cpu"))
    try:
        plain = _for_other_images(state["settings"])
    except (KeyError, TypeError) as error:
        raise checkpoint.CheckpointError(
            f"{path} is not a checkpoint of hjepa: its settings are not those of a run ({error}); give another"
        ) from error
    settings = settings_from_plain(plain, changes)
    model = build_model(settings, resolve_device(settings.device))
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise checkpoint.CheckpointError(
            f"{path} does not hold the weights of the model that its settings describe: it is damaged, or another hjepa's; "
            "give another"
        ) from error
    return model, settings


def _for_other_images(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings without what was said of its own images and its own machine. Raises KeyError where they are none."""
    settings["evaluation"]["linear_probe"] |= {"dataset": None, "data_path": ""}  # the probe reads the images that are named
    # The numbers of the run, also for other images; where it is too old to say, they were ImageNet's.
    settings["data"] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, **settings["data"]}
    # The GPU that it was tuned for may not be here; and not all data can be verified.
    settings["data"] |= {"decoder": "auto", "hw_decoder_load": 1.0, "verify": False}
    settings["training"]["compile"] = False  # takes longer than to read the images once, and asks for a compiler
    return settings


def evaluate(
    path: Path, changes: Mapping[str, object], progress: Callable[[str, int, int], None], split: Split | None = None
) -> Evaluation:
    """Measures the features of a checkpoint on the data that the settings, so changed, name; of splits on train without."""
    model, settings = load_model(path, changes)
    data = settings.data.dataset
    if split is not None and data not in WITH_SPLITS:
        raise ValueError(f"--split {split} has no effect on data.dataset={data}, all of which is read; leave it out")
    own: Split = split or "train"
    try:
        source = open_source(settings, progress, own)
    except ValueError as error:
        place = settings.data.data_path
        if not place or changes.get("data.data_path") or Path(place).expanduser().is_absolute():
            raise
        seen = f"the run read {place}, seen from the folder that it began in"
        raise ValueError(f"{error}; {seen}: evaluate there, or say with --data-path where they are") from error
    found = measure(model, source, settings, partial(progress, "reading features"))
    return replace(found, split=own if data in WITH_SPLITS else None)


def export(path: Path, output: Path) -> dict[str, Any]:
    """Writes the teacher's encoder of a checkpoint: export_encoder."""
    model, settings = load_model(path, {"device": "cpu"})
    return export_encoder(model.teacher, settings.data.image_size, output, settings.data.mean, settings.data.std)


def export_encoder(
    encoder: VisionTransformer,
    image_size: int,
    output: Path,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
) -> dict[str, Any]:
    """Writes an encoder, also one that was trained otherwise (multicrop_trainer.py), for images of that many pixels a side.

    Returns the arguments of timm's VisionTransformer that the file fits strictly. mean, std: those of the recipe it was trained
    with, which the file's metadata keep.
    """
    if output.suffix != ".safetensors":
        raise ValueError(f"{output} does not end with .safetensors, which is what is written; rename it")
    block = encoder.blocks[0]
    assert isinstance(block, Block)
    arguments: dict[str, Any] = {
        "img_size": image_size,
        "patch_size": encoder.patch_size,
        "embed_dim": encoder.width,
        "depth": len(encoder.blocks),
        "num_heads": block.attn.num_heads,
        "mlp_ratio": _ratio(block.mlp.fc1.weight.shape[0], encoder.width),
        "class_token": False,
        "global_pool": "avg",
        "fc_norm": False,
        "num_classes": 0,
    }
    if not output.parent.is_dir():
        raise ValueError(f"cannot write {output}: there is no folder {output.parent}; make it, or give another place")
    grid = encoder.grid(torch.empty(3, image_size, image_size, device="meta"))
    positions = grid_positions(grid, encoder.width, torch.device("cpu"))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    metadata = {"timm": json.dumps(arguments), "mean": json.dumps(mean), "std": json.dumps(std)}
    _write_whole(output, save({"pos_embed": positions.unsqueeze(0), **weights}, metadata))
    return arguments


def _write_whole(output: Path, content: bytes) -> None:
    """Writes a file, or leaves the one that was there. (safetensors' own file is its owner's alone to read.)"""
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, output)
    except OSError as error:
        with suppress(OSError):  # there may be nothing to remove
            partial.unlink()
        raise OSError(f"cannot write {output} ({error.strerror}); free some space there, or give another place") from error


def _ratio(hidden: int, width: int) -> float:
    """The number of which timm, which cuts width * number off, makes this hidden width: not always their quotient."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def loading(arguments: Mapping[str, Any], file: Path) -> str:
    """The Python that loads an exported encoder, and what it reads."""
    with safe_open(file, "pt") as opened:
        mean, std = (json.loads(opened.metadata()[name]) for name in ("mean", "std"))
    size = arguments["img_size"]
    written = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return (
        "from safetensors.torch import load_file\n"
        "from timm.models.vision_transformer import VisionTransformer\n"
        f"model = VisionTransformer({written})\n"
        f"model.load_state_dict(load_file({str(file)!r}))\n"
        f"# It reads images [B, 3, {size}, {size}]: levels in [0, 1], less {mean}, divided by {std}\n"
    )
