"""The table at the end of a run says what was measured, and why what was not."""

import pytest

from hjepa.configs.load import load_settings
from hjepa.result import Result
from hjepa.result_table import counted, result_rows


@pytest.mark.parametrize(
    ("enabled", "num_classes", "reason"),
    [
        ("true", 0, "no labels"),
        ("true", 1, "all images are of one class"),
        ("true", 2, "it was interrupted before"),
        ("false", 2, "evaluation.knn.enabled=false"),
    ],
)
def test_accuracy_that_was_not_measured_says_why(enabled: str, num_classes: int, reason: str) -> None:
    settings = load_settings(None, [f"evaluation.knn.enabled={enabled}"])
    assert result_rows(Result(), settings, num_classes, 4)["kNN accuracy"] == f"not measured ({reason})"


def test_labels_that_no_two_images_have_are_said_of_an_evaluation() -> None:
    rows = result_rows(Result(rankme={0: 2.0}), load_settings(None, []), 2, 4)
    assert rows["kNN accuracy"] == "not measured (no two images have labels)"


def test_run_that_had_nothing_left_to_do_has_no_empty_rows() -> None:
    rows = result_rows(Result(step=4, first_loss=2.0, accuracies={0: 0.1, 1: 0.25}), load_settings(None, []), 2, 4)
    assert rows == {"steps": "4 of 4", "kNN accuracy": "10.0% after 0 epochs, 25.0% after 1"}
    rows = result_rows(
        Result(step=4, first_loss=2.0, last_loss=1.0, images=10, seconds=2, wait_seconds=1), load_settings(), 2, 4
    )
    assert rows["loss"] == "2.0000 at first, 1.0000 at last"
    assert (rows["images/s"], rows["data wait"]) == ("5 (training)", "50.0% of the training time")


def test_one_of_something_is_no_plural() -> None:
    assert [counted(number, "class") for number in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
    assert counted(1, "epoch") == "1 epoch"
    only = Result(accuracies={1: 0.5})
    assert result_rows(only, load_settings(), 2, 4)["kNN accuracy"] == "50.0% after 1 epoch"


def test_the_table_shows_the_rank_of_features_that_have_no_labels() -> None:
    rows = result_rows(Result(rankme={0: 23.94, 10: 31.04, 20: 40.06}), load_settings(), 0, 4)
    assert rows["RankMe"] == "23.9 after 0 epochs, 40.1 after 20"
    assert rows["kNN accuracy"] == "not measured (no labels)"
