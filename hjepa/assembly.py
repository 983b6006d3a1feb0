"""From settings to the data of a run: source, recipe, loaders and masks."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from hjepa import sample_data
from hjepa.configs.data_sections import MulticropSettings
from hjepa.configs.schema import Settings
from hjepa.distributed import share_of_workers
from hjepa.named_data import Split, open_named
from hjepa.pipeline.curriculum import Curriculum, Ramp, Steps
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.multicrop_masks import MultiCropMaskGenerator
from hjepa.pipeline.open_source import name_of
from hjepa.pipeline.presets.dino import dino
from hjepa.pipeline.presets.jepa import evaluation, multicrop
from hjepa.pipeline.recipe import Recipe, View
from hjepa.pipeline.source import Source

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""
MOVED = {
    "num_local_crops": "local.count",
    "global_crop_size": "global.size",
    "local_crop_size": "local.size",
    "global_crop_scale": "global.area",
    "local_crop_scale": "local.area",
}
"""What a phase of the curriculum may change, and its name in a recipe."""


def open_source(settings: Settings, progress: Progress, split: Split = "train") -> Source:
    """The images of the run; the sample data set is made where it is not there yet. Raises ValueError or OSError."""
    data = settings.data
    name, place = data.dataset, data.data_path
    if name == "sample":
        count, folder = sample_data.COUNT, sample_data.default_folder()
        sample_data.make(folder, progress=lambda done: progress(f"making {count} sample images in {folder}", done, count))
        name, place = "imagefolder", str(folder)

    told = partial(progress, f"reading the headers of {place}")
    return open_named(name, place, split, max_pixels=data.max_pixels, verify=data.verify, progress=told)


def open_probe_source(settings: Settings, progress: Progress) -> Source | None:
    """The labelled images that the linear probe reads in place of the run's own; None where it reads those, or is off."""
    data, probe = settings.data, settings.evaluation.linear_probe
    if not (probe.enabled and probe.data_path):
        return None
    told = partial(progress, f"reading the headers of {probe.data_path}")
    return open_named(probe.dataset or name_of(probe.data_path), probe.data_path, max_pixels=data.max_pixels, progress=told)


def build_recipe(settings: Settings) -> Recipe | Curriculum:
    """The crops that the settings ask for; a Curriculum where they follow the epochs."""
    data, crops = settings.data, settings.data.multicrop
    recipe = multicrop(
        num_global_crops=crops.num_global_crops if data.use_multicrop else 1,
        num_local_crops=crops.num_local_crops if data.use_multicrop else 0,
        global_crop_size=crops.global_crop_size if data.use_multicrop else data.image_size,
        local_crop_size=crops.local_crop_size,
        global_crop_scale=crops.global_crop_scale,
        local_crop_scale=crops.local_crop_scale,
        global_color_jitter=crops.global_color_jitter,
        local_color_jitter=crops.local_color_jitter,
        horizontal_flip_prob=crops.horizontal_flip_prob,
        orientation=data.orientation,
    )
    recipe = replace(recipe, decoding=data.decoding, mean=data.mean, std=data.std)
    if settings.objective == "dino":
        source = f"{dino().source}; sizes, areas and jitter are the settings'"
        recipe = replace(recipe, name="dino", source=source, views=_like_dino(recipe.views, settings.dino.blur_sigma))
    ramps = _ramps(crops) if data.use_multicrop else {}
    return Curriculum(recipe=recipe, ramps=ramps) if ramps else recipe


def _ramps(crops: MulticropSettings) -> dict[str, Ramp | Steps]:
    """What of the crops follows the epochs, and how."""
    ramps: dict[str, Ramp | Steps] = {}
    epochs, phases = zip(*crops.phases, strict=True)
    for name, path in MOVED.items():
        if any(name in phase.changes for phase in crops.curriculum):
            ramps[path] = Steps(epochs=epochs, values=tuple(getattr(phase, name) for phase in phases))
    if crops.adaptive:
        line = crops.adaptive_config
        ramps["local.count"] = Ramp(start=line.min_local_crops, end=line.max_local_crops, epochs=line.warmup_epochs)
    return ramps


def build_loader(settings: Settings, source: Source, purpose: Literal["train", "measure", "evaluate"]) -> Loader:
    """The loader for training or for measuring it, or one that yields the centre of every image once, in order."""
    data, training = settings.data, purpose != "evaluate"
    return Loader(
        source,
        build_recipe(settings) if training else _central_crop(settings),
        batch_size=data.batch_size,
        backend=data.pipeline,
        device=settings.device,
        seed=settings.seed,
        shuffle=training,
        tail="drop" if training else "keep",
        num_workers=share_of_workers(data.num_workers, data.pipeline),
        prefetch=data.prefetch,
        pin_memory=data.pin_memory,
        decoder=data.decoder,
        hw_decoder_load=data.hw_decoder_load,
        epochs=settings.training.epochs if training else 1,
        on_error=data.on_error,
        max_bad=data.max_bad,
        bad_images=settings.bad_images_file if purpose == "train" else None,  # evaluated images have other numbers
        rank="auto" if training else 0,  # whoever evaluates reads every image
        world_size="auto" if training else 1,
    )


def _central_crop(settings: Settings) -> Recipe:
    data = settings.data
    return replace(evaluation(data.image_size, data.orientation), mean=data.mean, std=data.std)


def build_masks(settings: Settings, epoch: int = 0) -> MultiCropMaskGenerator:
    """An epoch's masks of the global crops, and of as many local crops as an image has in any epoch of the ramp."""
    data, masking = settings.data, settings.masking
    crops, most = data.multicrop.at(epoch), data.multicrop.adaptive_config.max_local_crops
    return MultiCropMaskGenerator(
        global_crop_size=crops.global_crop_size if data.use_multicrop else data.image_size,
        local_crop_size=crops.local_crop_size,
        num_global_crops=crops.num_global_crops if data.use_multicrop else 1,
        num_local_crops=(most if crops.adaptive else crops.num_local_crops) if data.use_multicrop else 0,
        patch_size=settings.model.encoder.patch_size,
        num_hierarchies=settings.model.num_hierarchies,
        num_target_masks=masking.num_masks,
        masking_strategy=masking.strategy,
        base_scale=_mask_scale(settings, epoch),
        aspect_ratio_range=masking.aspect_ratio,
        max_attempts=masking.max_attempts,
        scale_progression=masking.scale_progression,
        num_local_hierarchies=1,  # coarser levels have no room in a local crop, and are not predicted there
        law=masking.law,
        min_keep=masking.min_keep,
        nested=masking.nested,
        seed=settings.seed,
    )


def _mask_scale(settings: Settings, epoch: int) -> tuple[float, float]:
    """Area of a target block at level 0 in an epoch, as a share of the crop."""
    masking = settings.masking
    if masking.mask_scale_end is None:
        return masking.mask_scale
    length = masking.mask_scale_warmup_epochs or settings.training.epochs - 1
    scale = Ramp(start=masking.mask_scale, end=masking.mask_scale_end, epochs=length).at(epoch)
    assert isinstance(scale, tuple)
    return scale


def _like_dino(views: tuple[View, ...], sigma: tuple[float, float]) -> tuple[View, ...]:
    """Global and local crops with DINO's grayscale, blur and solarization: its second global crop's in all but the first."""
    large, small = views
    own = [replace(large, count=1), replace(large, count=large.count - 1), small]
    return tuple(
        replace(
            view,
            gray=its.gray,
            blur=its.blur,
            sigma=sigma,
            blur_window=its.blur_window,
            solarize=its.solarize,
            solarize_threshold=its.solarize_threshold,
        )
        for view, its in zip(own, dino().views, strict=True)
    )
