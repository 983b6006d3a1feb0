"""The table that ends a run."""

from hjepa.result import Result, in_words


def test_the_table_shows_the_rank_of_features_that_have_no_labels() -> None:
    rows = in_words(Result(first_loss=2.0, last_loss=1.0, rankme={0: 23.94, 10: 31.04, 20: 40.06}))
    assert rows["RankMe"] == "23.9 after 0 epochs, 40.1 after 20"
    assert rows["kNN accuracy"].startswith("not measured")
    assert rows["loss"] == "2.0000 at first, 1.0000 at last"


def test_what_was_measured_once_is_shown_once() -> None:
    rows = in_words(Result(accuracies={3: 0.5}, probe_accuracies={3: 0.25}))
    assert (rows["kNN accuracy"], rows["linear probe"]) == ("50.0% after 3 epochs", "25.0% after 3 epochs")
    assert "RankMe" not in rows
