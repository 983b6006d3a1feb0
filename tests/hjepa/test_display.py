"""What the terminal shows while something works: nothing that counts is cut off, however long the name of the work."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hjepa.display import Display
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
