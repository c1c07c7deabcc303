"""What a head costs at sizes that were not measured: a law of its cells, with its interval.

The law is a sum of what a head can spend time or memory on, each with a coefficient of at least 0:
a constant, the batch, a path of log2(classes) steps, the weights, the products of batch and
weights, and more for each weight, and each product, beyond the sizes at which weights leave a
cache. The errors are relative to the value and large ones count less, so one disturbed cell does
not bend the law. What it still misses at measured sizes is smoothed over the sizes around
(kriging).

The interval comes from cells that the law did not see: class counts and batch sizes are left out
in turn, and it is wide enough to hold 95 % of them (conformal prediction: Lei et al.,
"Distribution-free predictive inference for regression", JASA 113, 2018). What was left out at an
end says how much to add per octave outside the range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from reports.stats.estimates import Interval

Array = NDArray[np.float64]

CONFIDENCE = 0.95
NORMAL_97_5 = 1.96

KNOTS = (2.0**18, 2.0**20, 2.0**22)
"""Numbers of weights from which on each may cost more: 1, 4 and 16 MiB of float32, like caches."""

SEEN = 2
"""Class counts beyond a knot for which it counts."""

REACH = 8.0
"""Octaves over which a miss fades: what erred least on class counts and batches left out."""

NOISE = 0.1
"""Typical relative error of a timed cell; one as uncertain as that counts half."""

EXACT = 0.03
"""The same for bytes: they have no noise, but allocators round."""

LARGE = 0.25
"""Relative errors beyond this count less: Huber's weights, found in so many rounds."""
ROUNDS = 20

LEAST_CLASSES = 4
"""Class counts below which there is nothing to leave out and still fit."""

LEFT_OUT = 3
"""How many of the largest class counts are left out together, to see how far a law reaches."""

LEAVING = math.log(5.0) / 4
"""Least that an octave of classes outside may add to a time: over four of them a class may come to
cost five times as much, as where its weights leave the last cache. Runs that end below show none of
that, so no cell left out can."""

FARTHEST = 4.0
"""Octaves outside the range beyond which nothing is predicted: 16 times."""

SMALLEST_MISS, LARGEST_MISS = 1e-3, math.log(1e3)
"""No law is trusted beyond three digits; and a factor of a thousand says that nothing is known."""


@dataclass(frozen=True)
class Sample:
    """A measured cell: `value` in seconds or bytes, `error` the standard error of its logarithm."""

    classes: int
    batch: int
    features: int
    value: float
    error: float = 0.0


@dataclass(frozen=True)
class Law:
    """A fitted law of one head in one phase; what the page computes with is exactly this.

    Attributes:
        coefficients: of `terms`, per `KNOTS` two more.
        sites: (log2 classes, log2 batch) of the cells it was fitted to.
        corrections: what each site adds to the logarithm of the sum.
        features: the width it was fitted at.
        classes: smallest and largest class count.
        batches: smallest and largest batch size.
        products: whether it is time: what a sample costs may then grow with the width or not, and
            both are possible. Of memory it is known: rows do, scores do not.
        radius: half the interval's width within the range, of the logarithm.
        growth: what an octave outside adds to it, in classes and in batch.
    """

    coefficients: tuple[float, ...]
    sites: tuple[tuple[float, float], ...]
    corrections: tuple[float, ...]
    features: int
    classes: tuple[int, int]
    batches: tuple[int, int]
    products: bool
    radius: float = 0.0
    growth: tuple[float, float] = (0.0, 0.0)

    def at(self, classes: int, batch: int, features: int) -> Interval:
        """Seconds or bytes."""
        narrow, wide = self.features, features
        widths = ((narrow, narrow), (wide, wide)) if self.products else ((wide, narrow),)
        ends = [self._sum(classes, batch, features, *width) for width in widths]
        beyond, above = self.outside(classes, batch)
        if self.products:  # Twice the width is, to a cache, as twice the classes.
            beyond += abs(math.log2(features / self.features))
        miss = self.radius + self.growth[0] * beyond + self.growth[1] * above
        return Interval(
            min(ends) * math.exp(-miss),
            math.sqrt(ends[0] * ends[-1]),
            max(ends) * math.exp(miss),
        )

    def outside(self, classes: int, batch: int) -> tuple[float, float]:
        """How many octaves the sizes lie outside the range that was measured."""
        return _octaves(classes, self.classes), _octaves(batch, self.batches)

    def extrapolates(self, classes: int, batch: int, features: int) -> tuple[str, ...]:
        """Which of the sizes lie outside what was measured."""
        beyond = (*self.outside(classes, batch), abs(features - self.features))
        return tuple(
            name
            for name, far in zip(("classes", "batch", "features"), beyond, strict=True)
            if far > 0
        )

    def refuses(self, classes: int, batch: int, features: int) -> str:
        """Why these sizes are not predicted at all, or "" where they are."""
        lone = self.batches[0] == self.batches[1]
        if lone and batch != self.batches[0]:
            return f"only batch {self.batches[0]} was measured, which cannot tell of another"
        far = (*self.outside(classes, batch), abs(math.log2(features / self.features)))
        for name, octaves in zip(("classes", "batch", "features"), far, strict=True):
            if octaves > FARTHEST:
                return f"{name} more than {2**FARTHEST:.0f} times outside what was measured"
        return ""

    def _sum(self, classes: int, batch: int, features: int, row: int, score: int) -> float:
        point = math.log2(classes), math.log2(batch)
        cost = float(
            (terms(classes, batch, features, row, score) @ np.array(self.coefficients)).item()
        )
        away = (_distance(point, site) for site in self.sites)
        return cost * math.exp(
            sum(c * math.exp(-far / REACH) for c, far in zip(self.corrections, away, strict=True))
        )


def terms(
    classes: ArrayLike, batch: ArrayLike, features: ArrayLike, row: ArrayLike, score: ArrayLike
) -> Array:
    """What a head can spend on, one column each: (...,) -> (..., 6 + 2 len(KNOTS)).

    Args:
        classes: number of classes.
        batch: batch size.
        features: width of the weights.
        row: what a sample costs for each row that it reads; `features` where all of it is read.
        score: what a sample costs for each class likewise; constant for a logit that is stored.
    """
    n, batch, d, row, score = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (classes, batch, features, row, score))
    )
    path, weights, products = np.log2(n), n * d, n * score
    columns = [np.ones_like(n), batch * row, path, batch * row * path, weights, batch * products]
    for knot in KNOTS:
        columns += [np.maximum(0, weights - knot), batch * np.maximum(0, products - knot)]
    return np.stack(columns, axis=-1)


def fit(heads: Mapping[str, Sequence[Sample]], exact: bool = False) -> dict[str, Law]:
    """A law for each head of one phase that has `LEAST_CLASSES` class counts or more.

    Args:
        heads: name -> its cells, all of one width.
        exact: whether the values are bytes and not seconds.
    """
    enough = {
        head: samples
        for head, samples in heads.items()
        if len({sample.classes for sample in samples}) >= LEAST_CLASSES
    }
    misses = {head: tuple(_misses(samples, exact)) for head, samples in enough.items()}
    within = {head: [m.error for m in many if not any(m.far)] for head, many in misses.items()}
    # Heads share the shape of what they miss, each on its own scale: one head has too few cells for
    # a 95 % quantile of its own.
    scales = {
        head: max(SMALLEST_MISS, float(np.mean(many or [LARGEST_MISS])))
        for head, many in within.items()
    }
    shared = _quantile([error / scales[head] for head, many in within.items() for error in many])
    radii = {head: shared * scale for head, scale in scales.items()}
    growth = tuple(
        _growth(
            [
                max(0.0, m.error - radii[head]) / m.far[axis]
                for head, many in misses.items()
                for m in many
                if m.far[axis] > 0 and not m.far[1 - axis]
            ]
        )
        for axis in (0, 1)
    )
    # Cells of one run drift together, which no cell left out can show; its passes do.
    drifts = {
        head: NORMAL_97_5 * float(np.median([sample.error for sample in samples]))
        for head, samples in enough.items()
    }
    return {
        head: replace(
            _fit(samples, exact),
            radius=min(LARGEST_MISS, math.hypot(radii[head], drifts[head])),
            growth=(growth[0] if exact else max(growth[0], LEAVING), growth[1]),
        )
        for head, samples in enough.items()
    }


def _fit(samples: Sequence[Sample], exact: bool) -> Law:
    table = np.array(
        [(s.classes, s.batch, s.features, s.value, s.error) for s in samples], dtype=np.float64
    )
    n, batch, d, value, error = (table[:, column] for column in range(5))
    relative = terms(n, batch, d, d, d) / value[:, None]
    # A slope that starts beyond a size must show at several, or one spoilt cell would draw it.
    sizes = np.unique(n * d)
    seen = [np.count_nonzero(sizes > knot) >= SEEN for knot in KNOTS for _ in range(2)]
    size = relative.max(axis=0)
    used = size > 0
    used[-len(seen) :] &= seen
    sure = NOISE**2 / (NOISE**2 + np.minimum(error, LARGEST_MISS) ** 2)
    weight, coefficients = sure, np.zeros(relative.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        columns = relative[:, used] / size[used] * root[:, None]
        scaled, _norm = optimize.nnls(columns, root, maxiter=1_000)
        coefficients[used] = scaled / size[used]
        predicted = relative @ coefficients
        weight = sure * LARGE / np.maximum(LARGE, np.abs(predicted - 1))
    sites = np.log2(np.stack([n, batch], axis=1))
    apart = np.abs(sites[:, None] - sites[None]).sum(axis=2)
    missed = np.clip(-np.log(np.maximum(predicted, 1e-9)), -1, 1)
    noise = EXACT**2 * np.ones_like(sure) if exact else 1 / sure
    corrections = np.linalg.solve(np.exp(-apart / REACH) + np.diag(noise), missed)
    return Law(
        coefficients=tuple(coefficients.tolist()),
        sites=tuple((float(a), float(b)) for a, b in sites),
        corrections=tuple(corrections.tolist()),
        features=samples[0].features,
        classes=(int(n.min()), int(n.max())),
        batches=(int(batch.min()), int(batch.max())),
        products=not exact,
    )


@dataclass(frozen=True)
class _Miss:
    """What a law said of a cell that it had not seen: its absolute error, of the logarithm."""

    error: float
    far: tuple[float, float]


def _misses(samples: Sequence[Sample], exact: bool) -> Iterator[_Miss]:
    """The law's error at every cell left out, and how far outside the range left it was."""
    for left_out in _folds(samples):
        law = _fit([sample for sample in samples if sample not in left_out], exact)
        for sample in left_out:
            found = law.at(sample.classes, sample.batch, sample.features).estimate
            # A law that is nothing at a size misses it altogether.
            error = abs(math.log(found / sample.value)) if found > 0 else LARGEST_MISS
            yield _Miss(error, law.outside(sample.classes, sample.batch))


def _folds(samples: Sequence[Sample]) -> Iterator[frozenset[Sample]]:
    """What to leave out: every class count, the largest ones together, and every batch size."""
    sizes = sorted({sample.classes for sample in samples})
    batches = sorted({sample.batch for sample in samples})
    for size in sizes:
        yield frozenset(sample for sample in samples if sample.classes == size)
    for size in sizes[max(LEAST_CLASSES, len(sizes) - LEFT_OUT) : -1]:
        yield frozenset(sample for sample in samples if sample.classes >= size)
    for batch in batches if len(batches) > 1 else ():
        yield frozenset(sample for sample in samples if sample.batch == batch)


def _quantile(values: Sequence[float]) -> float:
    """The smallest value that `CONFIDENCE` of further ones lie below, the largest where too few."""
    if not values:
        return 0.0
    rank = math.ceil((len(values) + 1) * CONFIDENCE)
    return sorted(values)[min(rank, len(values)) - 1]


def _growth(errors: Sequence[float]) -> float:
    """What an octave outside may add: where it was never tried or went worse, all there can be.

    Twice the size costs between as much and twice as much.
    """
    return min(math.log(2), _quantile(errors)) if errors else math.log(2)


def _octaves(value: float, ends: tuple[float, float]) -> float:
    low, high = ends
    return max(0.0, math.log2(low / value), math.log2(value / high))


def _distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
