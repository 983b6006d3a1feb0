"""What the terminal shows while something works: nothing that counts is cut off, however long the name of the work."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from hjepa.display import Display
from hjepa.doctor_command import _tell_findings
from hjepa.findings import Finding
from hjepa.pipeline.presets import preset
from hjepa.recipe_table import recipe_table


@pytest.mark.parametrize("description", ["reading", f"making 2000 sample images in /home/{'long/' * 20}cache"])
@pytest.mark.parametrize("width", [60, 80, 200])
def test_count_is_whole_on_a_terminal_of_any_width(description: str, width: int) -> None:
    screen = io.StringIO()
    with Display(Console(file=screen, force_terminal=True, width=width)) as display:
        display.show(description, 0, 2000)
    shown = screen.getvalue()
    assert "   0/2000" in shown
    assert "0:00:00" in shown
    assert description[:12] in shown
    assert (description in shown) == (len(description) <= width - 38)


def test_brackets_are_what_they_are_and_no_markup() -> None:
    text = io.StringIO()
    with Display(Console(file=text, width=80)) as display:
        display.table("of [x] and [/x]", {"checkpoint": "runs/e[lr=1]/latest.pt", "closed": "runs/e[/lr]"})
        display.show("reading [/old]", 1, 2, "[note]")
    for part in ("of [x] and [/x]", "runs/e[lr=1]/latest.pt", "runs/e[/lr]", "reading [/old]: 1/2 [note]"):
        assert part in text.getvalue()
    terminal = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Display(terminal) as display:
        display.show("reading [/old]", 1, 2, "[/note]")


def test_name_of_a_recipe_is_no_markup() -> None:
    text = io.StringIO()
    Console(file=text, width=200).print(recipe_table(replace(preset("simclr"), name="of [x]", source="by [/y]")))
    assert "of [x]: by [/y]" in text.getvalue()


def test_first_and_last_step_are_said_where_there_is_no_terminal() -> None:
    text = io.StringIO()
    with Display(Console(file=text, width=80)) as display:
        for done in range(1, 6):
            display.show("reading", done, 5)
        display.show("once", 3, 3)
    assert text.getvalue() == "reading: 1/5\nreading: 5/5\nonce: 3/3\n"


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "b\\udce9d 日 \\x1b[31m"), ("ascii", "b\\udce9d \\u65e5 \\x1b[31m")])
def test_name_that_a_terminal_cannot_show_or_would_obey_ends_nothing(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("hjepa"), "propagate", False)  # pytest-xdist cannot send such a name on, either
    name = os.fsdecode(b"b\xe9d \xe6\x97\xa5 \x1b[31m")
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # strict, as standard output is but for LANG=C
    with Display(Console(file=screen, width=80)) as display:
        display.say(name)
        display.show(name, 1, 2, name)
        display.table(name, {"checkpoint": name})
        logging.getLogger("hjepa").warning("bad image %s", name)
    screen.seek(0)
    assert screen.read().count(shown) == 6


def test_findings_of_a_doctor_show_any_name() -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    finding = Finding(level="note", subject="bad files", text="[b] \udce9\x1b", advice="repair 日")
    _tell_findings(Display(Console(file=screen, width=80)), [finding])
    screen.seek(0)
    assert "[b] \\udce9\\x1b" in (shown := screen.read())
    assert "repair \\u65e5" in shown


@pytest.mark.parametrize("on_terminal", [True, False], ids=["terminal", "file"])
def test_output_on_a_full_disk_ends_nothing_but_a_result(on_terminal: bool, capfd: pytest.CaptureFixture[str]) -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 - closed below, where it cannot be flushed
    with Display(Console(file=full, force_terminal=on_terminal)) as display:
        for step in range(3):
            display.show("training", step, 2)
            display.say("a line")
        logging.getLogger("hjepa").warning("a bad image")
        with pytest.raises(OSError, match=re.escape("cannot write the output (No space left on device); free some space")):
            display.table("Finished", {"loss": "1"})
    with contextlib.suppress(OSError):
        full.close()
    assert capfd.readouterr().err == "cannot write the output (No space left on device); the work goes on\n"


def test_worker_that_is_forked_while_the_bar_is_drawn_does_not_wait_for_it() -> None:
    """Such as one of torchvision's that warns of an image."""
    drawn, may_go_on = threading.Event(), threading.Event()
    may_go_on.set()

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            drawn.set()
            assert may_go_on.wait(20)
            return super().write(text)

    with Display(Console(file=Terminal(), force_terminal=True)) as display:
        display.show("training", 0, 2)
        drawn.clear()
        may_go_on.clear()
        assert drawn.wait(10)
        child = os.fork()
        if not child:
            signal.alarm(5)
            print("a warning", file=sys.stderr)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        may_go_on.set()
    assert status == 0
