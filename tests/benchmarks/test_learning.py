"""The proof that training works: tiles share no pixel, broken is what should be, and the table is that of the file."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hjepa.assembly import build_loader, build_masks
from hjepa.configs.load import load_settings
from hjepa.model_assembly import build_model
from hjepa.pipeline.folder import open_folder
from hjepa.schedules import Schedule
from hjepa.step_masks import draw_masks

ROOT = Path(__file__).parents[2]
VALUES = Schedule(learning_rate=1e-2, weight_decay=0.0, momentum=0.0, teacher_temperature=0.04, prototypes_held=False)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of benchmarks/ by its name."""
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_tiles_of_a_photograph_share_no_pixel_and_lie_all_over_it(benchmark: Any) -> None:
    tiles = benchmark("photograph_tiles")
    pixels = np.arange(700 * 900, dtype=np.int64).reshape(700, 900)
    cut = tiles.tiles(pixels)
    assert len(cut) == tiles.MOST
    assert all(tile.shape == (tiles.SIDE, tiles.SIDE) for tile in cut)
    numbers = np.concatenate([tile.ravel() for tile in cut])
    assert len(np.unique(numbers)) == len(numbers)
    assert (numbers.min(), numbers.max() // 900) == (0, 639)
    assert len(tiles.tiles(pixels[:130, :200])) == 2 * 3


def test_tiles_are_made_once_in_gray_and_sixteen_classes(benchmark: Any, tmp_path: Path) -> None:
    tiles = benchmark("photograph_tiles")
    folder = tiles.make_tiles(tmp_path / "tiles")
    source = open_folder(folder)
    assert len(source.classes) == 16
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert len(before) == len(source) > 800
    with Image.open(next(iter(before))) as tile:
        assert tile.mode == "L"
    tiles.make_tiles(folder)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


@pytest.mark.parametrize(("config", "what"), [("small", "pairs"), ("small", "masks"), ("small_dino", "pairs")])
def test_what_is_broken_changes_the_loss_of_training_and_no_feature(
    config: str, what: str, benchmark: Any, labelled: Path
) -> None:
    learning: ModuleType = benchmark("learning")
    place = ["data.dataset=imagefolder", "data.data_path=unused", "data.pipeline=torchvision", "data.num_workers=0"]
    settings = load_settings(Path(config), [*place, "data.batch_size=8", "device=cpu"])
    model = build_model(settings, torch.device("cpu")).eval()
    with build_loader(settings, open_folder(labelled), "train") as loader:
        batch = next(iter(loader))
    masks = draw_masks(build_masks(settings), batch, settings) if settings.objective == "hjepa" else None
    losses, features = [], []
    for broken in ("nothing", what, "nothing"):
        with learning.broken(model, broken):
            losses.append(
                float(learning.hjepa.trainer.backward(model, batch, masks, VALUES, settings, last=True).total.detach())
            )
            features.append(model.features(batch.globals[0]))
    assert losses[0] == losses[2]
    assert abs(losses[1] - losses[0]) > 1e-4
    assert torch.equal(features[0], features[1])


def test_documented_table_and_picture_are_those_of_the_runs(benchmark: Any, tmp_path: Path) -> None:
    curves = benchmark("learning_curves")
    runs = json.loads((ROOT / "benchmarks" / "results" / "learning.json").read_text())
    assert curves.table(runs) in (ROOT / "docs" / "training.md").read_text()
    curves.draw(runs, tmp_path / "learning.png")
    with Image.open(tmp_path / "learning.png") as drawn, Image.open(ROOT / "docs" / "images" / "learning.png") as shown:
        assert drawn.size == shown.size
