"""The benchmarks of documents C and D count what any loader hands out."""

from pathlib import Path
from typing import Any

import pytest
import torch

import hjepa
from hjepa.pipeline.adapters import ADAPTERS, open_adapter
from hjepa.pipeline.presets.jepa import multicrop

RECIPES = ("hjepa", "ijepa", "vjepa-image", "dino")
RECIPE = multicrop(num_global_crops=2, num_local_crops=3, global_crop_size=32, local_crop_size=16)


@pytest.mark.parametrize("adapter", [None, "dino", "document-c"], ids=str)
def test_images_and_crops_are_counted_in_every_form_of_a_batch(adapter: str | None, photographs: Path) -> None:
    with hjepa.Loader(
        photographs, RECIPE, batch_size=8, backend="torchvision", num_workers=0, device="cpu", adapter=adapter
    ) as loader:
        speed = hjepa.benchmark_augmentation_speed(loader, num_batches=6, warmup_batches=1)  # more than an epoch has
    assert (speed.num_batches, speed.images, speed.crops) == (6, 48, 240)
    assert speed.batch_mib == pytest.approx(8 * 3 * 4 * (2 * 32**2 + 3 * 16**2) / 2**20)
    assert speed.images_per_second == pytest.approx(48 / speed.seconds)
    assert 0 < speed.median_batch_seconds <= speed.seconds
    assert speed.peak_mib > speed.batch_mib
    assert speed.cpu_seconds > 0


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_images_and_crops_are_those_of_the_recipe_whatever_the_adapter(adapter: str, photographs: Path) -> None:
    recipe = next(recipe for recipe in map(hjepa.preset, RECIPES) if _fits(adapter, recipe))
    with hjepa.Loader(
        photographs, recipe, batch_size=2, backend="torchvision", num_workers=0, device="cpu", adapter=adapter
    ) as loader:
        speed = hjepa.benchmark_multicrop_dataloader(loader, num_batches=1)
    assert (speed.images, speed.crops) == (2, 2 * recipe.num_views)
    sizes = 3 * sum(view.count * view.size**2 for view in recipe.views)
    assert speed.batch_mib <= 2 * 4 * sizes / 2**20


OWN: dict[str, Any] = {
    "leaves crops out": lambda batch: (batch.globals, batch.labels),
    "puts crops in one axis": lambda batch: batch.globals.flatten(0, 1),
    "has crops twice": lambda batch: [batch.views(), batch.views()],
}


@pytest.mark.parametrize("own", OWN)
def test_images_are_counted_right_whatever_an_own_adapter_makes_of_them_and_in_every_epoch(own: str, photographs: Path) -> None:
    plan = hjepa.Curriculum(recipe=RECIPE, ramps={"local.count": hjepa.Ramp(start=1, end=3, epochs=2)})
    options: Any = {"backend": "torchvision", "num_workers": 0, "device": "cpu", "tail": "keep", "adapter": OWN[own]}
    with hjepa.Loader(photographs, plan, batch_size=12, **options) as loader:
        assert (len(loader), len(loader.source)) == (3, 32)
        speed = hjepa.benchmark_augmentation_speed(loader, num_batches=8, warmup_batches=0)
    assert speed.images == 3 * 32 - 12  # the first batch is not timed


def test_frames_of_another_loaders_clips_are_counted_in_memory_alone() -> None:
    speed = hjepa.benchmark_augmentation_speed([[torch.zeros(2, 3, 5, 8, 8)]], num_batches=1)
    assert (speed.images, speed.crops) == (2, 2)
    assert speed.batch_mib == pytest.approx(4 * 2 * 3 * 5 * 8 * 8 / 2**20)


def test_table_shows_time_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    data = torch.utils.data.TensorDataset(torch.zeros(8, 3, 4, 4), torch.zeros(8, dtype=torch.int64))
    speed = hjepa.benchmark_multicrop_dataloader(torch.utils.data.DataLoader(data, batch_size=4), num_batches=3)
    assert (speed.images, speed.crops) == (12, 12)
    output = capsys.readouterr().out
    assert "images per second" in output
    assert "peak memory of this process" in output


@pytest.mark.parametrize(
    ("loader", "options", "message"),
    [
        ([], {}, "no batch"),
        ([torch.zeros(3)], {}, "no crops"),
        ([torch.zeros(1, 3, 2, 2)], {"num_batches": 0}, "num_batches=0"),
    ],
    ids=["empty", "no crops", "no batches"],
)
def test_what_cannot_be_timed_is_refused(loader: list[torch.Tensor], options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hjepa.benchmark_augmentation_speed(loader, **options)


def _fits(adapter: str, recipe: hjepa.Recipe) -> bool:
    try:
        open_adapter(adapter, recipe)
    except ValueError:
        return False
    return True
