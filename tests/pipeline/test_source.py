"""What a source of the user's own may give, and what is refused by name instead of being taken for bad images."""

from typing import Any

import numpy as np
import pytest

from hjepa.pipeline.source import Samples


def samples(**other: Any) -> Samples:
    given = {
        "encoded": [np.zeros(5, dtype=np.uint8)] * 2,
        "sizes": np.ones((2, 2), dtype=np.int32),
        "orientation": np.ones(2, dtype=np.uint8),
        "labels": np.zeros(2, dtype=np.int64),
        "keys": ("a", "b"),
    }
    return Samples(**given | other)


def test_whole_numbers_of_any_width_are_taken() -> None:
    given = samples(sizes=[[3, 4], [5, 6]], orientation=[1, 8], labels=np.array([1, 0], dtype=np.int16))
    assert (given.sizes.dtype, given.orientation.dtype, given.labels.dtype) == (np.int32, np.uint8, np.int64)
    assert (given.sizes.tolist(), given.orientation.tolist(), given.labels.tolist()) == ([[3, 4], [5, 6]], [1, 8], [1, 0])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("encoded", np.array(["a.jpg", "b.jpg"]), r"encoded is <U5; give paths as an array of bytes"),
        ("encoded", [b"\xff\xd8", b"\xff\xd8"], "encoded is a list; give"),
        ("sizes", np.ones((2, 2)), r"sizes is float64 \[2, 2\]; it must be int32 \[2, 2\] for 2 images"),
        ("sizes", np.ones((2, 3), dtype=np.int32), r"sizes is int32 \[2, 3\]"),
        ("labels", np.zeros(3, dtype=np.int64), r"labels is int64 \[3\]; it must be int64 \[2\]"),
    ],
    ids=["paths as text", "contents as bytes", "fractions", "channels", "too many"],
)
def test_what_a_loader_cannot_read_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samples(**{field: value})
