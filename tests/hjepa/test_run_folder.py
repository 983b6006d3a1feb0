import errno
from pathlib import Path

import pytest

from hjepa import run_folder
from hjepa.configs.load import load_settings
from hjepa.configs.schema import Settings
from hjepa.run_folder import SETTINGS, Resume, check_output, fresh_folder, mark_folder
from hjepa.run_lock import RunLock


def settings_for(output: Path) -> Settings:
    return load_settings(Path("small"), [f"output_dir={output}", "device=cpu"])


def test_run_that_a_full_disk_kept_from_beginning_marks_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings = settings_for(tmp_path / "run")
    monkeypatch.setattr(run_folder, "to_yaml", full)
    with pytest.raises(OSError, match="No space"):
        mark_folder(settings, RunLock(), is_new=True)
    assert fresh_folder(settings) == settings  # else the next try would go to another folder


def test_full_disk_leaves_the_settings_of_a_run_that_is_resumed(tmp_path: Path) -> None:
    settings, lock = settings_for(tmp_path), RunLock()
    mark_folder(settings, lock, is_new=True)
    before = (tmp_path / SETTINGS).read_text(encoding="utf-8")
    (tmp_path / f".{SETTINGS}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        mark_folder(settings, lock, is_new=False)
    lock.release()
    assert (tmp_path / SETTINGS).read_text(encoding="utf-8") == before
    assert [file.name for file in tmp_path.iterdir()] == [SETTINGS]


def test_run_that_took_a_numbered_folder_goes_on_by_the_command_that_began_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "run")
    for _ in range(2):
        own, lock = fresh_folder(settings), RunLock()
        mark_folder(own, lock, is_new=True)
        lock.release()
    output = Path(own.output_dir)
    assert output.name == "run-2"
    path = output / "checkpoints" / "latest.pt"
    named = settings.model_copy(update={"checkpoint": settings.checkpoint.model_copy(update={"resume": str(path)})})
    resume = Resume(path=path, output=output, content={})
    check_output(resume, named, settings.output_dir)  # what an interrupted run prints has its own --output-dir in it
    other = named.model_copy(update={"output_dir": str(tmp_path / "other")})
    with pytest.raises(ValueError, match="leave --output-dir out"):
        check_output(resume, other, other.output_dir)
