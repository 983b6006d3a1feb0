"""Which checkpoints keep their names, also where a run is resumed otherwise than it was begun."""

from pathlib import Path

import pytest

from hjepa.configs.load import load_settings
from hjepa.kept import Kept
from hjepa.result import Result


def open_kept(folder: Path, *overrides: str) -> Kept:
    return Kept(load_settings(Path("small"), [f"checkpoint.checkpoint_dir={folder}", "checkpoint.keep_best_n=2", *overrides]))


def add(kept: Kept, folder: Path, epochs_done: int, result: Result) -> list[str]:
    """The names of the epochs whose files there are after one more."""
    name = f"epoch_{epochs_done:04d}.pt"
    kept.add(name, epochs_done, result)
    (folder / name).touch()
    kept.delete_worse()
    return sorted(path.name for path in folder.glob("epoch_*.pt"))


@pytest.mark.parametrize("measure", ["accuracies", "probe_accuracies"])
def test_an_accuracy_decides_and_epochs_without_one_go_first(measure: str, tmp_path: Path) -> None:
    probe = ["evaluation.knn.enabled=false", "evaluation.linear_probe.enabled=true"] if measure == "probe_accuracies" else []
    kept, result = open_kept(tmp_path, *probe), Result(last_loss=1.0)
    getattr(result, measure).update({1: 0.5, 2: 0.9, 4: 0.6})
    for epochs in (1, 2, 3):
        left = add(kept, tmp_path, epochs, result)
    assert left == ["epoch_0001.pt", "epoch_0002.pt"]
    assert add(kept, tmp_path, 4, result) == ["epoch_0002.pt", "epoch_0004.pt"]


def test_of_epochs_without_an_accuracy_the_newest_stay(tmp_path: Path) -> None:
    """It is from them that a run goes on whose latest checkpoint cannot be read."""
    kept, result = open_kept(tmp_path), Result(accuracies={0: 0.3, 3: 0.5})  # saved every epoch, evaluated every third
    left = [add(kept, tmp_path, epochs, result) for epochs in range(1, 6)]
    assert left[2] == ["epoch_0002.pt", "epoch_0003.pt"]
    assert left[4] == ["epoch_0003.pt", "epoch_0005.pt"]


def test_of_equals_the_newest_stay_beyond_four_digits_too(tmp_path: Path) -> None:
    kept, result = open_kept(tmp_path), Result(accuracies={9998: 0.5, 9999: 0.5, 10000: 0.5})
    left = [add(kept, tmp_path, epochs, result) for epochs in result.accuracies]
    assert left[-1] == ["epoch_10000.pt", "epoch_9999.pt"]


def test_the_newest_are_kept_where_no_accuracy_is_measured(tmp_path: Path) -> None:
    kept = open_kept(tmp_path)
    for epochs, loss in {1: 1.0, 2: 2.0, 3: 3.0}.items():
        left = add(kept, tmp_path, epochs, Result(last_loss=loss))
    assert left == ["epoch_0002.pt", "epoch_0003.pt"]


def test_scores_of_another_measure_are_forgotten_and_their_files_stay(tmp_path: Path) -> None:
    kept, result = open_kept(tmp_path), Result(last_loss=1.0, accuracies={1: 0.5, 2: 0.6})
    for epochs in (1, 2):
        add(kept, tmp_path, epochs, result)
    resumed = open_kept(tmp_path, "evaluation.knn.enabled=false")
    resumed.restore(kept.state() | {"accuracies": result.accuracies})
    for epochs, loss in {3: 3.0, 4: 1.0, 5: 2.0}.items():
        left = add(resumed, tmp_path, epochs, Result(last_loss=loss, accuracies=result.accuracies))
    assert left == [f"epoch_000{epochs}.pt" for epochs in (1, 2, 4, 5)]


def test_files_that_were_kept_by_the_loss_stay_beside_the_newest(tmp_path: Path) -> None:
    (tmp_path / "epoch_0001.pt").touch()
    kept = open_kept(tmp_path)
    kept.restore({"kept": {"epoch_0001.pt": -0.5}, "kept_by": "loss", "accuracies": {}})
    for epochs in (2, 3, 4):
        left = add(kept, tmp_path, epochs, Result())
    assert left == ["epoch_0001.pt", "epoch_0003.pt", "epoch_0004.pt"]


def test_files_that_are_not_here_take_no_place(tmp_path: Path) -> None:
    kept = open_kept(tmp_path)
    kept.restore({"kept": {"epoch_0001.pt": 0.9, "epoch_0002.pt": 0.8}, "accuracies": {1: 0.9, 2: 0.8}})
    result = Result(accuracies={3: 0.1, 4: 0.2})
    add(kept, tmp_path, 3, result)
    assert add(kept, tmp_path, 4, result) == ["epoch_0003.pt", "epoch_0004.pt"]


def test_no_file_but_the_checkpoints_of_its_folder_is_deleted_for_a_foreign_checkpoint(tmp_path: Path) -> None:
    folder, thesis = tmp_path / "checkpoints", tmp_path / "thesis.tex"
    folder.mkdir()
    mine = [thesis, folder / "latest.pt"]
    for file in mine:
        file.touch()
    kept = open_kept(folder)
    kept.restore({"kept": {"../thesis.tex": 0.0, str(thesis): 0.0, "latest.pt": 0.0}, "kept_by": "newest", "accuracies": {}})
    for epochs in (1, 2, 3):
        add(kept, folder, epochs, Result())
    assert all(file.exists() for file in mine)
