"""The picture of a run's first batch."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from hjepa import view
from hjepa.assembly import build_loader, build_masks
from hjepa.pipeline.folder import open_folder
from hjepa.step_masks import draw_masks
from tests.hjepa.test_strategies import CROSS, settings_of


def test_local_crops_that_are_masked_are_shown_with_their_masks(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, view.Picture] = {}
    monkeypatch.setattr(view, "_show", lambda axis, row, column, picture, title: shown.__setitem__(title, picture))
    settings, source = settings_of(CROSS), open_folder(labelled)
    with build_loader(settings, source, "train") as loader:
        batch = next(iter(loader))
        masks = draw_masks(build_masks(settings), batch, settings)
        view.save_picture(tmp_path / "crops.png", batch, masks, loader.recipe, source, num_images=1)
        whole = [view.to_picture(crop, loader.recipe) for crop in batch.locals[:, 0]]
    local = {title: picture for title, picture in shown.items() if title.startswith("local")}
    assert list(local) == ["local 0, masked", "local 1, masked", "local 2", "local 3"]
    for crop, (title, picture) in zip(whole, local.items(), strict=True):
        unchanged = np.isclose(picture, crop).all(-1).mean()
        assert 0 < unchanged < 0.9 if "masked" in title else unchanged == 1


def test_image_that_the_backend_decodes_and_pil_does_not_is_gray_in_the_picture_and_named(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("broken data stream when reading image file")

    shown: dict[str, npt.NDArray[np.uint8]] = {}
    monkeypatch.setattr(view, "_show", lambda axis, row, column, picture, title: shown.setdefault(title, picture))
    settings, source = settings_of(CROSS), open_folder(labelled)
    with build_loader(settings, source, "train") as loader:
        batch = next(iter(loader))
        monkeypatch.setattr(view, "open_image", refuse)
        view.save_picture(tmp_path / "crops.png", batch, None, loader.recipe, source, num_images=1)
    pixels = next(iter(shown.values()))
    assert pixels.shape == (*batch.draws.sizes[0].tolist(), 3)
    assert np.unique(pixels).tolist() == [view.GRAY]
    assert f"{batch.keys[0]} is gray in the picture" in caplog.text
    assert "broken data stream" in caplog.text


@pytest.mark.parametrize("level", [0.0, 0.05, 0.2, 1.0], ids="level-{}".format)
def test_what_is_hidden_shows_in_dark_crops_too(level: float) -> None:
    crop = np.full((16, 16, 3), level, dtype=np.float32)
    context, targets = torch.tensor([True, False, False, False]), torch.tensor([[False, True, False, False]])
    shown = view.mask_picture(crop, context, targets)
    seen, target, hidden = shown[4, 4], shown[4, 12], shown[12, 4]
    assert seen.tolist() == crop[4, 4].tolist()
    assert np.abs(hidden - seen).max() > 0.1
    assert np.abs(hidden - target).max() > 0.1
