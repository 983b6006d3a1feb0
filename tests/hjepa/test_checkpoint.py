"""Checkpoints: whole or not at all, refused when foreign, kept by score."""

import errno
import resource
from pathlib import Path

import pytest
import torch

from hjepa import checkpoint
from hjepa.configs.load import load_settings
from hjepa.run_folder import find_resume
from hjepa.run_lock import RunLock

CPU = torch.device("cpu")
STATE: dict[str, object] = {"model": {}, "settings": {}}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.pt"
    checkpoint.save(path, STATE | {"step": 3, "weights": {"a": torch.ones(2)}})
    state = checkpoint.load(path, CPU)
    assert state["step"] == 3
    assert torch.equal(state["weights"]["a"], torch.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed\nstack")])
def test_failed_write_leaves_the_previous_checkpoint(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    checkpoint.save(path, STATE | {"step": 1})

    def half(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*x\.pt \((No space|write failed)"):
        checkpoint.save(path, STATE | {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path, CPU)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]


def test_limit_of_the_system_is_named_as_such(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))  # bytes; torch reports it, as a full disk, in its own words
    try:
        with pytest.raises(OSError, match=r"x\.pt \(File too large\)"):  # and not where torch was in the file
            checkpoint.save(tmp_path / "x.pt", {"weights": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"i", 900, 5000], ids=["empty", "foreign", "no opcode", "truncated", "cut in half"]
)
def test_damaged_file_is_refused_with_its_name(content: bytes | int, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    checkpoint.save(path, {"weights": torch.ones(10_000)})
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoint.load(path, CPU)
    # nothing of torch's: its advice is to run whatever code the file holds
    assert str(error.value) == f"{path} is not a checkpoint of hjepa, or it is damaged; resume from another"


@pytest.mark.parametrize("state", [{"model": {}}, {"model": {}, "settings": []}], ids=["missing", "of another kind"])
def test_file_without_what_a_checkpoint_holds_is_refused(state: dict[str, object], tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x.pt", state)
    with pytest.raises(checkpoint.CheckpointError, match=r"x\.pt is not a checkpoint of hjepa: it lacks settings"):
        checkpoint.load(tmp_path / "x.pt", CPU)


def test_weights_alone_are_no_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    """As of those who make a checkpoint smaller before they hand it on."""
    named = tmp_path / "x.pt"
    checkpoint.save(named, {"model": {}, "settings": {}})
    assert checkpoint.load(named, CPU)["model"] == {}
    settings = load_settings(Path("small"), ["data.dataset=sample"], {"checkpoint.resume": str(named)})
    with pytest.raises(checkpoint.CheckpointError, match=r"x\.pt is no checkpoint to go on from: it lacks optimizer, step, "):
        find_resume(settings, RunLock())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", "x"),
        ("kept", 3),
        ("optimizer", []),
        ("loader", None),
        ("torch_rng", 1),
        ("world_size", "two"),
        ("unended", None),
    ],
)
def test_entry_of_another_kind_is_said_by_its_name_where_a_run_would_go_on(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    empty = {name: None if kind == float | None else kind() for name, kind in checkpoint.RESUMED.items()}
    checkpoint.save(path, empty)
    assert checkpoint.load(path, CPU, checkpoint.RESUMED)["kept"] == {}
    checkpoint.save(path, empty | {name: value})
    with pytest.raises(checkpoint.CheckpointError, match=rf"x\.pt is no checkpoint to go on from: it lacks {name}; resume"):
        checkpoint.load(path, CPU, checkpoint.RESUMED)
    assert checkpoint.load(path, CPU)["model"] == {}  # and is one to be evaluated


def test_newest_is_the_latest_and_then_by_the_number_of_epochs(tmp_path: Path) -> None:
    names = [checkpoint.LATEST, "epoch_10000.pt", "epoch_9999.pt", "epoch_0002.pt"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in checkpoint.newest_first(tmp_path)] == names


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.CheckpointError, match=r"there is no checkpoint .*, such as runs/small/"):
        checkpoint.load(tmp_path / "x.pt", CPU)


@pytest.mark.parametrize("inside", ["latest.pt", "checkpoints/latest.pt"])
def test_folder_of_a_run_is_refused_with_its_checkpoint_named(inside: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / inside, {})
    with pytest.raises(checkpoint.CheckpointError, match=f"such as {tmp_path / inside}"):
        checkpoint.load(tmp_path, CPU)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    torch.save({"format": 1, "evil": Evil()}, tmp_path / "x.pt")
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.load(tmp_path / "x.pt", CPU)


def test_changed_experiment_is_refused_by_what_changed() -> None:
    saved = {"settings": checkpoint.plain_settings(load_settings(Path("small")))}
    with pytest.raises(checkpoint.CheckpointError, match=r"training\.lr was 0\.\d+, now 0\.5"):
        checkpoint.check_settings(saved, load_settings(Path("small"), ["training.lr=0.5"]), Path("x.pt"))
    free = [
        "data.num_workers=1",
        "data.prefetch=7",
        "output_dir=elsewhere",
        "logging.log_frequency=1",
        "data.pipeline=torchvision",
        "data.max_bad=0.1",  # as the error of a run with too many bad images advises
        "data.on_error=raise",
    ]
    checkpoint.check_settings(saved, load_settings(Path("small"), free), Path("x.pt"))


def test_teacher_temperature_that_nothing_read_may_be_left_out() -> None:
    """It is refused now where no ramp begins with it, so that a run which had it could not go on otherwise."""
    settings = load_settings(Path("small_dino"))
    saved = {"settings": checkpoint.plain_settings(settings)}
    saved["settings"]["dino"]["teacher_temperature"] = 0.06
    checkpoint.check_settings(saved, settings, Path("x.pt"))


LEVELS_ALONE = ["model.spread_weight=0"]
CROSS = [*LEVELS_ALONE, "masking.strategy=cross_crop_prediction"]
DINO = ["objective=dino", "dino.koleo_weight=0"]
KOLEO = ["objective=dino", "dino.koleo_weight=0.1"]


@pytest.mark.parametrize("terms", [LEVELS_ALONE, DINO, [], CROSS, KOLEO], ids=["levels", "dino", "spread", "cross", "koleo"])
@pytest.mark.parametrize(
    ("world_size", "batch_size", "accumulation_steps"), [(1, 32, 1), (2, 16, 1), (4, 8, 1), (1, 8, 4), (2, 8, 2)]
)
def test_an_update_of_as_many_images_may_be_divided_otherwise(
    world_size: int, batch_size: int, accumulation_steps: int, terms: list[str]
) -> None:
    """Among ranks always; into batches that are accumulated where no term of the loss sees a batch as a whole."""
    config = Path("small_dino" if "objective=dino" in terms else "small")
    path, saved = Path("x.pt"), {"settings": checkpoint.plain_settings(load_settings(config, terms)), "world_size": 1}
    division = [*terms, f"data.batch_size={batch_size}", f"training.accumulation_steps={accumulation_steps}"]
    if accumulation_steps == 1 or terms in (LEVELS_ALONE, DINO):
        checkpoint.check_settings(saved, load_settings(config, division), path, world_size)
    else:
        with pytest.raises(checkpoint.CheckpointError, match=r"training\.accumulation_steps was 1"):
            checkpoint.check_settings(saved, load_settings(config, division), path, world_size)
    more = [*division, f"data.batch_size={3 * batch_size}"]
    with pytest.raises(checkpoint.CheckpointError, match=r"data\.batch_size was 32"):
        checkpoint.check_settings(saved, load_settings(config, more), path, world_size)


def test_the_best_are_kept(tmp_path: Path) -> None:
    scores: dict[str, float] = {}
    for name, score in {"a": 0.2, "b": 0.9, "c": 0.5, "d": 0.1}.items():
        (tmp_path / name).touch()
        scores = checkpoint.keep_best(tmp_path, scores | {name: score}, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(scores) == ["b", "c"]
