"""What a head costs at sizes that were not measured: a law of its cells, with its interval.

The law is a sum of what a head can spend time or memory on, each with a coefficient of at least 0:
a constant, the batch, a path of log2(classes) steps, the weights, the products of batch and
weights, and more for each weight, and each product, beyond the sizes at which weights leave a
cache. The errors are relative to the value and large ones count less, so one disturbed cell does
not bend the law. What it still misses at measured sizes is smoothed over the sizes around
(kriging).

What a sample costs may grow with the width of the features or not. Cells of several widths tell how
much of it does; those of one width do not, and the interval then holds both.

The interval comes from cells that the law did not see: class counts, batch sizes and widths are
left out in turn, and it is wide enough to hold 95 % of them (conformal prediction: Lei et al.,
"Distribution-free predictive inference for regression", JASA 113, 2018). What was left out at an
end says how much to add per octave outside the range, and a width left out between two others how
much per octave between widths.
"""

from __future__ import annotations

import math
from collections import Counter
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

REACHES = (8.0, 8.0, 1.0)
"""Octaves of classes, batch and width over which a miss fades: what erred least on class counts and
batches left out; widths are few and far apart, and what one is off by is its own."""

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

RANGES = ("classes", "batch", "features")
"""What has a range; `Law.outside` has one more, between two widths."""

SMALLEST_MISS, LARGEST_MISS = 1e-3, math.log(1e3)
"""No law is trusted beyond three digits; and a factor of a thousand says that nothing is known."""


ROWS, EACH = 2, 3 + len(KNOTS)
"""Columns of `terms` for the rows that samples read, and in all for each of its three parts."""

BATCH, FLAT, WIDE = (slice(part * EACH, (part + 1) * EACH) for part in range(3))
"""The parts: what a batch costs, and its samples at any width, and in proportion to it."""


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
        coefficients: of `terms`; two sets where both are possible, what a sample costs growing with
            the width or not: of time, from cells of one width.
        sites: (log2 classes, log2 batch, log2 width) of the cells it was fitted to.
        corrections: what each site adds to the logarithm of the sum.
        features: the usual width, at which most was measured.
        classes: smallest and largest class count.
        batches: smallest and largest batch size.
        widths: all that were measured, ascending.
        radius: half the interval's width within the range, of the logarithm.
        growth: what an octave of each of `outside` adds to it.
    """

    coefficients: tuple[tuple[float, ...], ...]
    sites: tuple[tuple[float, float, float], ...]
    corrections: tuple[float, ...]
    features: int
    classes: tuple[int, int]
    batches: tuple[int, int]
    widths: tuple[int, ...]
    radius: float = 0.0
    growth: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    def at(self, classes: int, batch: int, features: int) -> Interval:
        """Seconds or bytes."""
        columns = terms(classes, batch, features, self.features)
        scale = math.exp(self._correction(classes, batch, features))
        ends = [float((columns @ np.array(one)).item()) * scale for one in self.coefficients]
        octaves = self.outside(classes, batch, features)
        miss = self.radius + sum(g * far for g, far in zip(self.growth, octaves, strict=True))
        return Interval(
            min(ends) * math.exp(-miss),
            math.sqrt(ends[0] * ends[-1]),
            max(ends) * math.exp(miss),
        )

    def outside(self, classes: int, batch: int, features: int) -> tuple[float, ...]:
        """How many octaves the sizes lie away from what was measured.

        Classes, batch and width outside their ranges; a width within its range, from the nearest.
        """
        beyond = _octaves(features, (self.widths[0], self.widths[-1]))
        nearest = min(abs(math.log2(features / width)) for width in self.widths)
        return (
            _octaves(classes, self.classes),
            _octaves(batch, self.batches),
            beyond,
            0.0 if beyond else nearest,
        )

    def extrapolates(self, classes: int, batch: int, features: int) -> tuple[str, ...]:
        """Which of the sizes lie outside what was measured."""
        far = self.outside(classes, batch, features)
        return tuple(name for name, octaves in zip(RANGES, far, strict=False) if octaves > 0)

    def refuses(self, classes: int, batch: int, features: int) -> str:
        """Why these sizes are not predicted at all, or "" where they are."""
        lone = self.batches[0] == self.batches[1]
        if lone and batch != self.batches[0]:
            return f"only batch {self.batches[0]} was measured, which cannot tell of another"
        for name, octaves in zip(RANGES, self.outside(classes, batch, features), strict=False):
            if octaves > FARTHEST:
                return f"{name} more than {2**FARTHEST:.0f} times outside what was measured"
        return ""

    def _correction(self, classes: int, batch: int, features: int) -> float:
        width = min(max(features, self.widths[0]), self.widths[-1])
        place = np.log2([[classes, batch, width]])
        near = np.exp(-_apart(place, np.array(self.sites)))
        return float((near @ np.array(self.corrections)).item())


def terms(classes: ArrayLike, batch: ArrayLike, features: ArrayLike, usual: int) -> Array:
    """What a head can spend on, one column each: (...,) -> (..., 18).

    What a batch costs; what its samples do, for the rows that they read and for each score, as at
    the usual width whatever the width; and the same in proportion to the width.

    Args:
        classes: number of classes.
        batch: batch size.
        features: width of the weights.
        usual: the width at which most was measured.
    """
    n, batch, d = np.broadcast_arrays(
        *(np.asarray(v, dtype=np.float64) for v in (classes, batch, features))
    )
    path, weights = np.log2(n), n * d
    columns = [np.ones_like(n), path, weights]
    columns += [np.maximum(0, weights - knot) for knot in KNOTS]
    for width in (np.full_like(d, usual), d):
        products = n * width
        columns += [batch * width, batch * width * path, batch * products]
        columns += [batch * np.maximum(0, products - knot) for knot in KNOTS]
    return np.stack(columns, axis=-1)


def fit(heads: Mapping[str, Sequence[Sample]], exact: bool = False) -> dict[str, Law]:
    """A law for each head of one phase that has `LEAST_CLASSES` class counts or more.

    Args:
        heads: name -> its cells, the most of them at the usual width.
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
    classes, batches, wider, between = (
        [
            max(0.0, m.error - radii[head]) / m.far[axis]
            for head, many in misses.items()
            for m in many
            if m.far[axis] > 0 and np.count_nonzero(m.far) == 1
        ]
        for axis in range(4)
    )
    beyond = _growth(classes) if exact else max(_growth(classes), LEAVING)
    # Twice the width is, to a cache, as twice the classes; bytes know no cache.
    further = _growth(wider) if wider else 0.0
    further = further if exact else max(further, beyond)
    # A width between two others is no less known than one outside them.
    growth = (beyond, _growth(batches), further, _growth(between) if between else further)
    # Cells of one run drift together, which no cell left out can show; its passes do.
    drifts = {
        head: NORMAL_97_5 * float(np.median([sample.error for sample in samples]))
        for head, samples in enough.items()
    }
    return {
        head: replace(
            _fit(samples, exact),
            radius=min(LARGEST_MISS, math.hypot(radii[head], drifts[head])),
            growth=growth,
        )
        for head, samples in enough.items()
    }


def _fit(samples: Sequence[Sample], exact: bool) -> Law:
    table = np.array(
        [(s.classes, s.batch, s.features, s.value, s.error) for s in samples], dtype=np.float64
    )
    n, batch, d, value, error = (table[:, column] for column in range(5))
    usual, widths = _usual(samples), tuple(sorted({sample.features for sample in samples}))
    relative = terms(n, batch, d, usual) / value[:, None]
    size = relative.max(axis=0)
    used = size > 0
    # A slope that starts beyond a size must show at several, or one spoilt cell would draw it.
    for part, products in ((BATCH, n * d), (FLAT, n * usual), (WIDE, n * d)):
        sizes = np.unique(products)
        used[part][-len(KNOTS) :] &= [np.count_nonzero(sizes > knot) >= SEEN for knot in KNOTS]
    either = not exact and len(widths) == 1
    if exact:  # A row that is read has the width, and a score is a number.
        used[FLAT][:ROWS] = used[WIDE][ROWS:] = False
    elif either:
        used[FLAT] = False
    sure = NOISE**2 / (NOISE**2 + np.minimum(error, LARGEST_MISS) ** 2)
    weight, coefficients = sure, np.zeros(relative.shape[1])
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        columns = relative[:, used] / size[used] * root[:, None]
        scaled, _norm = optimize.nnls(columns, root, maxiter=1_000)
        coefficients[used] = scaled / size[used]
        predicted = relative @ coefficients
        weight = sure * LARGE / np.maximum(LARGE, np.abs(predicted - 1))
    sites = np.log2(table[:, :3])
    missed = np.clip(-np.log(np.maximum(predicted, 1e-9)), -1, 1)
    # A width with few cells is heard as much as the usual one with many.
    heard = np.array([np.count_nonzero(d == usual) / np.count_nonzero(d == one) for one in d])
    noise = EXACT**2 * np.ones_like(sure) if exact else 1 / (sure * heard)
    corrections = np.linalg.solve(np.exp(-_apart(sites, sites)) + np.diag(noise), missed)
    sets = [coefficients]
    if either:
        flat = coefficients.copy()
        flat[FLAT], flat[WIDE] = coefficients[WIDE], 0.0
        sets = [flat, coefficients]
    return Law(
        coefficients=tuple(tuple(one.tolist()) for one in sets),
        sites=tuple((float(a), float(b), float(c)) for a, b, c in sites),
        corrections=tuple(corrections.tolist()),
        features=usual,
        classes=(int(n.min()), int(n.max())),
        batches=(int(batch.min()), int(batch.max())),
        widths=widths,
    )


def _usual(samples: Sequence[Sample]) -> int:
    """The width of most cells."""
    return Counter(sample.features for sample in samples).most_common(1)[0][0]


@dataclass(frozen=True)
class _Miss:
    """What a law said of a cell that it had not seen: its absolute error, of the logarithm."""

    error: float
    far: tuple[float, ...]


def _misses(samples: Sequence[Sample], exact: bool) -> Iterator[_Miss]:
    """The law's error at every cell left out, and how far outside the range left it was."""
    for left_out, asked in _folds(samples):
        law = _fit([sample for sample in samples if sample not in left_out], exact)
        for sample in asked:
            size = (sample.classes, sample.batch, sample.features)
            found = law.at(*size).estimate
            # A law that is nothing at a size misses it altogether.
            error = abs(math.log(found / sample.value)) if found > 0 else LARGEST_MISS
            yield _Miss(error, law.outside(*size))


def _folds(samples: Sequence[Sample]) -> Iterator[tuple[frozenset[Sample], frozenset[Sample]]]:
    """What to leave out, and what of it to ask for.

    Every class count, the largest ones together, every batch size, and every width but the usual
    one, which has most of the cells.
    """
    sizes = sorted({sample.classes for sample in samples})
    batches = sorted({sample.batch for sample in samples})
    usual = _usual(samples)
    for size in sizes:
        every = frozenset(sample for sample in samples if sample.classes == size)
        yield every, every
    for size in sizes[max(LEAST_CLASSES, len(sizes) - LEFT_OUT) : -1]:
        every = frozenset(sample for sample in samples if sample.classes >= size)
        yield every, every
    for batch in batches if len(batches) > 1 else ():
        every = frozenset(sample for sample in samples if sample.batch == batch)
        # Without its batch size another width has no cell left to tell of it.
        yield every, frozenset(sample for sample in every if sample.features == usual)
    for width in sorted({sample.features for sample in samples} - {usual}):
        every = frozenset(sample for sample in samples if sample.features == width)
        yield every, every


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


def _apart(sites: Array, others: Array) -> Array:
    """How far places lie from others, in reaches: (N, 3), (M, 3) -> (N, M)."""
    distances: Array = (np.abs(sites[:, None] - others[None]) / np.array(REACHES)).sum(axis=2)
    return distances
