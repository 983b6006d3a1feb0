"""The command line as a user meets it: help, settings, clear errors, exit codes, runs that do not overwrite each other."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hjepa import checkpoint, cli, training_run
from hjepa.configs.load import load_settings
from hjepa.distributed import Ranks
from hjepa.kernels.fused_crops import MissingKernelError
from hjepa.run_folder import Resume, resume_notes
from hjepa.training_run import choose_settings
from tests.hjepa.calling import Call
from tests.pipeline.test_arrays import write_cifar10

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
ENCODER = [
    "data.image_size=32",
    "data.multicrop.global_crop_size=32",
    "data.multicrop.local_crop_size=16",
    "model.encoder.width=16",
    "model.embed_dim=16",
    "model.encoder.depth=1",
    "model.encoder.num_heads=2",
    "model.encoder.patch_size=8",
    "training.warmup_epochs=0",
]
TINY = [*ENCODER, "model.predictor.width=8", "model.predictor.depth=1", "model.predictor.num_heads=2", "masking.min_keep=1"]
REFERENCE = ["--pipeline", "torchvision", "--num_workers", "0", "--device", "cpu", "--epochs", "1", "--batch_size", "8"]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    monkeypatch.chdir(tmp_path)
    return Call("hjepa-train", cli.main, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("changes", "engines", "expected"),
    [
        ([], True, ", which decodes, too, by its JPEG engines"),
        ([], False, ", for which the CPU decodes"),
        (["data.decoder=gpu"], False, ", which decodes, too"),
        (["data.decoder=gpu", "data.hw_decoder_load=0"], True, ", which decodes, too"),
        (["data.decoder=cpu"], True, ", for which the CPU decodes"),
        (["data.pipeline=torchvision"], True, ""),
    ],
)
def test_the_first_line_says_where_images_for_a_gpu_are_decoded(
    changes: list[str], engines: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("hjepa.training_run", "hjepa.pipeline.device"):
        monkeypatch.setattr(f"{module}.has_jpeg_engines", lambda _: engines)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    ranks = SimpleNamespace(device=torch.device("cuda", 0))
    assert training_run._decoder(load_settings(None, changes), ranks) == expected  # type: ignore[arg-type]


def test_help_names_every_documented_flag(call: Call) -> None:
    code, output, _ = call("--help")
    assert code == 0
    flags = "config objective pipeline batch-size epochs data-path dataset lr num-workers output-dir resume device seed"
    flags += " warmup-epochs weight-decay distributed local-rank world-size no-wandb debug"
    assert [flag for flag in flags.split() if f"--{flag}" not in output] == []
    assert "hjepa-train --pipeline dali" in output


def test_run_says_what_it_does_and_where_the_results_are(call: Call, labelled: Path, tmp_path: Path) -> None:
    probe = "evaluation.linear_probe.enabled=true"
    code, output, errors = call("--data_path", labelled, "--output-dir", "out", *REFERENCE, *TINY, probe)
    assert (code, errors) == (0, "")
    assert "40 images" in output
    assert "2 classes" in output
    assert "epoch 1/1" in output
    assert "kNN accuracy" in output
    assert any("linear probe" in line and "% after 1" in line for line in output.splitlines())
    for name in ("checkpoints/latest.pt", "logs/metrics.jsonl", "logs/crops.png", "settings.yaml"):
        assert (tmp_path / "out" / name).is_file(), name


@WITHOUT_GPU
def test_without_a_gpu_the_small_settings_are_used_and_said(call: Call, labelled: Path) -> None:
    _, output, _ = call("--data_path", labelled, "--output-dir", "out", *REFERENCE, *TINY)
    assert "configs/small.yaml" in output
    assert "there is no GPU" in output


def test_no_run_overwrites_another_and_auto_goes_on_with_the_newest(call: Call, labelled: Path, tmp_path: Path) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]
    said = [call(*command) for _ in range(3)]
    assert [code for code, *_ in said] == [0, 0, 0]
    assert ["note: out holds another run" in output for _, output, _ in said] == [False, True, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-2", "out-3"]
    code, output, _ = call(*command, "--resume", "auto")
    assert code == 0
    assert "resuming from out-3/checkpoints/latest.pt, step 5" in output
    assert "nothing is left to do" in output
    assert "another run" not in output.replace("more of them are another run", "")
    assert len(list(tmp_path.iterdir())) == 3


def test_run_that_ended_before_its_first_checkpoint_begins_again_in_its_folder(
    call: Call, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hjepa.trainer.measure", interrupt)
        assert call(*command)[::2] == (130, "hjepa-train: interrupted\n")
        assert call(*command, "--resume", "auto")[0] == 130
    (tmp_path / "out" / "logs" / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n')  # as of a run that came further
    assert call(*command, "--resume", "auto", "--seed", "1")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "checkpoints" / "latest.pt").exists()
    lines = [json.loads(line) for line in (tmp_path / "out" / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert len({(line["kind"], line["step"]) for line in lines}) == len(lines)
    assert (tmp_path / "out" / "logs" / "metrics.before.jsonl").exists()


def test_log_folder_of_its_own_does_not_keep_a_run_from_beginning_again(
    call: Call, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY, "logging.log_dir=curves", "--resume", "auto"]

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("hjepa.trainer.backward", fail)
        assert call(*command)[::2] == (1, "hjepa-train: out of memory\n")
    ended = Path("curves", "metrics.before.jsonl").read_text()
    assert json.loads(ended)["kind"] == "evaluation"
    Path("curves", "metrics.jsonl").write_text(ended)  # as of a run that was killed
    code, _, errors = call(*command)
    assert code == 2
    assert "may be under way; if it is not, move curves/metrics.jsonl elsewhere, or use another folder" in errors
    Path("curves", "metrics.jsonl").unlink()
    assert call(*command)[0] == 0


def test_log_of_a_run_whose_checkpoint_was_renamed_stays_where_it_fails_again(
    call: Call, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY)[0] == 0
    checkpoint, log = Path("out", "checkpoints", "good.pt"), Path("out", "logs", "metrics.jsonl")
    checkpoint.with_name("latest.pt").rename(checkpoint)
    for other in checkpoint.parent.glob("epoch_*.pt"):
        other.unlink()
    before = log.read_text()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("hjepa.trainer.Trainer.run", fail)
    arguments = ["--data_path", labelled, *REFERENCE, *TINY, "--resume", checkpoint]
    assert call(*arguments)[::2] == (1, "hjepa-train: out of memory\n")
    assert log.read_text() == before
    assert Path("out", "settings.yaml").exists()


def test_folder_of_a_run_without_a_checkpoint_may_be_under_way(call: Call, labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.yaml").touch()
    code, output, _ = call("--data_path", labelled, "--output_dir", "out", "--resume", "auto", *REFERENCE, *TINY)
    assert code == 0
    assert "out holds a run without a checkpoint to go on from, which may be under way; this one is out-2" in output


def test_of_two_runs_that_begin_at_once_one_takes_the_folder(
    call: Call, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]
    assert call(*command)[0] == 0
    files = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    monkeypatch.setattr(training_run, "fresh_folder", lambda settings: settings)  # as it was before the other one had begun
    code, _, errors = call(*command)
    assert code == 2
    assert "another run began in out at the same time" in errors
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == files


def test_run_that_cannot_start_leaves_no_folder_but_a_users_own(call: Call, labelled: Path) -> None:
    Path("own").mkdir()
    for folder in ("own", "new", "own/runs/new"):
        code, _, errors = call(
            "--data_path", labelled, "--output_dir", folder, *REFERENCE, *TINY, "training.accumulation_steps=100"
        )
        assert code == 2
        assert "training.accumulation_steps=100 is more than" in errors
    assert [path.exists() for path in map(Path, ("own", "new"))] == [True, False]
    assert not list(Path("own").iterdir())


def test_small_settings_by_their_name_take_a_folder_of_images(call: Call, labelled: Path) -> None:
    code, output, errors = call("--config", "small", "--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY)
    assert (code, errors) == (0, "")
    assert "40 images" in output


@pytest.mark.parametrize("content", [None, b"no checkpoint of ours"], ids=["truncated", "foreign"])
def test_resume_auto_passes_over_a_damaged_checkpoint_and_says_so(
    content: bytes | None, call: Call, labelled: Path, tmp_path: Path
) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY, "--epochs", "2"]
    assert call(*command)[0] == 0
    folder = tmp_path / "out" / "checkpoints"
    for path in (folder / "latest.pt", folder / "epoch_0002.pt"):
        path.write_bytes(path.read_bytes()[:900] if content is None else content)
    code, output, errors = call(*command, "--resume", "auto")
    assert (code, errors) == (0, "")
    assert "passed over: out/checkpoints/latest.pt is not a checkpoint of hjepa, or it is damaged" in output
    assert "passed over: out/checkpoints/epoch_0002.pt" in output
    assert "resuming from out/checkpoints/epoch_0001.pt, step 5" in output
    assert checkpoint.load(folder / "latest.pt", torch.device("cpu"))["step"] == 10
    for path in folder.iterdir():
        path.write_bytes(b"")
    code, _, errors = call(*command, "--resume", "auto")
    assert code == 2
    assert "latest.pt is not a checkpoint" in errors


def test_dino_is_trained_by_its_flag(call: Call, labelled: Path) -> None:
    head = ["dino.num_prototypes=16", "dino.hidden=16", "dino.bottleneck=8"]
    code, output, errors = call("--objective", "dino", "--data_path", labelled, *REFERENCE, *ENCODER, *head)
    assert (code, errors) == (0, "")
    assert "configs/small_dino.yaml" in output
    assert "Finished" in output
    assert call("--objective", "byol", "--data_path", labelled)[0] == 2


@pytest.mark.parametrize(
    "named",
    [
        ["data.data_path=place", "data.dataset=imagenet"],
        ["data.data_path=place", "data.dataset_name=imagenet"],
        ["data={data_path: place, dataset: imagenet}"],
        ["data.data_path=place", "data={dataset: imagenet}"],
    ],
    ids=["by path", "by another name", "both in a section", "in a section"],
)
def test_data_that_is_named_on_the_command_line_is_what_was_named(named: list[str]) -> None:
    settings, reason = choose_settings(None, named, {"device": "cpu"})
    assert (settings.data.dataset, settings.data.data_path) == ("imagenet", "place")
    assert "no data was given" not in reason


def test_file_that_only_an_option_completes_trains_on_the_folder_that_was_named(tmp_path: Path) -> None:
    file = tmp_path / "five.yaml"
    file.write_text("training: {epochs: 5}\n")  # fewer than the default's epochs of warm-up
    short: dict[str, object] = {"data.data_path": "photos", "training.warmup_epochs": 0}
    assert choose_settings(file, [], short)[0].data.dataset == "imagefolder"
    overrides = ["data.data_path=photos", "training.warmup_epochs=0"]
    assert choose_settings(file, overrides, {})[0].data.dataset == "imagefolder"
    file.write_text("training: {epochs: 5}\ndata: {dataset: webdataset}\n")
    assert choose_settings(file, [], short)[0].data.dataset == "webdataset"


def test_numbers_of_a_named_data_set_and_areas_that_do_not_meet_are_said(call: Call, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    gap = "data.multicrop.global_crop_scale=[0.5, 1]"
    command = ["--data_path", ".", "--output_dir", "out", *REFERENCE, *TINY]  # that it is CIFAR-10 shows
    code, output, _ = call(*command, gap)
    assert code == 0
    assert "pixels are normalised by mean (0.4914, 0.4822, 0.4465)" in output
    assert "note: global crops cover 0.5 of the image or more, local ones 0.4 or less" in output
    assert "mean:\n  - 0.4914" in (tmp_path / "out" / "settings.yaml").read_text()


def test_flags_of_the_documents_agree_with_one_process(call: Call, labelled: Path) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]
    code, _, errors = call(*command, "--world_size", "1", "--local_rank=0", "--no_wandb", "logging.wandb.enabled=true")
    assert (code, errors) == (0, "")


def test_resume_auto_without_a_run_starts_one(call: Call, labelled: Path) -> None:
    code, output, _ = call("--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY, "--resume=auto")
    assert code == 0
    assert "resuming" not in output


def test_only_folders_with_runs_are_counted(call: Call, labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "out-16").mkdir()
    command = ["--data_path", labelled, "--output_dir", "out/", *REFERENCE, *TINY]
    for _ in range(2):
        assert call(*command)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out-16", "out-2"]


def test_corrupt_image_found_by_the_index_is_listed_and_left_out(call: Call, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "data")
    (tmp_path / "data" / "dark" / "broken.jpg").write_text("no image")
    code, output, _ = call("--data_path", "data", "--output_dir", "out", *REFERENCE, *TINY)
    assert code == 0
    assert "left out: dark/broken.jpg: not an image" in output


def test_corrupt_image_found_in_decoding_is_replaced_and_named_or_ends_the_run(
    call: Call, labelled: Path, tmp_path: Path
) -> None:
    shutil.copytree(labelled, tmp_path / "data")
    path = tmp_path / "data" / "dark" / "00.jpg"
    path.write_bytes(path.read_bytes()[:900])
    arguments = ["--data_path", "data", "--output_dir", "out", *REFERENCE, *TINY]
    code, output, _ = call(*arguments)
    assert code == 0
    assert "bad image" in output
    assert "1 replaced, see out/bad_images.jsonl" in output
    assert "dark/00.jpg" in (tmp_path / "out" / "bad_images.jsonl").read_text()
    code, _, errors = call(*arguments, "data.on_error=raise")
    assert code == 1
    assert "dark/00.jpg" in errors
    assert "data.on_error=replace" in errors
    assert errors.count("\n") == 1
    shutil.rmtree(tmp_path / "out")
    code, _, errors = call(*arguments, "data.max_bad=0")
    assert code == 1
    assert "more than max_bad=0 allows" in errors
    assert "raise max_bad (in hjepa-train data.max_bad)" in errors


def test_number_and_size_of_local_crops_follow_the_epochs(call: Call, labelled: Path) -> None:
    adaptive = [
        f"data.multicrop.adaptive_config.{name}" for name in ("min_local_crops=1", "max_local_crops=3", "warmup_epochs=1")
    ]
    arguments = [
        "--data_path",
        str(labelled),
        "--output_dir",
        "out",
        *REFERENCE,
        *TINY,
        "data.multicrop.adaptive=true",
        "data.multicrop.num_local_crops=6",
        "model.ema.momentum_warmup_epochs=2",
        *adaptive,
        "data.multicrop.curriculum=[{from_epoch: 2, local_crop_size: 24}]",
    ]
    code, output, _ = call(*arguments, "--epochs", "3")
    assert code == 0
    assert "1x16 local at first" in output
    assert "3x16 local from epoch 2 on" in output
    assert "3x24 local from epoch 3 on" in output
    assert "note: model.ema.momentum_end=1 is reached after 2 of 3 epochs" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data_path", "missing"], "missing does not exist"),
        (["--data_path", ""], "--data-path is empty"),
        (["--config", "small", "--data_path", ""], "--data-path is empty"),
        (["--output_dir", ""], "--output-dir is empty"),
        (["--data_path", "empty"], "no images in"),
        (["--data_path", "texts"], r"found: 1 .txt"),
        (["--config", "missing.yaml"], "there is no file missing.yaml"),
        (["trainig.lr=1"], "did you mean training.lr"),
        (["--lr", "-1"], "training.lr=-1.0"),
        (["--pipeline", "ffcv"], "data.pipeline"),
        (["--dataset", "cifar10", "--data_path", "empty"], "no CIFAR-10 in"),
        (["data.dataset=cifar10", "--data_path", "empty"], "no CIFAR-10 in"),
        (["--resume", "missing.pt"], "there is no checkpoint missing.pt"),
        (["--batch_size", "1000000", "--data_path", "images"], "more than the 40 images"),
        (["--data_path", "images", "--output_dir", "texts/a.txt"], "--output-dir texts/a.txt is a file"),
        (["--data_path", "images", "--output_dir", "texts/a.txt/b/c"], "cannot be made, because"),
        (["--data_path", "images", "--output_dir", "/proc/x"], "the folder /proc/x cannot be made (No such file"),
        (["--device", "gpu"], "device"),
        (["--distributed"], "distributed.enabled=true, and this process was not started by torchrun"),
        (["--world_size", "2"], "distributed.world_size=2, and there are 1 ranks"),
        (["--local_rank", "1"], "--local-rank 1, and this process was not started by torchrun"),
        pytest.param(["--device", "cuda"], "torch finds no GPU here", marks=WITHOUT_GPU),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, call: Call, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    (tmp_path / "images").symlink_to(labelled)
    code, _, errors = call(*arguments)
    assert code == 2
    assert message in errors
    assert errors.startswith("hjepa-train: ")
    assert errors.count("\n") == 1
    assert "Traceback" not in errors


def test_debug_shows_where_an_error_came_from(call: Call) -> None:
    code, output, errors = call("--data_path", "missing", "--debug")
    assert code == 2
    assert "open_folder" in output
    assert errors.count("\n") == 1


def test_run_that_cannot_start_takes_no_folder(call: Call, labelled: Path, tmp_path: Path) -> None:
    assert call("--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY, "--batch_size", "41")[0] == 2
    assert list(tmp_path.iterdir()) == []


def test_misspelt_flag_is_refused_with_the_right_one(call: Call) -> None:
    code, _, errors = call("--batchsize", "8")
    assert code == 2
    assert "--batch-size" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("limit", "message"),
    [(1_500_000, "cannot write the checkpoint out/checkpoints/"), (20_000, "cannot write to out or out/logs (File too large)")],
    ids=["checkpoint", "picture"],
)
def test_full_disk_ends_with_one_line_and_no_half_checkpoint(limit: int, message: str, labelled: Path, tmp_path: Path) -> None:
    def no_larger_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # bytes

    ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"  # so that the write fails as on a full disk
    command = [sys.executable, "-c", f"{ignore}; from hjepa.cli import main; main()"]
    wide = ["model.encoder.width=64", "model.embed_dim=64", "model.encoder.depth=4", "evaluation.knn.enabled=false"]
    arguments = ["--data_path", str(labelled), "--output_dir", "out", *REFERENCE, *TINY, *wide]
    done = subprocess.run(
        [*command, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).resolve().parents[1])},
        preexec_fn=no_larger_files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "out").rglob("*.pt")) == []
    assert list((tmp_path / "out").rglob(".*.pt*")) == []


def test_another_number_of_images_in_an_update_is_said(tmp_path: Path) -> None:
    settings = load_settings(Path("small"), ["data.batch_size=8", "device=cpu"])
    content = {"step": 3, "world_size": 2, "settings": settings.model_dump(mode="json")}
    resume = Resume(path=tmp_path / "latest.pt", output=tmp_path, content=content)
    with Ranks(settings) as ranks:
        (note,) = [note for note in resume_notes(resume, settings, ranks) if note.startswith("note: ")]
        assert "an update was of 16 images on 2 ranks and is of 8 on 1" in note
        content["world_size"] = 1
        assert not [note for note in resume_notes(resume, settings, ranks) if note.startswith("note: ")]


def test_printed_commands_can_be_pasted_where_a_name_has_spaces(call: Call, labelled: Path) -> None:
    code, output, _ = call("--data_path", labelled, "--output_dir", "o t", *REFERENCE, *TINY)
    assert code == 0
    assert "tensorboard --logdir 'o t/logs'" in output


def test_checkpoint_of_a_folder_is_not_resumed_in_another(call: Call, labelled: Path) -> None:
    command = ["--data_path", labelled, *REFERENCE, *TINY]
    assert call(*command, "--output_dir", "out")[0] == 0
    code, _, errors = call(*command, "--output_dir", "other", "--resume", "out/checkpoints/latest.pt")
    assert code == 2
    assert "goes on in out, where its log and checkpoints are, and --output-dir is other" in errors
    for same in ([], ["--output_dir", "out"], ["--output_dir", Path("out").absolute()]):
        assert call(*command, *same, "--resume", "out/checkpoints/latest.pt")[0] == 0


def test_copied_checkpoint_does_not_go_on_over_another_run(call: Call, labelled: Path, tmp_path: Path) -> None:
    command = ["--data_path", labelled, *REFERENCE, *TINY]
    assert call(*command, "--output_dir", "out")[0] == 0
    shutil.copy("out/checkpoints/latest.pt", "copy.pt")
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    code, _, errors = call(*command, "--output_dir", "out", "--resume", "copy.pt")
    assert code == 2
    assert "--resume copy.pt would go on in out, over the log and the checkpoints of the run that is there" in errors
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before
    assert call(*command, "--output_dir", "new", "--resume", "copy.pt")[::2] == (0, "")
    (tmp_path / "killed").mkdir()  # before its first checkpoint
    shutil.copy("out/settings.yaml", "killed/settings.yaml")
    assert call(*command, "--output_dir", "killed", "--resume", "copy.pt")[::2] == (0, "")


def test_changed_setting_is_refused_on_resume(call: Call, labelled: Path) -> None:
    command = ["--data_path", labelled, "--output_dir", "out", *REFERENCE, *TINY]
    assert call(*command)[0] == 0
    code, _, errors = call(*command, "--lr", "0.5", "--resume", f"out/checkpoints/{checkpoint.LATEST}")
    assert code == 2
    assert "training.lr was" in errors


@pytest.mark.fused
def test_first_line_names_the_engine_that_dali_stands_for(call: Call, labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["--pipeline", "dali", "--device", "cpu", "--epochs", "1", "--batch_size", "8", *TINY, "--data-path", labelled]
    _, output, _ = call(*command)
    assert output.splitlines()[0] == "engine: fused, DALI decodes and hjepa's kernel makes every crop; device: cpu"

    def missing() -> list[str]:
        raise MissingKernelError

    monkeypatch.setattr("hjepa.pipeline.backend.builds", missing)
    _, output, _ = call(*command, "--resume", "auto")
    assert output.startswith("engine: dali-ops, DALI's operators (hjepa's own kernel is faster, but is not built")
    assert "the crops were made by fused so far and are by dali-ops from here on" in output
