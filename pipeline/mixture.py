"""Several sources as one, each drawn from by its weight; weights may change while a run goes on.

Positions of the whole run are cut into periods. How many of a period's positions a source gets is the rounded growth of its
cumulative share, so shares are exact in the long run; which ones, a keyed permutation says. Each source goes through all of
its images before one comes again, whatever the weights. So the order is still a function of the position, and of when weights
changed.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hjepa.kernels import chance
from hjepa.pipeline.labels import is_number
from hjepa.pipeline.open_source import open_source
from hjepa.pipeline.order import permute
from hjepa.pipeline.recipe import whole
from hjepa.pipeline.source import BadImage, Samples, Source, Subset, read_files

# P positions, J sources, B images of a batch
SHARES = 1 << 20
"""Weights are rounded to this many parts, so that counts are whole numbers up to 2^43 positions."""
PERIOD = 256
"""Positions of a period at least; with a small weight there are more, so that its source is not left out of a period."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """A part of the run with the same weights."""

    start: int
    """First position of the run that it holds for."""
    counts: tuple[int, ...]
    """[J] images that came from each source before."""
    weights: tuple[float, ...]
    """[J] shares of the sources, which sum to 1."""

    def edges(self) -> npt.NDArray[np.int64]:
        """[J + 1] cumulative weights in units of 1 / SHARES."""
        edges: npt.NDArray[np.int64] = np.rint(np.cumsum([0.0, *self.weights]) * SHARES).astype(np.int64)
        return edges

    def period(self) -> int:
        """Positions of a period: of a source with a weight above 0 about two come in each, or more."""
        parts = np.diff(self.edges())
        return max(PERIOD, -(-2 * SHARES // int(parts[parts > 0].min())))

    def counts_before(self, number: int) -> npt.NDArray[np.int64]:
        """[J] images from each source before this period of the stretch."""
        scaled = self.edges() * (number * self.period())
        return np.array(self.counts) + np.diff(-(-scaled // SHARES))


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureOrder:
    """Position in the run -> image."""

    lengths: tuple[int, ...]
    """[J] images of each source."""
    seed: int
    stretches: tuple[Stretch, ...]
    """One for the start, and one more for every change of weights."""

    def choose(self, positions: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
        """indices [P] over all sources, and passes [P], how often each image came before."""
        sources, counts = np.empty_like(positions), np.empty_like(positions)
        for stretch, following in zip(self.stretches, [*self.stretches[1:], None], strict=True):
            inside = positions >= stretch.start
            if following is not None:
                inside &= positions < following.start
            if inside.any():
                sources[inside], counts[inside] = self._place(stretch, positions[inside])
        lengths = np.array(self.lengths)[sources]
        passes, places = np.divmod(counts, lengths)
        offsets = np.cumsum([0, *self.lengths])
        indices = np.empty_like(positions)
        for source, number in {*zip(sources.tolist(), passes.tolist(), strict=True)}:
            same = (sources == source) & (passes == number)
            key = chance.key(self.seed, source, number)
            indices[same] = offsets[source] + permute(places[same], self.lengths[source], key)
        return {"indices": indices, "passes": passes}

    def reweighted(self, position: int, weights: Sequence[float]) -> "MixtureOrder":
        """Other weights from the next period on that starts at `position` of the run or later."""
        kept = [stretch for stretch in self.stretches if stretch.start <= position]
        current = kept[-1]
        number = -(-(position - current.start) // current.period())
        start = current.start + number * current.period()
        counts = tuple(current.counts_before(number).tolist())
        following = Stretch(start=start, counts=counts, weights=shares(weights, len(self.lengths)))
        first, *others = kept  # stays, if only for no image: by the weights that it began with a state knows its run
        return replace(self, stretches=(first, *(stretch for stretch in others if stretch.start < start), following))

    def _place(self, stretch: Stretch, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Source [P] of each position, and how many images of it came before."""
        period = stretch.period()
        numbers, places = np.divmod(positions - stretch.start, period)
        sources, counts = np.empty_like(positions), np.empty_like(positions)
        for number in np.unique(numbers).tolist():
            same = numbers == number
            of_period, counts_of_period = _period(stretch, self.seed, number)
            sources[same], counts[same] = of_period[places[same]], counts_of_period[places[same]]
        return sources, counts


@lru_cache(maxsize=4)  # a batch lies in one or two
def _period(stretch: Stretch, seed: int, number: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Source of each position of a period, and how many images of that source came before it in the run."""
    period, before = stretch.period(), stretch.counts_before(number)
    own = stretch.counts_before(number + 1) - before
    shuffled = permute(np.arange(period), period, chance.key(seed, stretch.start, number))
    sources = np.repeat(np.arange(len(own)), own)[shuffled]
    counts = np.empty(period, dtype=np.int64)
    # Position by position, so that a source begins its next pass only when the one before is over.
    counts[np.argsort(sources, kind="stable")] = np.arange(period) - np.repeat(np.cumsum(own) - own, own)
    return sources, counts + before[sources]


def _common_classes(of_sources: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The classes of all sources: as they are where they are alike, numbers in their order, else names in the alphabet's."""
    if len(set(of_sources)) == 1:
        return of_sources[0]
    names = {name for classes in of_sources for name in classes}
    if all(is_number(name) and name == str(int(name)) != "-1" for name in names):  # "007" is a name
        return tuple(str(number) for number in range(max(map(int, names)) + 1))
    return tuple(sorted(names))


class Mixture:
    """Sources with weights; a Source whose images are numbered through. Its Loader chooses by `weights`, not by a shuffle.

    sources: each what open_source takes. weights: shares of the images, of any sum; by default the sources' lengths. An epoch
    has `epoch_length` images, by default as many as all sources together. Classes are those of all sources: the same name is
    the same class. Where all have the same ones, or only numbers, labels stay what they are. Labels without names stay as they
    are where no source has names; beside named ones they mean nothing and become -1.
    """

    def __init__(self, sources: Sequence[Any], weights: Sequence[float] | None = None, epoch_length: int | None = None) -> None:
        if isinstance(sources, str | os.PathLike | Mapping):
            raise ValueError(f"a mixture is of a list of sources, and a {type(sources).__name__} came; give [source, ...]")
        if not sources:
            raise ValueError("a mixture needs at least one source, none came")
        self.sources = tuple(open_source(source) for source in sources)
        if any(isinstance(source, Mixture) for source in self.sources):
            raise ValueError("a mixture inside a mixture has no weights of its own; give all sources to one")
        self.lengths = tuple(len(source) for source in self.sources)
        self.weights = shares(self.lengths if weights is None else weights, len(sources))
        self.epoch_length = sum(self.lengths) if epoch_length is None else whole("epoch_length", epoch_length, 1)
        self._offsets = np.cumsum([0, *self.lengths])
        self.classes = _common_classes([source.classes for source in self.sources])
        number = {name: place for place, name in enumerate(self.classes)}
        self._labels = [np.array([*(number[name] for name in source.classes), -1]) for source in self.sources]

    @property
    def name(self) -> str:
        """The names of the sources."""
        return " + ".join(source.name for source in self.sources)

    @property
    def bad(self) -> tuple[BadImage, ...]:
        """Those of all sources, as `_named` says."""
        return tuple(replace(image, path=_named(source, image.path)) for source in self.sources for image in source.bad)

    def __len__(self) -> int:
        return sum(self.lengths)

    def order(self, seed: int) -> MixtureOrder:
        """The order of a run from its start, with these weights."""
        first = Stretch(start=0, counts=(0,) * len(self.lengths), weights=self.weights)
        return MixtureOrder(lengths=self.lengths, seed=seed, stretches=(first,))

    def fetch(self, indices: npt.NDArray[np.int64]) -> Samples:
        """See Source.fetch; gives contents, because sources of paths and of contents may be mixed."""
        owners = np.searchsorted(self._offsets, indices, side="right") - 1
        parts: list[tuple[npt.NDArray[np.int64], Samples]] = []
        for owner in np.unique(owners).tolist():
            places = np.nonzero(owners == owner)[0]
            samples = read_files(self.sources[owner].fetch(indices[places] - self._offsets[owner]))
            keys = tuple(_named(self.sources[owner], key) for key in samples.keys)
            parts.append((places, replace(samples, labels=self._renumber(owner, samples.labels), keys=keys)))
        return _join(parts, len(indices))

    def _renumber(self, owner: int, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not self.classes:
            return labels
        numbers = self._labels[owner]
        named: npt.NDArray[np.int64] = numbers[np.where(labels < len(numbers) - 1, labels, -1)]
        return named

    def fingerprint(self) -> str:
        """Those of all sources, in order."""
        parts = "+".join(source.fingerprint() for source in self.sources)
        return hashlib.sha256(parts.encode()).hexdigest()[:16]


def mixture_of(source: Source, shuffle: object) -> Mixture | None:
    """The source if it is a mixture, whose weights then choose the images. Raises ValueError where they could not."""
    if isinstance(source, Subset) and isinstance(source.source, Mixture):
        raise ValueError("a Subset of a Mixture has no weights; make the Mixture of Subsets")
    if not isinstance(source, Mixture):
        return None
    if shuffle is not True:
        raise ValueError(f"shuffle={shuffle!r} has no effect with a Mixture, whose weights choose the images; leave it out")
    return source


def shares(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Weights scaled to a sum of 1. Raises ValueError for another number of them, or what is no weight."""
    weights = [float(weight) for weight in weights]  # numbers of numpy and torch are no JSON
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights came for {count} sources; give one for each")
    if not all(0 <= weight < float("inf") for weight in weights) or not sum(weights) > 0:
        raise ValueError(f"weights={weights} are no weights; use numbers of 0 or more, not all of them 0")
    total = sum(weights)
    parts = tuple(weight / total for weight in weights)
    if tiny := [weight for weight in parts if 0 < weight < 16 / SHARES]:
        raise ValueError(f"a weight of {tiny[0]:.1e} of all is under {16 / SHARES:.1e}, which is not resolved; leave it out")
    return parts


def stretches_from_state(state: Sequence[dict[str, Any]]) -> tuple[Stretch, ...]:
    """Stretches from what `dataclasses.asdict` and JSON made of them."""
    return tuple(Stretch(start=part["start"], counts=tuple(part["counts"]), weights=tuple(part["weights"])) for part in state)


def _named(source: Source, key: str) -> str:
    """A key after its source's name: without it, images of two sources may have the same."""
    return os.path.join(source.name, key)


def _join(parts: Sequence[tuple[npt.NDArray[np.int64], Samples]], count: int) -> Samples:
    encoded: list[npt.NDArray[np.uint8]] = [np.empty(0, dtype=np.uint8)] * count
    keys = [""] * count
    failures: dict[int, str] = {}
    sizes, orientation = np.empty((count, 2), dtype=np.int32), np.empty(count, dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    for places, samples in parts:
        sizes[places], orientation[places], labels[places] = samples.sizes, samples.orientation, samples.labels
        failures |= {int(places[inner]): reason for inner, reason in samples.failures.items()}
        for place, content, key in zip(places.tolist(), samples.encoded, samples.keys, strict=True):
            encoded[place], keys[place] = content, key
    return Samples(encoded=encoded, sizes=sizes, orientation=orientation, labels=labels, keys=tuple(keys), failures=failures)
