"""Trained encoders: measured by `hjepa eval`, loaded by timm after `hjepa export`, and an alarm where features collapsed."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from hjepa import checkpoint, commands, trained
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.evaluate import Evaluation
from hjepa.model_assembly import build_model
from hjepa.models.block import Block
from hjepa.models.sizes import VisionTransformerSettings
from hjepa.models.vit import VisionTransformer as HjepaTransformer
from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.source import Source
from tests.pipeline.test_arrays import write_cifar10

CPU = torch.device("cpu")


@pytest.fixture
def saved(labelled: Path, tmp_path: Path) -> Path:
    """A checkpoint of a model that was not trained."""
    place = ["data.dataset=imagefolder", f"data.data_path={labelled}", "data.pipeline=torchvision", "data.num_workers=0"]
    of_a_gpu = ["data.decoder=gpu", "data.hw_decoder_load=0.5"]  # which are refused where there is none
    settings = load_settings(Path("small"), [*place, "device=cpu", "evaluation.linear_probe.dataset=cifar10", *of_a_gpu])
    path = tmp_path / "latest.pt"
    model = build_model(settings, CPU)
    checkpoint.save(path, {"model": model.state_dict(), "settings": checkpoint.plain_settings(settings)})
    return path


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["hjepa", *map(str, arguments)])
    code = 0
    try:
        commands.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, *capsys.readouterr()


def test_eval_measures_a_checkpoint(
    saved: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    options = ["--pipeline", "torchvision", "--num-workers", "0", "--device", "cpu", "--json", figures]
    code, output, errors = call(monkeypatch, capsys, "eval", saved, "--data-path", labelled, *options)
    assert (code, errors) == (0, "")
    found = json.loads(figures.read_text())
    assert found["knn_accuracy"] > 0.8  # one class is dark, the other light
    assert found["linear_probe_accuracy"] > 0.8
    assert found["feature_std"] > 0
    assert (found["num_images"], found["num_available"], found["split"]) == (40, 40, None)
    for part in ("kNN accuracy", "linear probe", f"{found['rankme']:.1f} of 39", "hardly vary"):
        assert part in output


def test_eval_without_labels_says_what_can_be_said(
    saved: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--pipeline", "torchvision", "--num-workers", "0", "--device", "cpu"]
    code, output, _ = call(monkeypatch, capsys, "eval", saved, "--data-path", photographs, *options)
    assert code == 0
    assert "of 31" in output
    assert output.count("not measured: these images are not of two classes or more") == 2


def test_eval_reads_the_split_that_is_asked_for_and_says_so(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path / "cifar")
    monkeypatch.setattr("hjepa.evaluate.EVALUATED", 3)
    options = ["--pipeline", "torchvision", "--num-workers", "0", "--device", "cpu", "--data-path", tmp_path / "cifar"]
    seen, real = [], trained.open_source

    def open_source(settings: Settings, progress: object, split: str) -> Source:
        seen.append((split, real(settings, progress, split)))
        return seen[-1][1]

    monkeypatch.setattr(trained, "open_source", open_source)
    for asked, split in (([], "train"), (["--split", "val"], "val")):
        code, output, errors = call(monkeypatch, capsys, "eval", saved, *options, *asked)
        assert (code, errors) == (0, "")
        assert f"3 of {len(seen[-1][1])}, evenly spaced, split {split}" in output
    assert [split for split, _ in seen] == ["train", "val"]
    assert len(seen[0][1]) != len(seen[1][1])
    assert "use 'train' or 'val'" in call(monkeypatch, capsys, "eval", saved, *options, "--split", "test")[2]


def test_eval_reads_other_data_than_those_whose_files_were_verified(saved: Path, tmp_path: Path) -> None:
    state = checkpoint.load(saved, CPU)
    state["settings"]["data"]["verify"] = True
    checkpoint.save(saved, {name: value for name, value in state.items() if name != "format"})
    _, settings = trained.load_model(saved, {"data.dataset": "cifar10", "data.data_path": "cifar"})
    assert not settings.data.verify


def test_eval_on_the_sample_images_needs_no_place_of_them(
    saved: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def open_source(settings: Settings, *_: object) -> Source:
        seen.append((settings.data.dataset, settings.data.data_path))
        return open_folder(labelled)

    monkeypatch.setattr(trained, "open_source", open_source)
    options = ["--pipeline", "torchvision", "--num-workers", "0", "--device", "cpu"]
    code, _, errors = call(monkeypatch, capsys, "eval", saved, "--dataset", "sample", *options)
    assert (code, errors, seen) == (0, "", [("sample", "")])


def test_eval_elsewhere_says_where_the_run_was_that_named_its_images_from_there(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(labelled.parent)
    settings = load_settings(Path("small"), ["data.dataset=imagefolder", f"data.data_path={labelled.name}", "device=cpu"])
    path = tmp_path / "latest.pt"
    content = {"model": build_model(settings, CPU).state_dict(), "settings": checkpoint.plain_settings(settings)}
    checkpoint.save(path, content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"does not exist.*the run read {labelled.name}, seen from the folder.*--data-path"):
        trained.evaluate(path, {}, lambda *_: None)
    with pytest.raises(ValueError, match=r"does not exist; give a folder of images$"):
        trained.evaluate(path, {"data.data_path": "nothing"}, lambda *_: None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {}, "settings": {}}, "is not a checkpoint of hjepa: its settings are not those of a run"),
        ({"model": {}, "settings": []}, "is not a checkpoint of hjepa: it lacks settings"),
        ({"model": {}}, "does not hold the weights of the model that its settings describe"),
    ],
)
def test_a_foreign_file_is_one_line(
    content: dict[str, Any], message: str, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(saved, {"settings": checkpoint.load(saved, CPU)["settings"], **content})
    code, _, errors = call(monkeypatch, capsys, "eval", saved, "--device", "cpu")
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "missing.pt"], "there is no checkpoint missing.pt"),
        (["export", "SAVED", "out.pt"], "rename it"),
        (["export", "SAVED", "missing/out.safetensors"], "there is no folder missing"),
        (["eval", "SAVED", "--data-path", ""], "--data-path is empty"),
        (["eval", "SAVED", "--split", "val"], "--split val has no effect on data.dataset=imagefolder"),
        (["eval", "SAVED", "--json", "missing/x.json"], "--json missing/x.json: there is no folder missing"),
        (["eval", "SAVED", "--json", "."], "--json . is a folder"),
        (["parity", "--json", "missing/x.json"], "there is no folder missing"),
        (["parity", "--images", ""], "--images is empty"),
    ],
)
def test_users_mistake_is_one_line(
    arguments: list[str], message: str, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = call(monkeypatch, capsys, *(str(saved) if part == "SAVED" else part for part in arguments))
    assert code == 2
    assert message in errors
    assert errors.count("\n") == 1


def test_file_that_cannot_be_written_is_one_line(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.safetensors").mkdir()
    code, _, errors = call(monkeypatch, capsys, "export", saved, tmp_path / "taken.safetensors")
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith(f"hjepa: cannot write {tmp_path}/taken.safetensors (")


def test_exported_encoder_can_be_read_by_whoever_may_read_new_files(saved: Path, tmp_path: Path) -> None:
    """safetensors' own file is its owner's alone, which a group that shares a folder finds out late."""
    trained.export(saved, tmp_path / "encoder.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "encoder.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_full_disk_leaves_the_encoder_that_was_there(saved: Path, tmp_path: Path) -> None:
    file, limits = tmp_path / "encoder.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    file.write_bytes(b"the one before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # bytes
    try:
        with pytest.raises(OSError, match=r"cannot write .*encoder\.safetensors \(File too large\); free some space there"):
            trained.export(saved, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == b"the one before"
    assert list(tmp_path.glob(".*")) == []


def test_exported_encoder_is_timms_with_the_same_features(saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    arguments = trained.export(saved, file)
    theirs = VisionTransformer(**arguments).eval()
    theirs.load_state_dict(load_file(file))  # strict
    ours, _ = trained.load_model(saved, {"device": "cpu"})
    images = torch.randn(3, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), ours.features(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(theirs.forward_features(images), ours.teacher(images), rtol=1e-5, atol=1e-5)
    namespace: dict[str, object] = {}
    exec(trained.loading(arguments, file), namespace)
    assert isinstance(namespace["model"], VisionTransformer)


def test_a_trained_model_is_not_compiled_to_be_measured(saved: Path) -> None:
    state = checkpoint.load(saved, CPU)
    state["settings"]["training"]["compile"] = True
    checkpoint.save(saved, state)
    model, _ = trained.load_model(saved, {"device": "cpu"})
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    assert blocks
    assert all(block._compiled_call_impl is None for block in blocks)


@pytest.mark.parametrize(("width", "mlp_ratio"), [(112, 4.3), (176, 8 / 3), (128, 4.0)])
def test_timm_makes_the_hidden_width_of_an_exported_encoder(width: int, mlp_ratio: float, tmp_path: Path) -> None:
    """176 x (469 / 176) is below 469 in floating point, and timm cuts it off."""
    sizes = VisionTransformerSettings(patch_size=8, width=width, depth=1, num_heads=4, mlp_ratio=mlp_ratio)
    file = tmp_path / "encoder.safetensors"
    arguments = trained.export_encoder(HjepaTransformer(sizes), 16, file)
    VisionTransformer(**arguments).load_state_dict(load_file(file))  # strict


def test_exported_encoder_says_how_pixels_are_normalised(tmp_path: Path) -> None:
    settings = load_settings(Path("small"), ["data.dataset=cifar10", "data.data_path=x"])
    saved, file = tmp_path / "latest.pt", tmp_path / "encoder.safetensors"
    model = build_model(settings, CPU)
    checkpoint.save(saved, {"model": model.state_dict(), "settings": checkpoint.plain_settings(settings)})
    text = trained.loading(trained.export(saved, file), file)
    assert "[B, 3, 48, 48]: levels in [0, 1], less [0.4914, 0.4822, 0.4465], divided by [0.2023, 0.1994, 0.201]" in text


def test_collapsed_features_are_called_so() -> None:
    figures = {"knn_accuracy": None, "linear_probe_accuracy": None, "feature_std": 0.1, "num_dimensions": 128}
    figures |= {"num_images": 1000, "num_available": 1000}
    assert Evaluation(**figures, rankme=60.0, dead_channels=0.0).collapse is None
    assert "7.0 of 128" in (Evaluation(**figures, rankme=7.0, dead_channels=0.0).collapse or "")
    assert "60% of their dimensions" in (Evaluation(**figures, rankme=60.0, dead_channels=0.6).collapse or "")
