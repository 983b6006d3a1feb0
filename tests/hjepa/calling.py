"""A command line called in the test's own process."""

import sys
from collections.abc import Callable

import pytest


class Call:
    """Runs a program's main in this process: exit code, standard output, standard error."""

    def __init__(
        self, name: str, main: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._name, self._main, self._monkeypatch, self._capsys = name, main, monkeypatch, capsys
        monkeypatch.setenv("COLUMNS", "250")

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", [self._name, *map(str, arguments)])
        code = 0
        try:
            self._main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *self._capsys.readouterr()
