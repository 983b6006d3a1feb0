"""Every command and every Python block of README and docs runs, in a folder with a few small images.

Runs are made small: stand-ins take the place of data that a test does not have, and a tiny network that of the one asked for.
What a block cannot do here is said in its source, as in `<!-- not run: needs a GPU -->`, on the line above it. Blocks of
docs/drop-in have tests of their own.
"""

import contextlib
import os
import re
import shlex
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import hjepa
from hjepa import cli, commands, sample_data

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- not run: (?P<why>.+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
STAND_INS = {
    "--epochs 50": "--epochs 2",
    "--epochs 200": "--epochs 2",
    "mask_scale_warmup_epochs=30": "mask_scale_warmup_epochs=1",
    "/data/imagenet": "imagenet",
    "{0000..0099}": "{0000..0001}",
    "--data-path cifar-10-batches-py": "--dataset imagefolder --data-path photos",
    "torchrun --nproc-per-node 8 $(which hjepa-train)": "hjepa-train",
    "hjepa doctor photos/": "hjepa doctor photos/ --seconds 0.5",
    "hjepa tune photos/": "hjepa tune photos/ --seconds 0.5",
}
ELSEWHERE = {"pip", "pytest", "git", "cd", "mkdocs", "tensorboard", "apt"}
"""Programs that are not hjepa's."""
TINY = {
    "data.image_size": "32",
    "data.multicrop.global_crop_size": "32",
    "data.multicrop.local_crop_size": "16",
    "model.encoder_type": "custom",
    "model.encoder.patch_size": "8",
    "model.encoder.width": "16",
    "model.encoder.depth": "1",
    "model.encoder.num_heads": "2",
    "model.embed_dim": "16",
    "training.epochs": "1",
    "training.warmup_epochs": "0",
}
JEPA = {
    "model.predictor.width": "8",
    "model.predictor.depth": "1",
    "model.predictor.num_heads": "2",
    "masking.min_keep": "1",
    "masking.num_masks": "2",
}
DINO = {"dino.num_prototypes": "16", "dino.hidden": "16", "dino.bottleneck": "8"}
WITH_DINO = {"dino", "small_dino", "cifar10_config"}
"""Words of a command that make it one of DINO's."""
SMALL_RUN = ["--batch-size", "8", "--device", "cpu", "--num-workers", "1"]
CHECKPOINT = "runs/photos/checkpoints/latest.pt"
GIVEN = {"torch": torch, "hjepa": hjepa, "attention": torch.rand(64, 196)}
"""What blocks take for granted."""


def blocks(page: Path, language: str) -> list[str]:
    return [
        block["text"]
        for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if block["language"] == language and block["why"] is None
    ]


def with_blocks(language: str) -> list[Any]:
    return [pytest.param(page, id=page.stem) for page in PAGES if blocks(page, language)]


@pytest.fixture
def workspace(labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: photos/, labelled/, imagenet/ and shards/."""
    for copy in ("one", "two"):
        for path in labelled.rglob("*.jpg"):
            place = tmp_path / "photos" / path.parent.name / f"{copy}-{path.name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, place)
    shutil.copytree(labelled, tmp_path / "labelled")
    shutil.copytree(labelled, tmp_path / "imagenet" / "train")
    (tmp_path / "shards").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "shards" / f"{number:04d}.tar", "w") as shard:
            shard.add(labelled / "dark", "dark")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sample_data, "default_folder", lambda: tmp_path / "photos")
    monkeypatch.setattr(sample_data, "make", lambda *_, **__: None)  # has tests of its own
    return tmp_path


def test_blocks_say_what_they_are() -> None:
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            assert block["language"] in ("bash", "python", "console", "text", "yaml", "json", ""), (
                f"{page.name}: {block['language']}"
            )
            commands_in_it = re.search(r"^(hjepa|python|import|with) ?", block["text"], re.MULTILINE)
            assert block["language"] in ("bash", "python", "console") or not commands_in_it, (
                f"{page.name}: name the block's language"
            )


@pytest.mark.dali
@pytest.mark.parametrize("page", with_blocks("python"))
def test_python_of_a_page_runs(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = dict(GIVEN)
    for block in blocks(page, "bash"):
        for line in lines(block):
            if ">" in line:  # what a command wrote, Python reads
                run(line, monkeypatch)
    with opened(monkeypatch):
        for block in blocks(page, "python"):
            exec(compile(block, page.name, "exec"), names)


@pytest.mark.dali
@pytest.mark.parametrize("page", with_blocks("bash"))
def test_commands_of_a_page_run(page: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page, "bash"):
        for line in lines(block):
            run(line, monkeypatch)


@contextlib.contextmanager
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loaders of blocks that do not close them are closed."""
    real, made = hjepa.Loader, []

    def loader(*arguments: Any, **options: Any) -> hjepa.Loader:
        made.append(real(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(hjepa, "Loader", loader)
    try:
        yield
    finally:
        for each in made:
            each.close()


def lines(block: str) -> list[str]:
    """The commands of a block, with stand-ins in place."""
    text = block.replace("\\\n", " ")
    for written, stand_in in STAND_INS.items():
        text = text.replace(written, stand_in)
    return [part.strip() for line in text.splitlines() for part in line.split(" && ") if part.strip()]


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)
    words, target = (words[: words.index(">")], words[-1]) if ">" in words else (words, None)
    program, arguments = words[0], words[1:]
    if program in ELSEWHERE:
        return
    if program == "python":
        check_script(arguments)
        return
    assert program in ("hjepa", "hjepa-train"), f"{line}: what is {program}? Add it to ELSEWHERE, or mark the block as not run"
    if program == "hjepa-train":
        own = DINO if WITH_DINO & set(arguments) else JEPA
        arguments += [*SMALL_RUN, *(f"{name}={value}" for name, value in (TINY | own).items())]
    if CHECKPOINT in arguments and not Path(CHECKPOINT).exists():  # of a run that another page tells of
        run("hjepa-train --data-path photos/ --output-dir runs/photos", monkeypatch)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with contextlib.ExitStack() as stack:
        if target is not None:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(target, "w", encoding="utf-8"))))
        code = called((cli if program == "hjepa-train" else commands).main)
        assert code == 0, line
    # Of the commands of a block each is for whoever did not give the others: the next finds no run that it did not ask for.
    shutil.rmtree("results", ignore_errors=True)
    for folder in Path("runs").glob("*"):
        if folder.name != "photos":
            shutil.rmtree(folder)


def called(program: Callable[[], None]) -> int:
    """Its exit code."""
    try:
        program()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def check_script(arguments: list[str]) -> None:
    """A script is run by its own test; here, that it is there and knows the options."""
    source = (ROOT / arguments[0]).read_text(encoding="utf-8")
    for option in arguments[1:]:
        assert not option.startswith("--") or f'"{option}"' in source, f"{arguments[0]} does not know {option}"
