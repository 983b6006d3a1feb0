"""Sources of decoded images: CIFAR, STL-10, and what the unpickler of CIFAR refuses."""

import os
import pickle
import pickletools
import tarfile
from pathlib import Path

import numpy as np
import pytest

from hjepa.pipeline.arrays import ArraySource
from hjepa.pipeline.cifar import holds_cifar, open_cifar
from hjepa.pipeline.source import Source, open_image
from hjepa.pipeline.stl10 import open_stl10

CHANCE = np.random.default_rng(0)
IMAGES = CHANCE.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
TEN = tuple(f"name{number}" for number in range(10))


def planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def old_pickle(content: dict[bytes, object]) -> bytes:
    """As Python 2 and its numpy wrote it: byte strings, and numpy's functions under their old names."""
    array = content.get(b"data")
    parts = [b"\x80\x02}("]
    for key, value in content.items():
        parts.append(b"U" + bytes([len(key)]) + key)
        if value is array:
            rows, columns = array.shape
            parts.append(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01")
            parts.append(b"J" + rows.to_bytes(4, "little") + b"J" + columns.to_bytes(4, "little") + b"\x86")
            parts.append(b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            parts.append(b"T" + array.nbytes.to_bytes(4, "little") + array.tobytes() + b"tb")
        else:
            items = [b"K" + bytes([item]) if isinstance(item, int) else b"U" + bytes([len(item)]) + item for item in value]
            parts.append(b"](" + b"".join(items) + b"e")
    return b"".join(parts) + b"u."


def new_pickle(content: dict[bytes, object]) -> bytes:
    return pickle.dumps(content, protocol=2)  # in it bytes are made by _codecs.encode


WRITERS = pytest.mark.parametrize("write", [old_pickle, new_pickle])


def write_cifar10(folder: Path, write: object = new_pickle) -> Path:
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True)
    for number in range(6):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        own = slice(10 * number, 10 * number + 10)
        (place / name).write_bytes(write({b"data": planes(IMAGES[own]), b"labels": list(range(10))}))
    (place / "batches.meta").write_bytes(write({b"label_names": [name.encode() for name in TEN]}))
    return place


def write_cifar10_binary(folder: Path) -> Path:
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    for number in range(6):
        name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
        own = planes(IMAGES[10 * number : 10 * number + 10])
        (place / f"{name}.bin").write_bytes(np.concatenate([np.arange(10, dtype=np.uint8)[:, None], own], axis=1).tobytes())
    (place / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    return place


def pixels(source: Source, indices: list[int]) -> np.ndarray:
    samples = source.fetch(np.array(indices))
    assert samples.sizes.tolist() == [list(np.asarray(open_image(samples.encoded, 0)).shape[:2])] * len(indices)
    return np.stack([np.asarray(open_image(samples.encoded, place)) for place in range(len(indices))])


@WRITERS
def test_cifar10_pickles_give_pixels_labels_and_names(write: object, tmp_path: Path) -> None:
    place = write_cifar10(tmp_path, write)
    for folder in (tmp_path, place):
        source = open_cifar(folder)
        assert (len(source), source.classes, holds_cifar(folder)) == (50, TEN, 10)
        np.testing.assert_array_equal(pixels(source, [49, 0, 10, 9]), IMAGES[[49, 0, 10, 9]])
        assert source.fetch(np.array([13, 2])).labels.tolist() == [3, 2]
        assert source.fetch(np.array([13, 2])).keys == ("cifar10/train/13", "cifar10/train/2")
    np.testing.assert_array_equal(pixels(open_cifar(tmp_path, split="test"), [3]), IMAGES[[53]])


def test_binary_format_archive_and_pickles_are_the_same_data_set(tmp_path: Path) -> None:
    place = write_cifar10(tmp_path / "pickles")
    write_cifar10_binary(tmp_path / "binary")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(place, place.name)
    sources = [open_cifar(tmp_path / name) for name in ("pickles", "binary", "cifar-10-python.tar.gz")]
    assert len({source.fingerprint() for source in sources}) == 1
    assert {source.classes for source in sources} == {TEN}
    for source in sources:
        np.testing.assert_array_equal(pixels(source, [17, 4]), IMAGES[[17, 4]])
        assert source.labels.tolist() == list(range(10)) * 5


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "pickles"])
def test_cifar100_has_its_fine_labels(binary: bool, tmp_path: Path) -> None:
    fine, coarse = np.arange(60, dtype=np.uint8), np.arange(60, dtype=np.uint8) // 5
    names = [f"fine{number}" for number in range(100)]
    if binary:
        place = tmp_path / "cifar-100-binary"
        place.mkdir()
        (place / "fine_label_names.txt").write_text("\n".join(names))
    else:
        place = tmp_path / "cifar-100-python"
        place.mkdir()
        (place / "meta").write_bytes(old_pickle({b"fine_label_names": [name.encode() for name in names]}))
    for split in ("train", "test"):
        if binary:
            records = np.concatenate([coarse[:, None], fine[:, None], planes(IMAGES)], axis=1)
            (place / f"{split}.bin").write_bytes(records.tobytes())
        else:
            held = {b"data": planes(IMAGES), b"fine_labels": fine.tolist(), b"coarse_labels": coarse.tolist()}
            (place / split).write_bytes(old_pickle(held))
    source = open_cifar(tmp_path, 100)
    assert source.fetch(np.array([59])).labels.tolist() == [59]
    assert source.classes[99] == "fine99"
    np.testing.assert_array_equal(pixels(source, [5]), IMAGES[[5]])
    assert holds_cifar(tmp_path) == 100
    with pytest.raises(ValueError, match="no CIFAR-10 in"):
        open_cifar(tmp_path, 10)


class Evil:
    def __init__(self, call: tuple[object, ...]) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (os.system, ("touch evil",)),
        (eval, ("open('evil', 'w')",)),
        (np.fromfile, ("evil",)),
        (np.dtype, ("O",)),
        (np.empty(0).__reduce__()[0], (np.ndarray, (10**9,), b"b")),
        (np.empty(0).__reduce__()[0], (np.matrix, (0,), b"b")),
        (__import__("_codecs").encode, ("x", "rot13")),
        (getattr, (np.ndarray, "tofile")),
    ],
    ids=["system", "eval", "fromfile", "objects", "huge", "matrix", "codec", "getattr"],
)
def test_pickle_that_asks_for_more_than_arrays_is_refused_and_not_run(
    call: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_cifar10(tmp_path)
    monkeypatch.chdir(tmp_path)
    for protocol in (2, 4):
        held = pickle.dumps({b"data": Evil(call), b"labels": [0]}, protocol=protocol)
        assert any(code.name == "REDUCE" for code, _, _ in pickletools.genops(held))
        (place / "data_batch_3").write_bytes(held)
        with pytest.raises(ValueError, match=r"data_batch_3 is no file of CIFAR \(it asks for"):
            open_cifar(place)
    assert not (tmp_path / "evil").exists()


def test_damaged_cifar_is_refused(tmp_path: Path) -> None:
    place = write_cifar10(tmp_path / "one")
    whole = (place / "data_batch_2").read_bytes()
    for content in (whole[:1000], b"", b"not a pickle", pickle.dumps([1, 2]), new_pickle({b"data": IMAGES, b"labels": [1]})):
        (place / "data_batch_2").write_bytes(content)
        with pytest.raises(ValueError, match="again"):
            open_cifar(place)
    (place / "data_batch_2").unlink()
    with pytest.raises(ValueError, match="cannot read"):
        open_cifar(place)
    place = write_cifar10_binary(tmp_path / "two")
    (place / "data_batch_4.bin").write_bytes(b"\0" * 5000)
    with pytest.raises(ValueError, match=r"data_batch_4\.bin of 5000 bytes is cut off"):
        open_cifar(place)
    (place / "data_batch_4.bin").write_bytes(b"\x0a" * 3073)
    with pytest.raises(ValueError, match=r"labels in .* are not 0 to 9"):
        open_cifar(place)
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot read the archive"):
        open_cifar(tmp_path / "x.tar.gz")


def test_stl10_turns_its_columns_into_rows(tmp_path: Path) -> None:
    place = tmp_path / "stl10_binary"
    place.mkdir()
    images = CHANCE.integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    stored = np.ascontiguousarray(images.transpose(0, 3, 2, 1)).tobytes()
    for split in ("train", "test", "unlabeled"):
        (place / f"{split}_X.bin").write_bytes(stored)
    (place / "train_y.bin").write_bytes(bytes([1, 10, 3, 2]))
    (place / "class_names.txt").write_text("\n".join(TEN))
    source = open_stl10(tmp_path)
    np.testing.assert_array_equal(pixels(source, [3, 1]), images[[3, 1]])
    assert source.fetch(np.arange(4)).labels.tolist() == [0, 9, 2, 1]
    unlabeled = open_stl10(place, "unlabeled")
    assert (unlabeled.labels.tolist(), unlabeled.classes) == ([-1] * 4, ())
    with pytest.raises(ValueError, match=r"cannot read .*test_y\.bin"):
        open_stl10(place, "test")
    (place / "test_y.bin").write_bytes(bytes([1, 2]))
    with pytest.raises(ValueError, match="do not fit"):
        open_stl10(place, "test")
    (place / "train_X.bin").write_bytes(stored[:-1])
    with pytest.raises(ValueError, match="cut off"):
        open_stl10(place)


def test_fingerprint_of_arrays_follows_the_pixels() -> None:
    def source(images: np.ndarray) -> ArraySource:
        return ArraySource(name="x", parts=(images,), labels=np.full(len(images), -1), classes=(), title="x")

    other = IMAGES.copy()
    other[7, 0, 0, 0] ^= 1
    assert source(IMAGES).fingerprint() == source(IMAGES.copy()).fingerprint()
    assert len({source(images).fingerprint() for images in (IMAGES, other, IMAGES[:59])}) == 3
    split = ArraySource(name="x", parts=(IMAGES[:1], IMAGES[1:]), labels=np.full(60, -1), classes=(), title="y")
    assert split.fingerprint() == source(IMAGES).fingerprint()


def test_fingerprint_of_arrays_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ArraySource(name="x", parts=(IMAGES,), labels=np.full(60, -1), classes=(), title="x")
    first = source.fingerprint()
    monkeypatch.setattr(ArraySource, "_pixels", None)
    assert source.fingerprint() == first
