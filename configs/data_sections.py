"""The settings of the data: where images come from, which crops are made of them, and how they become batches."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hjepa.configs.section import Count, CountOrZero, Section, Share, ShareOrZero, ShareRange
from hjepa.pipeline.normalisation import statistics_of
from hjepa.pipeline.recipe import IMAGENET_MEAN, IMAGENET_STD

Dataset = Literal[
    "sample",
    "imagefolder",
    "imagenet",
    "imagenet100",
    "cifar10",
    "cifar100",
    "stl10",
    "webdataset",
    "parquet",
    "csv",
]
Levels = Annotated[tuple[ShareOrZero, ShareOrZero, ShareOrZero], Field(strict=False)]
Deviations = Annotated[tuple[Share, Share, Share], Field(strict=False)]
Jitter = Annotated[float, Field(ge=0, le=5)]  # at 5 the hue turns by half a circle either way, which is every hue


class AdaptiveSettings(Section):
    """Number of local crops as a curriculum over epochs."""

    min_local_crops: CountOrZero = 2
    """Local crops per image in the first epoch."""
    max_local_crops: CountOrZero = 10
    """Local crops per image from the end of the ramp on."""
    warmup_epochs: CountOrZero = 30
    """Length of the ramp, in epochs; 0: max_local_crops at once."""

    @model_validator(mode="after")
    def _check(self) -> "AdaptiveSettings":
        least, most = self.min_local_crops, self.max_local_crops
        if least > most:
            raise ValueError(
                f"data.multicrop.adaptive_config: min_local_crops={least} exceeds max_local_crops={most}; swap them"
            )
        return self


class PhaseSettings(Section):
    """Other crops from an epoch on; what is null stays as it was before."""

    from_epoch: Count
    """The first epoch with these crops, counted from 0; before the first phase crops are as the settings beside it say."""
    num_local_crops: CountOrZero | None = None
    """Small crops per image."""
    global_crop_size: Count | None = None
    """Side of a global crop, in pixels; divisible by the patch size."""
    local_crop_size: Count | None = None
    """Side of a local crop, in pixels; divisible by the patch size."""
    global_crop_scale: ShareRange | None = None
    """Area of a global crop, as a share of the image: [least, most]."""
    local_crop_scale: ShareRange | None = None
    """Area of a local crop, as a share of the image: [least, most]."""

    @property
    def changes(self) -> dict[str, object]:
        """What is not null, by its name."""
        return {name: value for name, value in self if name != "from_epoch" and value is not None}


class MulticropSettings(Section):
    """The crops made of one image."""

    num_global_crops: Count = 2
    """Large crops per image; these are masked."""
    num_local_crops: CountOrZero = 6
    """Small crops per image."""
    global_crop_size: Count = 224
    """Side of a global crop, in pixels; divisible by the patch size."""
    local_crop_size: Count = 96
    """Side of a local crop, in pixels; divisible by the patch size."""
    global_crop_scale: ShareRange = (0.4, 1.0)
    """Area of a global crop, as a share of the image: [least, most]."""
    local_crop_scale: ShareRange = (0.05, 0.4)
    """Area of a local crop, as a share of the image: [least, most]."""
    global_color_jitter: Jitter = 0.4
    """Strength of global crops' jitter; times 0.4, 0.4, 0.2, 0.1 for brightness, contrast, saturation, hue; 0: none."""
    local_color_jitter: Jitter = 0.4
    """The same strength for local crops."""
    horizontal_flip_prob: ShareOrZero = 0.5
    """Probability that a crop is mirrored left to right."""
    adaptive: bool = False
    """Whether the number of local crops follows adaptive_config."""
    adaptive_config: AdaptiveSettings = AdaptiveSettings()
    """Their curriculum; read when adaptive is true."""
    curriculum: Annotated[tuple[PhaseSettings, ...], Field(strict=False)] = ()
    """Other crops from some epochs on, as in [{from_epoch: 80, global_crop_size: 256}]; a phase keeps what it does not name."""

    @property
    def phases(self) -> Iterator[tuple[int, "MulticropSettings"]]:
        """The crops of each phase and its first epoch, from epoch 0 on."""
        crops = self.model_copy(update={"curriculum": ()})
        yield 0, crops
        for phase in self.curriculum:
            crops = crops.model_copy(update=phase.changes)
            yield phase.from_epoch, crops

    def at(self, epoch: int) -> "MulticropSettings":
        """The crops of an epoch."""
        return [crops for first, crops in self.phases if first <= epoch][-1]

    @model_validator(mode="after")
    def _check(self) -> "MulticropSettings":
        crops = [crops for _, crops in self.phases]
        before = 0
        for number, phase in enumerate(self.curriculum):
            where = f"data.multicrop.curriculum[{number}]"
            if phase.from_epoch <= before:
                raise ValueError(f"{where}.from_epoch={phase.from_epoch} does not follow epoch {before}; phases ascend")
            if crops[number + 1] == crops[number]:
                raise ValueError(f"{where} changes nothing; set one of {', '.join(list(PhaseSettings.model_fields)[1:])}")
            if self.adaptive and phase.num_local_crops is not None:
                raise ValueError(
                    f"{where}.num_local_crops={phase.num_local_crops} has no effect with data.multicrop.adaptive=true, which "
                    "counts the local crops itself; leave it out, or set adaptive=false"
                )
            if not (self.adaptive or any(later.num_local_crops for later in crops[number + 1 :])):
                _refuse_unread(where, phase)
            before = phase.from_epoch
        return self


def _refuse_unread(where: str, phase: PhaseSettings) -> None:
    """Raises ValueError for what a phase says of local crops where there are none from then on."""
    for name in ("local_crop_size", "local_crop_scale"):
        if name in phase.changes:
            raise ValueError(
                f"{where}.{name}={phase.changes[name]} has no effect: there are no local crops from epoch {phase.from_epoch} "
                "on; leave it out, or set data.multicrop.num_local_crops, or the phase's own, to 1 or more"
            )


class DataSettings(Section):
    """Where images come from and how they become batches."""

    pipeline: Literal["dali", "fused", "dali-ops", "torchvision"] = "dali"
    """Engine: dali takes fused (DALI decodes, a kernel crops) where it can, else dali-ops; torchvision is the reference."""
    dataset: Dataset = "sample"
    """Data set: sample is drawn by hjepa itself and needs no files; imagenet and imagenet100 are folders of folders."""
    data_path: str = ""
    """Where the data lies: a folder, a pattern of tar or parquet files, or a csv file; empty for sample alone."""
    max_pixels: Count = 100_000_000
    """Largest image that is decoded, in pixels; larger ones are left out, for a small file can claim any size."""
    verify: bool = False
    """Whether every file of more than 100 000 is looked at again for changes, not only their folders; takes a minute."""
    image_size: Count = 224
    """Side of the images that are evaluated and exported, in pixels; where crops are on, the global_crop_size of a phase."""
    batch_size: Count = 64
    """Images per step on each GPU."""
    num_workers: Literal["auto"] | CountOrZero = "auto"
    """DALI's threads, or torchvision's processes (0: none beside the trainer); auto: as many as cores are granted."""
    prefetch: Count = 2
    """Batches in flight ahead of the trainer."""
    pin_memory: bool = True
    """Whether batches made on the CPU lie in page-locked memory, from which copies to a GPU do not wait."""
    decoder: Literal["auto", "cpu", "gpu"] = "auto"
    """Where a GPU's images are decoded: gpu, cpu (the bits of a run without one), auto: gpu if it has several JPEG engines."""
    hw_decoder_load: ShareOrZero = 1.0
    """Share of the JPEGs that a GPU's JPEG engines decode; between 0 and 1 an image's rounding depends on its batch."""
    on_error: Literal["replace", "raise"] = "replace"
    """What becomes of an image that cannot be decoded: another stands in for it (replace), or the run ends (raise)."""
    max_bad: ShareOrZero = 0.01
    """Share of the images that may be replaced before the run ends after all; one always may, unless this is 0."""
    orientation: Literal["ignore", "exif"] = "ignore"
    """ignore the camera's EXIF rotation, as PIL and torchvision do, or turn images upright: exif."""
    decoding: Literal["full", "reduced"] = "full"
    """full, or on a CPU: large JPEGs to a half or a quarter of their sides where all crops are small enough: reduced."""
    mean: Levels = IMAGENET_MEAN
    """Mean of red, green and blue that is subtracted, in [0, 1]; without it the data set's own, or ImageNet's."""
    std: Deviations = IMAGENET_STD
    """Deviation of red, green and blue that is divided by, up to 1; without it the data set's own, or ImageNet's."""
    use_multicrop: bool = True
    """true: the crops of data.multicrop; false: one crop of image_size, with the global crops' area, jitter and flip alone."""
    multicrop: MulticropSettings = MulticropSettings()
    """The crops."""

    @model_validator(mode="before")
    @classmethod
    def _normalise_as_the_data_set(cls, values: Any) -> Any:
        """Writes the data set's statistics down where none are given: whoever has the settings has the numbers of the run."""
        if not isinstance(values, dict):
            return values
        mean, std = statistics_of(str(values.get("dataset")))
        return {"mean": mean, "std": std, **values}

    @model_validator(mode="after")
    def _check(self) -> "DataSettings":
        if self.pipeline != "torchvision" and self.num_workers == 0:
            raise ValueError("data.num_workers=0: DALI needs at least one thread; use 1 or auto")
        if self.dataset != "sample" and not self.data_path:
            raise ValueError(f"data.dataset={self.dataset} needs its place; set data.data_path, or data.dataset=sample")
        if self.verify and self.dataset not in ("imagefolder", "imagenet", "imagenet100", "csv"):
            raise ValueError(
                f"data.verify has no effect on data.dataset={self.dataset}, whose files are always checked; drop it"
            )
        if self.dataset == "sample" and self.data_path:
            raise ValueError(
                f"data.dataset=sample makes its own images and does not read data.data_path={self.data_path}; "
                "set data.dataset=imagefolder to train on that folder, or leave data.data_path empty"
            )
        return self
