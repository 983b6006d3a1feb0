"""The example of masks runs as it stands."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "masking.py")


def test_example_runs_to_a_training_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [EXAMPLE, "--output", str(tmp_path)])
    runpy.run_path(EXAMPLE, run_name="__main__")
    printed = capsys.readouterr().out
    assert "overlap_max: 0.0000" in printed
    assert "refused: 4 target blocks of at least" in printed
    assert "teacher: 0 of 28 parameters have a gradient" in printed
    assert "student: 28 of 28" in printed
    assert {path.name for path in tmp_path.iterdir()} == {
        "multi_block_masks_demo.png",
        "hierarchical_masks_demo.png",
        "hierarchical_masks_combined_demo.png",
        "multicrop_masks_global_only.png",
        "multicrop_masks_global_with_local_context.png",
        "multicrop_masks_cross_crop_prediction.png",
    }
