"""What docs/commands.md shows of the terminal is what the commands say: its transcripts are replayed, in their order."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from hjepa import cli, commands

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
PROGRAMS = {"hjepa-train": cli.main, "hjepa": commands.main}


def transcripts() -> list[tuple[str, str]]:
    """Command and output of each."""
    shown = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [tuple(part.split("\n", 1)) for block in shown for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]


def shape(text: str) -> str:
    """A text without what differs from run to run: figures, the widths of tables, and where the images lie."""
    text = re.sub(r"in \S+/photos ", "in photos ", re.sub(r"\d+(\.\d+)?", "0", text))
    return "\n".join(re.sub(r"[ ─]+", " ", line).rstrip() for line in text.strip("\n").split("\n")) + "\n"


def pattern(output: str) -> str:
    """Of a transcript's shape: a line `...` stands for any lines, `...` in a line for anything."""
    lines = re.escape(shape(output)).replace(re.escape("...\n"), r"(?:[^\n]*\n)*?")
    return lines.replace(r"\.\.\.", "[^\n]*")


@pytest.mark.dali
@pytest.mark.skipif(torch.cuda.is_available(), reason="the page shows a machine without a GPU")
def test_transcripts_are_what_the_commands_say(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "photos").symlink_to(labelled)
    assert len(transcripts()) >= 6
    for command, output in transcripts():
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", words)
        code = 0
        try:
            PROGRAMS[words[0]]()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        said = shape(captured.out + captured.err)
        assert re.fullmatch(pattern(output), said), f"{command}\n{said}\nis not as shown:\n{shape(output)}"
        assert code == (2 if captured.err else 0) or words[1] == "doctor", command  # the machine may have something


def test_every_command_has_its_transcript() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = [command.name for command in commands.app.registered_commands]
    assert [name for name in names if f"\n## hjepa {name}\n" not in page] == []
