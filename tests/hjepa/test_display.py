"""What the terminal shows while something works: nothing that counts is cut off, however long the name of the work."""

import io

import pytest
from rich.console import Console

from hjepa.display import Display


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
