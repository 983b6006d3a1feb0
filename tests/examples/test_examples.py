"""Every example runs as it stands, on a few images, and says what it is there to show."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "multicrop": [
        "8 crops, (3, 224, 224) and (3, 96, 96)",
        "[2, 6, 10] local crops",
        "2 global and 3 local crops are masked",
        "step 2: loss",
    ],
    "dino_course": [
        "augmentation: 10 crops, (2, 3, 224, 224) and (8, 3, 96, 96)",
        "document D: 2 x (16, 3, 32, 32), 6 x (16, 3, 16, 16), 16 labels",
        "document C: (32, 3, 96, 96), (64, 3, 48, 48)",
        "step 3: loss",
    ],
    "custom_recipe": ["is the same recipe: True", "fine: (2, 16, 3, 128, 128)", "crops agree: True"],
    "custom_source": ["64 images of 10 classes in images.zip", "globals (2, 16, 3, 224, 224)"],
    "plain_pytorch": ["stopped at epoch 0, image 48", "64 images of the epoch were seen, 64 of them different"],
    "lightning_module": ["24 images before the checkpoint, 40 after; 64 different of 64"],
    "dinov2_drop_in": ["collated_masks: torch.bool (16, 196)", "loss of the masked patches"],
}
"""What each prints. (masking.py has a test of its own.)"""


@pytest.mark.dali
@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning:lightning")
@pytest.mark.filterwarnings("ignore::FutureWarning:lightning")
@pytest.mark.parametrize("name", SAYS)
def test_example_says_what_it_shows(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "lightning_module":
        pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert [words for words in SAYS[name] if words not in printed] == []


@pytest.mark.dali
@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_lightning_goes_on_from_the_middle_and_from_the_end_of_an_epoch(labelled: Path, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    example = runpy.run_path(str(EXAMPLES / "lightning_module.py"))
    whole, begun = example["Colours"](labelled), example["Colours"](labelled)
    example["fit"](whole, str(tmp_path), max_epochs=4)  # of five steps
    at_end = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "step=10-end")
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    lightning.Trainer(max_epochs=2, callbacks=[at_end], **quiet).fit(begun)
    for step, name in ((3, "step=3"), (15, "step=15"), (10, "step=10-end")):
        resumed = example["Colours"](labelled)
        example["fit"](resumed, str(tmp_path / name), str(tmp_path / f"{name}.ckpt"), max_epochs=4)
        assert resumed.seen == whole.seen[8 * step :], name


def test_every_example_is_tested_and_told_of() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {*SAYS, "masking"}
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert {Path(name).name for name in re.findall(r"`examples/(\S+)`", page)} == {path.name for path in EXAMPLES.iterdir()}
