"""What a source of the user's own may give, and what is refused by name instead of being taken for bad images."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.source import Samples, Subset, as_ppm


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


class OneArray:
    """Gives the same array of labels for every batch."""

    name, classes, bad = "memory", (), ()

    def __init__(self, *, writeable: bool) -> None:
        self.labels = np.full(2, -1)
        self.labels.flags.writeable = writeable

    def __len__(self) -> int:
        return 4

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        image = as_ppm(np.zeros((8, 8, 3), dtype=np.uint8))
        sizes = np.full((len(indices), 2), 8)
        return samples(encoded=[image] * len(indices), sizes=sizes, labels=self.labels[: len(indices)])

    def fingerprint(self) -> str:
        return "one array"


@pytest.mark.parametrize("writeable", [True, False])
def test_labels_of_a_batch_are_not_the_sources_array(writeable: bool) -> None:
    source = OneArray(writeable=writeable)
    recipe = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=16)
    with Loader(source, recipe, batch_size=2, backend="torchvision", device="cpu", num_workers=0) as loader:
        for batch in loader:
            assert batch.labels.tolist() == [-1, -1]
            batch.labels.fill_(7)
    assert source.labels.tolist() == [-1, -1]


def test_choice_among_many_images_is_digested_once_and_not_for_every_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Image.new("RGB", (10, 10 + number)).save(tmp_path / f"{number}.png")
    whole, small = open_folder(tmp_path), open_folder(tmp_path, max_pixels=115)
    part = Subset(source=whole, chosen=np.array([0, 2]))
    first = [source.fingerprint() for source in (whole, small, part)]
    assert len(set(first)) == 3
    monkeypatch.setattr(hashlib, "sha256", None)
    assert [source.fingerprint() for source in (whole, small, part)] == first
