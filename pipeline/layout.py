"""Which columns of a table of images hold the paths and the labels, and whether its first line names them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hjepa.pipeline.labels import LABEL_NAMES, is_number
from hjepa.pipeline.walk import ENDINGS

Rows: TypeAlias = Sequence[tuple[int, list[str]]]
"""Number of the line, and its fields."""
PATH_NAMES = ("path", "file", "filename", "file_name", "filepath", "image", "img", "image_path")
"""What the first line may call its column of paths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where what stands."""

    path: int
    """Column of the paths."""
    label: int | None
    """Column of the labels; None without."""
    is_named: bool
    """The first line names the columns and no image."""


def find_layout(table: Path, rows: Rows) -> Layout:
    """The layout of a table with at least one line.

    The first line names the columns where it has a usual name of a column of paths; where its path has no ending and all others
    have one; or where its label is no number and all others are. The column beside that of the paths holds the labels, whatever
    it is called; of several it must be called by one of LABEL_NAMES. Raises ValueError where this cannot be told.
    """
    names = [name.strip().lower() for name in rows[0][1]]
    labels = [place for place, name in enumerate(names) if name in LABEL_NAMES]
    path = next((place for place, name in enumerate(names) if name in PATH_NAMES), None)
    if path is None and len(names) == 2 and labels == [0] and not _is_path(table, rows[0][1][1]):
        path = 1
    if path is None:
        if not _names_columns(table, rows):
            return Layout(path=0, label=1 if len(names) > 1 or _has_more(rows) else None, is_named=False)
        path = 0
    others = [place for place in range(len(names)) if place != path]
    label = next((place for place in labels if place != path), others[0] if len(others) == 1 else None)
    if label is None and others:
        raise ValueError(
            f"{table}, line {rows[0][0]}: of the columns {', '.join(rows[0][1])} none is called label; "
            "call that of the labels so, or leave all but the paths out"
        )
    if label is None and _has_more(rows):
        raise ValueError(
            f"{table}, line {rows[0][0]}: {rows[0][1][0]!r} names one column, and other lines have more; write path,label there"
        )
    return Layout(path=path, label=label, is_named=True)


def _has_more(rows: Rows) -> bool:
    """Whether anything stands behind the first column."""
    return any("".join(fields[1:]).strip() for _, fields in rows)


def _names_columns(table: Path, rows: Rows) -> bool:
    """Whether the first line, by what stands in the others, names the columns. Raises ValueError where it may be an image."""
    number, first = rows[0]
    others = [fields for _, fields in rows[1:]]
    texts = [fields[1].strip() for fields in others if len(fields) > 1 and fields[1].strip()]
    label = first[1].strip() if len(first) > 1 else ""
    is_odd = bool(label and texts) and not is_number(label) and all(map(is_number, texts))
    if not _is_path(table, first[0]):
        has_ending = [bool(os.path.splitext(fields[0].strip())[1]) for fields in (first, *others)]
        if is_odd or (len(others) > 0 and not has_ending[0] and all(has_ending[1:]) and not (label and is_number(label))):
            return True
        if label and not is_number(label) and any(_is_path(table, fields[0]) for fields in others[:100]):
            raise ValueError(
                f"{table}, line {number}: {first[0]} is no file; write path,label there if the line names the columns, "
                "or the path of an image"
            )
        return False
    if is_odd:
        raise ValueError(
            f"{table}, line {number}: the label {label!r} of {first[0]} is no number, and all others are; "
            "write a number there, or path,label if the line names the columns"
        )
    return False


def _is_path(table: Path, text: str) -> bool:
    """Whether it is a path, or looks like one, rather than a name of a column."""
    return "/" in text or text.strip().lower().endswith(ENDINGS) or os.path.lexists(table.parent / text.strip())
