"""From labels as people write them (numbers, names, nothing) to numbers of classes."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

# N images
LABEL_NAMES = ("label", "labels", "fine_label", "cls", "class", "target", "category", "class_name")
"""What the label of an image is called, in tables, items and .json members; the first that is there counts."""
MAX_NUMBER = 100_000
"""Numbers up to this one are numbers of classes; larger ones are names that happen to be written in digits."""


def number_labels(values: Sequence[Any]) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """int64 [N] numbers of classes, -1 for None, and the names of the classes.

    Numbers from -1 on (also written in digits, or as whole floats, which tables make of numbers where one is missing) stay what
    they are, and -1 and NaN are no label; the classes are then named "0", "1", ... Once one label is a name, all are names,
    sorted. Raises ValueError for lists.
    """
    values = [plain_label(value) for value in values]
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers):
        labels = np.array(numbers, dtype=np.int64)
        return labels, tuple(str(number) for number in range(int(labels.max(initial=-1)) + 1))
    labelled = [str(value) for value, number in zip(values, numbers, strict=True) if number != -1]
    order = {name: place for place, name in enumerate(sorted(set(labelled)))}
    pairs = zip(values, numbers, strict=True)
    return np.array([-1 if number == -1 else order[str(value)] for value, number in pairs], dtype=np.int64), tuple(order)


def plain_label(value: Any) -> int | str | None:
    """A label of a table or an item: a number, a name, or None for none. Raises ValueError for several."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        whole = re.fullmatch(r"\s*(-?\d+)\.0+\s*", value)
        return whole[1] if whole else None if value.strip() in ("nan", "NaN") else value
    if isinstance(value, list | tuple | dict):
        raise ValueError(f"a label is {value!r}, and one number or name is wanted; name another column or member of labels")
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else int(value) if float(value).is_integer() else str(value)
    return value if value is None or isinstance(value, int) else str(value)


def is_number(text: str) -> bool:
    """Whether a label as it is written is the number of a class, or -1 for none."""
    return _number(text) is not None


def _number(value: int | str | None) -> int | None:
    """The number of a class that the label is, -1 for no label; None where it is a name."""
    if value is None:
        return -1
    text = str(value).strip()
    if text == "-1":
        return -1
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= MAX_NUMBER else None
