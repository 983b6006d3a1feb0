"""Mixtures: shares as asked, every image of a source before any comes again, weights that change, exact resume."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hjepa.pipeline.folder import open_folder
from hjepa.pipeline.loader import Loader
from hjepa.pipeline.mixture import Mixture, MixtureOrder, Stretch, shares
from hjepa.pipeline.presets.jepa import multicrop
from hjepa.pipeline.sampler import Sampler
from hjepa.pipeline.source import Samples, Subset

RECIPE = multicrop(num_global_crops=1, num_local_crops=0, global_crop_size=8)


def order_of(lengths: tuple[int, ...], weights: list[float], seed: int = 0) -> MixtureOrder:
    first = Stretch(start=0, counts=(0,) * len(lengths), weights=shares(weights, len(lengths)))
    return MixtureOrder(lengths=lengths, seed=seed, stretches=(first,))


def owners(order: MixtureOrder, indices: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.cumsum(order.lengths), indices, side="right")


def assert_no_image_comes_early(order: MixtureOrder, chosen: dict[str, np.ndarray]) -> None:
    """Each source's images of pass p are distinct, and passes follow each other and are whole but for the last."""
    owner = owners(order, chosen["indices"])
    for source, length in enumerate(order.lengths):
        passes = chosen["passes"][owner == source]
        assert (np.diff(passes) >= 0).all()
        for number in range(passes.max(initial=-1)):
            same = chosen["indices"][(owner == source) & (chosen["passes"] == number)]
            assert len(same) == length
            assert len(set(same.tolist())) == length


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0.01, 1)), min_size=1, max_size=5), st.integers(0, 1000))
def test_shares_are_kept_and_passes_are_whole(parts: list[tuple[int, float]], seed: int) -> None:
    lengths, weights = tuple(length for length, _ in parts), [weight for _, weight in parts]
    order = order_of(lengths, weights, seed)
    period = order.stretches[0].period()
    chosen = order.choose(np.arange(4 * period))
    counts = np.bincount(owners(order, chosen["indices"]), minlength=len(lengths))
    np.testing.assert_allclose(counts, 4 * period * np.array(weights) / sum(weights), atol=1.01)
    assert_no_image_comes_early(order, chosen)


def test_weights_change_at_the_next_period_and_no_image_is_lost() -> None:
    order = order_of((50, 500, 7), [1, 1, 1])
    changed = order.reweighted(1000, [0, 9, 1])
    start = changed.stretches[-1].start
    assert 1000 <= start < 1000 + order.stretches[0].period()
    positions = np.arange(6000)
    chosen = changed.choose(positions)
    np.testing.assert_array_equal(chosen["indices"][:start], order.choose(positions[:start])["indices"])
    assert not (owners(order, chosen["indices"][start:]) == 0).any()
    assert_no_image_comes_early(changed, chosen)
    again = changed.reweighted(4000, [1, 0, 0])
    assert 4000 <= again.stretches[-1].start < 4000 + changed.stretches[-1].period()
    assert_no_image_comes_early(again, again.choose(np.arange(again.stretches[-1].start + 1000)))
    assert len(again.reweighted(again.stretches[-1].start, [1, 1, 1]).stretches) == len(again.stretches)
    twice = again.reweighted(again.stretches[-1].start, [1, 1, 1]).reweighted(500, [1, 0, 0])
    assert [stretch.start for stretch in twice.stretches] == [0, 512]
    assert twice == order.reweighted(500, [1, 0, 0])  # going back forgets what came later


def test_weights_that_change_before_the_first_batch_are_those_of_the_whole_run() -> None:
    changed = order_of((50, 500), [1, 1]).reweighted(0, [1, 3]).choose(np.arange(600))
    expected = order_of((50, 500), [1, 3]).choose(np.arange(600))
    np.testing.assert_array_equal(changed["indices"], expected["indices"])


def test_no_two_sources_passes_or_stretches_have_one_order() -> None:
    order = order_of((50, 50), [1, 1]).reweighted(256, [1, 1])
    chosen = order.choose(np.arange(512))
    owner = owners(order, chosen["indices"])
    passes = [
        tuple(chosen["indices"][(owner == source) & (chosen["passes"] == number)] - 50 * source)
        for source in range(2)
        for number in range(2)
    ]
    assert len(set(passes)) == 4
    assert order.stretches[-1].start == 256
    assert (owner[:256] != owner[256:]).any()


def test_every_seed_and_every_period_mixes_the_sources_otherwise() -> None:
    orders = [order_of((50, 50), [1, 1], seed) for seed in range(3)]
    mixed = [owners(order, order.choose(np.arange(512))["indices"]).reshape(2, 256) for order in orders]
    assert len(np.unique(np.concatenate(mixed), axis=0)) == 6


def test_order_is_the_one_of_earlier_runs() -> None:
    """Another order would change every experiment, and what a saved state goes on with: state.VERSION says which it is."""
    order = order_of((50, 7, 500), [3, 1, 2], seed=5).reweighted(1000, [300, 1, 200])
    assert [(stretch.start, stretch.counts) for stretch in order.stretches] == [(0, (0, 0, 0)), (1024, (512, 171, 341))]
    indices = order.choose(np.arange(12) * 500)["indices"]
    assert indices.tolist() == [38, 26, 32, 23, 31, 30, 19, 9, 35, 539, 127, 160]


@pytest.mark.parametrize("batch_size", [4, 7])
def test_epoch_of_a_mixture_begins_at_the_same_image_whatever_the_batch(batch_size: int) -> None:
    order = order_of((50, 7), [3, 1])
    chosen = Sampler(num_samples=30, batch_size=batch_size, mixture=order).batch(2, 1)
    expected = order.choose(60 + batch_size + np.arange(batch_size))
    np.testing.assert_array_equal(chosen.indices, expected["indices"])
    np.testing.assert_array_equal(chosen.passes, expected["passes"])


def test_no_source_is_left_out_of_a_period() -> None:
    weights = [600, 1, 1, 400]  # the second and third source: their edges round against each other
    stretch = Stretch(start=0, counts=(0,) * len(weights), weights=shares(weights, len(weights)))
    counts = np.array([stretch.counts_before(number) for number in range(40)])
    assert (np.diff(counts, axis=0) > 0).all()


def folder(root: Path, name: str, count: int, shade: int) -> Path:
    (root / name).mkdir()
    for number in range(count):
        Image.new("RGB", (10, 10), (shade, number, 0)).save(root / name / f"{number:03d}.png")
    return root / name


def test_loader_reads_a_mixture_and_resumes_it_with_its_weights(tmp_path: Path) -> None:
    sources = [open_folder(folder(tmp_path, name, count, 0)) for name, count in (("a", 20), ("b", 60))]

    def loader(**options: object) -> Loader:
        mixture = Mixture(sources, weights=[3, 1], epoch_length=400)
        return Loader(mixture, RECIPE, backend="torchvision", num_workers=0, device="cpu", batch_size=20, **options)

    with loader() as whole:
        assert len(whole) == 20
        batches = []
        for number, batch in enumerate(whole):
            batches.append(batch)
            if number == 4:
                whole.set_weights([0, 1])
            if number == 6:
                state = json.loads(json.dumps(whole.state_dict()))
        batches += list(whole)
    first, last = (torch.cat([batch.indices for batch in part]) for part in (batches[:5], batches[20:]))
    assert 60 < (first < 20).sum() <= 90  # three quarters of 100
    assert not (last < 20).any()
    with loader() as resumed:
        resumed.load_state_dict(state)
        rest = [*resumed, *resumed]
    for one, other in zip(batches[7:], rest, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.globals, other.globals)


def test_a_run_whose_weights_were_set_before_its_first_batch_resumes(tmp_path: Path) -> None:
    """As by a schedule that sets them for every epoch, the first one, too."""
    mixture = Mixture([folder(tmp_path, name, 20, 0) for name in ("a", "b")], weights=[1, 1])
    whole, resumed = (
        Loader(mixture, RECIPE, backend="torchvision", num_workers=0, device="cpu", batch_size=10) for _ in range(2)
    )
    with whole, resumed:
        whole.set_weights([1, 3])
        whole.set_weights([3, 1])
        batches = [batch.indices.tolist() for batch in whole]
        state = json.loads(json.dumps(whole.state_dict()))
        later = [batch.indices.tolist() for batch in whole]
        resumed.load_state_dict(state)
        assert [batch.indices.tolist() for batch in resumed] == later
        resumed.set_epoch(0)
        assert [batch.indices.tolist() for batch in resumed] == batches


def test_images_of_one_name_in_two_sources_are_told_apart(tmp_path: Path) -> None:
    roots = [folder(tmp_path, name, 1, 0) for name in ("a", "b")]
    (name,) = {path.name for root in roots for path in root.iterdir()}
    for root in roots:
        (root / "bad.png").touch()
    with Loader(
        Mixture(roots),
        RECIPE,
        backend="torchvision",
        num_workers=0,
        device="cpu",
        batch_size=2,
        bad_images=tmp_path / "bad.jsonl",
    ) as loader:
        assert sorted(next(iter(loader)).keys) == [str(root / name) for root in roots]
    listed = [json.loads(line)["path"] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert listed == [str(root / "bad.png") for root in roots]


def test_an_image_that_comes_again_is_cropped_anew(tmp_path: Path) -> None:
    source = open_folder(folder(tmp_path, "a", 10, 0))
    with Loader(
        Mixture([source], epoch_length=20), RECIPE, backend="torchvision", num_workers=0, device="cpu", batch_size=20
    ) as loader:
        draws = next(iter(loader)).draws
    boxes = draws.views["global"].box[np.argsort(draws.indices, kind="stable")].reshape(10, 2, 4)
    assert (boxes[:, 0] != boxes[:, 1]).any()


def test_classes_of_the_same_name_are_one_class(tmp_path: Path) -> None:
    for name, classes in (("a", ("cat", "dog")), ("b", ("dog", "fox"))):
        (tmp_path / name).mkdir()
        for shade in classes:
            folder(tmp_path / name, shade, 2, 0)
    mixture = Mixture([open_folder(tmp_path / "a"), open_folder(tmp_path / "b")])
    assert mixture.classes == ("cat", "dog", "fox")
    assert mixture.fetch(np.arange(8)).labels.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1], "1 weights came for 2"),
        ([1, 2, 3], "3 weights came for 2"),
        ([0, 0], "not all of them 0"),
        ([-1, 2], "no weights"),
        ([1, float("inf")], "no weights"),
        ([1, float("nan")], "no weights"),
        ([1, 1e-5], "not resolved"),
    ],
    ids=str,
)
def test_impossible_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shares(weights, 2)


def test_weight_of_a_65536th_is_the_least() -> None:
    assert shares([1, 65535], 2)[0] == 2**-16
    with pytest.raises(ValueError, match="not resolved"):
        shares([1, 65536], 2)


def test_every_image_comes_once_in_a_pass_however_long_the_periods(tmp_path: Path) -> None:
    source = open_folder(folder(tmp_path, "a", 24, 0))
    with Loader(Mixture([source]), RECIPE, backend="torchvision", num_workers=0, device="cpu", batch_size=8) as loader:
        for _ in range(3):
            assert sorted(index for batch in loader for index in batch.indices.tolist()) == list(range(24))


def test_weights_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    mixture = Mixture([folder(tmp_path, "a", 4, 0), folder(tmp_path, "b", 4, 0)], [1, 2])
    with pytest.raises(ValueError, match="inside a mixture"):
        Mixture([mixture, mixture.sources[0]])
    with pytest.raises(ValueError, match="Mixture of Subsets"):
        Loader(Subset(source=mixture, chosen=np.arange(3)), RECIPE, batch_size=2)
    for shuffle in (False, "blocks"):
        with pytest.raises(ValueError, match=f"shuffle={shuffle!r} has no effect"):
            Loader(mixture, RECIPE, batch_size=2, shuffle=shuffle)
    with Loader(mixture, RECIPE, batch_size=2, device="cpu") as loader:
        state = loader.state_dict()
    other = Mixture(mixture.sources, [2, 1])
    with Loader(other, RECIPE, batch_size=2, device="cpu") as loader, pytest.raises(ValueError, match="weights were"):
        loader.load_state_dict(state)


def test_going_back_before_weights_changed_and_wrapping_give_the_images_of_then(tmp_path: Path) -> None:
    mixture = Mixture([folder(tmp_path, "a", 4, 0), folder(tmp_path, "b", 300, 0)], epoch_length=1000)
    options = {"backend": "torchvision", "num_workers": 0, "device": "cpu", "batch_size": 300, "tail": "wrap"}
    with Loader(mixture, RECIPE, **options) as loader:
        first = next(iter(loader)).indices
        loader.set_epoch(0)
        for weights in ([1, 1], [0, 1], [1, 0]):
            next(iter(loader))
            loader.set_weights(weights)
        loader.set_epoch(0)
        again = list(loader)
    assert torch.equal(again[0].indices, first)
    assert torch.equal(again[3].indices[-200:], first[:200])  # wrapped


class Labelled:
    """A source whose images are the numbers of themselves and of the source's images; number 1 is always away."""

    name, bad = "labels", ()

    def __init__(self, *classes: str) -> None:
        self.classes, self._length = classes, len(classes)

    def __len__(self) -> int:
        return self._length

    def fetch(self, indices: np.ndarray) -> Samples:
        numbers = np.stack([indices, np.full_like(indices, len(self))], axis=1)
        return Samples(
            encoded=list(numbers.astype(np.uint8)),
            sizes=numbers.astype(np.int32),
            orientation=1 + indices.astype(np.uint8),
            labels=indices.astype(np.int64),
            keys=tuple(map(str, indices)),
            failures={place: f"of {len(self)}" for place, index in enumerate(indices) if index == 1},
        )

    def fingerprint(self) -> str:
        return "labels"


@pytest.mark.parametrize(
    ("sources", "classes", "labels"),
    [
        ([[*map(str, range(12))], [*map(str, range(3))]], [*map(str, range(12))], [*range(12), *range(3)]),
        ([["wolf", "ant"], ["wolf", "ant"]], ["wolf", "ant"], [0, 1, 0, 1]),
        ([["wolf", "ant"], ["bee"]], ["ant", "bee", "wolf"], [2, 0, 1]),
        ([["007", "008"], ["008", "-1"]], ["-1", "007", "008"], [1, 2, 2, 0]),
        ([["0", "1"], ["-1"]], ["-1", "0", "1"], [1, 2, 0]),
    ],
    ids=["numbers", "the same names", "others", "names of digits", "a name of no number"],
)
def test_labels_stay_what_they_are_where_they_can(sources: list[list[str]], classes: list[str], labels: list[int]) -> None:
    mixture = Mixture([Labelled(*names) for names in sources])
    assert list(mixture.classes) == classes
    assert mixture.fetch(np.arange(len(mixture))).labels.tolist() == labels


def test_every_image_of_a_batch_is_the_one_that_its_source_gives_whatever_the_order() -> None:
    numbers = [(1, 3), (2, 4), (0, 3), (0, 4), (2, 3), (1, 4)]  # of 3 images, and of 4
    samples = Mixture([Labelled(*"abc"), Labelled(*"abcd")]).fetch(np.array([index + (of - 3) * 3 for index, of in numbers]))
    assert [tuple(content.tolist()) for content in samples.encoded] == [*map(tuple, samples.sizes.tolist())] == numbers
    assert samples.orientation.tolist() == [1 + index for index, _ in numbers]
    assert samples.keys == tuple(f"labels/{index}" for index, _ in numbers)
    assert samples.failures == {0: "of 3", 5: "of 4"}


def test_labels_without_names_stay_only_beside_others_without() -> None:
    nameless = Labelled("x", "y", "z")
    nameless.classes = ()
    assert Mixture([nameless, nameless]).fetch(np.arange(6)).labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert Mixture([Labelled("b", "a"), nameless]).fetch(np.arange(5)).labels.tolist() == [1, 0, -1, -1, -1]


def test_mixture_is_of_all_images_of_its_sources_by_their_number_unless_it_is_told_otherwise() -> None:
    sources = Labelled("a", "b", "c"), Labelled("a")
    mixture = Mixture(sources)
    assert (len(mixture), mixture.epoch_length, mixture.weights, mixture.name) == (4, 4, (0.75, 0.25), "labels + labels")
    other = Mixture(sources, [1, 1], epoch_length=8)
    assert (len(other), other.epoch_length, other.weights) == (4, 8, (0.5, 0.5))
    orders = {tuple(mixture.order(seed).choose(np.arange(50))["indices"].tolist()) for seed in range(3)}
    assert len(orders) == 3


def test_mixture_of_other_sources_or_in_another_order_is_another_for_a_state() -> None:
    one, other = Labelled("a"), Labelled("a")
    other.fingerprint = lambda: "other"
    prints = [Mixture(sources).fingerprint() for sources in ([one], [one, one], [one, other], [other, one])]
    assert len(set(prints)) == 4
    assert prints[1] == "73032fe854eb2967"  # as in the states of earlier runs


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (Path("photos"), "a PosixPath came"),
        ({"photos": 1}, "a dict came"),
        ([], "at least one source"),
    ],
    ids=str,
)
def test_what_is_no_list_of_sources_is_refused(sources: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(sources)


@pytest.mark.parametrize("kind", [np.float32, torch.tensor], ids=["numpy", "torch"])
def test_weights_and_lengths_of_numpy_and_torch_are_saved_as_plain_numbers(kind: Any) -> None:
    mixture = Mixture([Labelled("a", "b"), Labelled("a", "b")], [kind(1.0), kind(3.0)], epoch_length=np.int64(8))
    with Loader(mixture, RECIPE, batch_size=2, device="cpu") as loader:
        state = json.loads(json.dumps(loader.state_dict()))
    assert state["mixture"][0]["weights"] == [0.25, 0.75]
    assert state["epoch_length"] == 8


def test_length_of_an_epoch_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"epoch_length=1.5 is no whole number from 1 on"):
        Mixture([Labelled("a")], epoch_length=1.5)
