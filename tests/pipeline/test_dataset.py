"""Map-style data sets: every kind of item, every kind of image, and items that fail."""

import hashlib
import io
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, random_split

from hjepa.pipeline.content import digest
from hjepa.pipeline.dataset import open_dataset
from hjepa.pipeline.source import Samples, Source, open_image

CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 255, (20, 30, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def everything(source: Source) -> Samples:
    return source.fetch(np.arange(len(source)))


def decoded(samples: Samples, place: int) -> np.ndarray:
    return np.asarray(open_image(samples.encoded, place))


class Items(torch.utils.data.Dataset):
    """Items as given; exceptions are raised."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


def test_parts_of_a_data_set_are_read_one_item_at_a_time_whoever_reads() -> None:
    within, most = [0], [0]

    class Shared(torch.utils.data.Dataset):
        """As a file that is sought and read, which two threads must not do at once."""

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            within[0] += 1
            most[0] = max(most[0], within[0])
            time.sleep(0.002)
            within[0] -= 1
            return IMAGE, index

    parts = random_split(Shared(), [20, 20])
    sources = [open_dataset(part) for part in parts]
    with ThreadPoolExecutor(2) as pool:
        labels = [samples.labels.tolist() for samples in pool.map(everything, sources)]
    assert labels == [list(part.indices) for part in parts]
    assert most == [1]


@pytest.mark.parametrize(
    "image",
    [IMAGE, png(IMAGE), bytearray(png(IMAGE)), PIXELS, {"bytes": png(IMAGE), "path": None}],
    ids=["PIL", "bytes", "bytearray", "array", "pair"],
)
@pytest.mark.parametrize(
    ("wrap", "label"),
    [
        (lambda image: image, -1),
        (lambda image: (image, 5), 5),
        (lambda image: (image, torch.tensor(5)), 5),
        (lambda image: [image, "b"], 1),
        (lambda image: {"image": image, "label": 5, "caption": "x"}, 5),
        (lambda image: {"img": image}, -1),
    ],
    ids=["image", "pair", "tensor", "name", "dictionary", "no label"],
)
def test_every_kind_of_item_gives_its_pixels_and_label(image: Any, wrap: Any, label: int) -> None:
    items = Items([wrap(image)] * 2)
    items.classes = ["a", "b"]
    source = open_dataset(items)
    samples = everything(source)
    np.testing.assert_array_equal(decoded(samples, 1), PIXELS)
    assert samples.sizes.tolist() == [[20, 30]] * 2
    assert samples.labels.tolist() == [label] * 2
    assert (samples.failures, source.classes) == ({}, ("a", "b"))


def test_odd_pixels_become_rgb_by_one_definition() -> None:
    gray = PIXELS[..., 0]
    deep = gray.astype(np.uint16) * 257 + 100  # rounds down again
    alpha = np.concatenate([PIXELS, gray[..., None]], axis=-1)
    thrice = np.repeat(gray[..., None], 3, axis=-1)
    expected = {
        "gray": (gray, thrice),
        "gray, PIL": (Image.fromarray(gray), thrice),
        "one channel": (gray[..., None], thrice),
        "gray and alpha": (alpha[..., 2:], np.repeat(alpha[..., 2:3], 3, axis=-1)),
        "alpha": (alpha, PIXELS),
        "alpha, PIL": (Image.fromarray(alpha), PIXELS),
        "16 bits": (deep, thrice),
        "16 bits, PIL": (Image.fromarray(deep), thrice),
        "32 bits, PIL": (Image.fromarray(deep.astype(np.int32)), thrice),
        "CMYK": (IMAGE.convert("CMYK"), np.asarray(IMAGE.convert("CMYK").convert("RGB"))),
        "palette": (IMAGE.convert("P"), np.asarray(IMAGE.convert("P").convert("RGB"))),
        "one bit": (Image.fromarray(gray > 100), np.repeat(255 * (gray > 100)[..., None].astype(np.uint8), 3, axis=-1)),
        "strided": (PIXELS[::-1, ::2], PIXELS[::-1, ::2]),
    }
    samples = everything(open_dataset(Items([image for image, _ in expected.values()])))
    assert samples.failures == {}
    for place, (name, (_, pixels)) in enumerate(expected.items()):
        np.testing.assert_array_equal(decoded(samples, place), pixels, err_msg=name)


def test_label_that_is_not_a_number_is_no_label_and_no_fault_of_the_image() -> None:
    several = [{"annotation": "x"}, float("inf"), torch.tensor([1, 2]), object()]
    labels = [1, float("nan"), None, 2.0, torch.tensor(3), torch.tensor([4]), np.int64(5), True, *several]
    source = open_dataset([(Image.new("RGB", (8, 8)), label) for label in labels])
    assert everything(source).labels.tolist() == [1, -1, -1, 2, 3, 4, 5, 1, -1, -1, -1, -1]
    assert not everything(source).failures


def test_names_are_numbers_of_classes_and_what_is_none_is_said(caplog: pytest.LogCaptureFixture) -> None:
    items = Items([(IMAGE, label) for label in ("dog", b"cat", "cow", 1.5)])
    items.classes = ["cat", "dog"]
    assert everything(open_dataset(items)).labels.tolist() == [1, 0, -1, -1]
    assert not caplog.text
    for label in ("dog", 0.37):
        assert everything(open_dataset(Items([(IMAGE, label)]))).labels.tolist() == [-1]
        assert f"{label!r}, which is no number and none of its `classes`" in caplog.text


def test_item_that_fails_is_the_failure_of_that_sample_alone() -> None:
    broken = png(IMAGE)[:10]
    items = [IMAGE, RuntimeError("no network"), broken, np.ones((4, 4)), {"label": 3}, 7, Image.new("F", (4, 4)), IMAGE]
    samples = everything(open_dataset(Items(items)))
    assert samples.failures.keys() == set(range(1, 7))
    assert samples.failures[1] == "no network"
    assert "float64" in samples.failures[3]
    assert "no image" in samples.failures[4]
    np.testing.assert_array_equal(decoded(samples, 7), PIXELS)
    assert len(open_dataset(Items([OSError("not yet"), IMAGE]))) == 2


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (Items([]), "is empty"),
        (iter([1]), "not a map-style data set"),
        (Items([torch.zeros(3, 8, 8)]), r"yields a Tensor; .*transform=None"),
        (Items([np.zeros((8, 8))]), "float64"),
        (Items([np.zeros((3, 8, 8), dtype=np.uint8)]), "channels last"),
        (Items([{"text": "x"}]), "has no image"),
    ],
    ids=["empty", "iterator", "tensors", "floats", "channels first", "no image"],
)
def test_data_set_of_another_kind_is_refused(items: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(items)


@pytest.mark.parametrize(
    "labels", [[1, 0], torch.tensor([1, 0]), torch.tensor([True, False]), np.array([1, 0], dtype=object)], ids=str
)
def test_labels_may_be_any_whole_numbers(labels: Any) -> None:
    source = open_dataset(Items([IMAGE, IMAGE]), labels=labels, classes=("cat", "dog"))
    assert everything(source).labels.tolist() == [1, 0]
    assert source.fingerprint() == open_dataset(Items([IMAGE, IMAGE]), labels=np.array([1, 0])).fingerprint()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32])
def test_array_of_labels_keeps_the_fingerprint_of_its_bytes_which_saved_states_hold(dtype: Any) -> None:
    labels = np.array([1, 0], dtype=dtype)
    source = open_dataset(Items([IMAGE, IMAGE]), labels=labels)
    found = everything(source)
    assert found.labels.tolist() == [1, 0]
    of_all = digest(source.dataset, labels, lambda index: source.fetch(np.array([index])))
    assert source.fingerprint() == hashlib.sha256(f"{source.name} 2 {of_all}".encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.5, 1.0]), "labels are float64; give whole numbers"),
        (np.array([np.nan, 1.0]), "labels are float64; give whole numbers"),
        (np.array([None, 1]), "labels are object; give whole numbers"),
        (np.array(["3", 1], dtype=object), "labels are object; give whole numbers"),
        (np.array([2**64 - 1, 1], dtype=np.uint64), "labels are uint64; give whole numbers"),
        (np.array([[1], [0]]), r"an array \[2, 1\] of labels for 2 images"),
    ],
    ids=["fractions", "no number", "none", "texts", "beyond 64 bits", "column"],
)
def test_labels_that_are_no_whole_numbers_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(Items([IMAGE, IMAGE]), labels=labels)


def other(count: int = 1) -> list[np.ndarray]:
    return [PIXELS ^ np.uint8(1)] * count


def test_fingerprint_follows_class_length_labels_and_contents() -> None:
    lists: list[Any] = [
        [IMAGE] * 12,
        [*[IMAGE] * 6, *other(), *[IMAGE] * 5],
        [IMAGE] * 11,
        [(IMAGE, 1)] * 12,
        [png(IMAGE)] * 12,
    ]
    data: list[Any] = [*lists, *map(Items, [lists[0], other(12), *lists[2:4]])]
    labelled = [open_dataset([IMAGE] * 12, labels=np.full(12, label)) for label in (3, 4)]
    prints = [open_dataset(one).fingerprint() for one in data]
    prints += [source.fingerprint() for source in labelled]
    assert prints == [open_dataset(one).fingerprint() for one in data] + [source.fingerprint() for source in labelled]
    assert len(set(prints)) == len(prints)


def test_fingerprint_reads_items_once_and_travels() -> None:
    read: list[int] = []

    class Counting(Items):
        def __getitem__(self, index: int) -> Any:
            read.append(index)
            return super().__getitem__(index)

    source = open_dataset(Counting([IMAGE] * 100))
    read.clear()
    first = source.fingerprint()
    assert len(read) == 16  # twice each, for those that change
    assert (source.fingerprint(), pickle.loads(pickle.dumps(open_dataset(Items([IMAGE])))).known) == (first, [])
    assert len(read) == 16


def test_fingerprint_of_items_that_change_does_not() -> None:
    chance = np.random.default_rng(1)

    class Changing(Items):
        def __getitem__(self, index: int) -> Any:
            return chance.integers(0, 255, (8, 8, 3), dtype=np.uint8)

    class Transformed(Changing):
        transform = print

        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    asked: list[int] = []
    for kind in (Changing, Transformed):
        assert len({open_dataset(kind([IMAGE] * 9)).fingerprint() for _ in range(3)}) == 1
    assert set(asked) == {0}  # by open_dataset alone
    targets = [Transformed([IMAGE] * 9) for _ in range(2)]
    targets[0].targets, targets[1].targets = torch.zeros(9), torch.ones(9)
    assert len({open_dataset(one).fingerprint() for one in targets}) == 2


def test_subset_of_torch_keeps_classes_and_its_choice_is_in_the_fingerprint() -> None:
    items = Items([(IMAGE, number) for number in range(20)])
    items.classes, items.transform = ["a", "b"], print
    source, again, elsewhere = (open_dataset(Subset(Subset(items, range(20)), chosen)) for chosen in ([5, 3], [5, 3], [5, 4]))
    assert (source.classes, everything(source).labels.tolist()) == (("a", "b"), [5, 3])
    assert source.fingerprint() == again.fingerprint() != elsewhere.fingerprint()


def test_hugging_face_data_set_gives_its_files_undecoded() -> None:
    datasets = pytest.importorskip("datasets")
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    IMAGE.save(content, "JPEG", exif=exif)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": content.getvalue(), "path": None}] * 3, "label": [1, 0, 1]}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    source = open_dataset(dataset)
    samples = everything(source)
    assert samples.encoded[0].tobytes() == content.getvalue()
    assert (samples.labels.tolist(), source.classes) == ([1, 0, 1], ("cat", "dog"))
    assert samples.orientation.tolist() == [6] * 3
    assert samples.sizes.tolist() == [[20, 30]] * 3
    assert source.fingerprint() != open_dataset(dataset.select([0, 1, 1])).fingerprint()
    named = datasets.Dataset.from_dict(
        {"image": rows["image"], "label": ["dog", "cat", "dog"]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")}),
    )
    assert (open_dataset(named).classes, everything(open_dataset(named)).labels.tolist()) == (("cat", "dog"), [1, 0, 1])
    gray = everything(open_dataset(dataset.cast_column("image", datasets.Image(mode="L"))))
    assert np.ptp(np.asarray(open_image(gray.encoded, 0)), axis=-1).max() == 0  # as the user has them decoded
    upright = open_dataset(dataset.with_transform(lambda rows: rows))  # the user's own function sees what it expects
    assert everything(upright).failures == {}


def test_fingerprint_does_not_know_where_objects_lie_in_memory() -> None:
    """A data set that holds its images lies elsewhere in every process, and is the same one."""
    sources = []
    for _ in range(2):
        items = Items([(Image.fromarray(PIXELS), 0), (Image.fromarray(PIXELS[::-1]), 1)])
        items.samples = items.items
        sources.append(open_dataset(items))
    assert sources[0].fingerprint() == sources[1].fingerprint()
    items.samples = items.samples[::-1]
    assert open_dataset(items).fingerprint() != sources[1].fingerprint()
